//! File descriptors: the system gives a process a limited number, and every connection takes one.
//!
//! The soft limit, which is often 1,024, is raised to what the relay can use, as far as the hard limit allows. What the rest
//! of the relay needs is reserved first, so that callers who hold connections never keep it from reaching Segment or its
//! disk. Open descriptors are not counted: the reserve is an upper bound.

use std::fmt;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For files: standard streams, the outbox with its log, its index and its readers, certificates, the listener.
const FDS_FOR_FILES: usize = 64;

/// Each core has a runtime for connections and a thread of the shared one. Each runtime has a poll and two ways to be woken.
pub(crate) const FDS_PER_CORE: usize = 4;

/// A request to Segment has a connection, and one more while its name is resolved or a second address is tried.
const FDS_PER_SLOT: usize = 2;

/// Fewer connections than this cause a warning: a busy load balancer alone keeps hundreds.
pub const FEW_CONNECTIONS: usize = 1_000;

/// With fewer connections than this the relay does not start. A few proxies and probes need that many.
const MIN_CONNECTIONS: usize = 64;

/// The limit of open files leaves too few connections.
#[derive(Debug, PartialEq, Eq)]
pub struct LimitTooLow {
    limit: usize,
    needed: usize,
}

impl fmt::Display for LimitTooLow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, needed } = self;
        write!(
            f,
            "only {limit} files may be open, and at least {needed} are needed; raise the limit (LimitNOFILE=, ulimit -n) or \
             lower SEGMENT_MAX_CONCURRENCY"
        )
    }
}

impl std::error::Error for LimitTooLow {}

/// The number of connections, at most `wanted`, that the limit allows beside `slots` requests to Segment at once and `others`
/// more descriptors. Raises the limit of the process for that, if it can.
///
/// # Errors
/// If fewer than 64 connections are left.
pub fn max_connections(wanted: usize, slots: usize, others: usize) -> Result<usize, LimitTooLow> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let reserved = reserved(slots, cores).saturating_add(others);
    let limit = raise_limit(wanted.saturating_add(reserved));
    let connections = connections(limit, reserved, wanted)?;
    if connections < FEW_CONNECTIONS.min(wanted) {
        tracing::warn!(limit, connections, wanted, "the limit of open files allows few connections");
    } else if connections < wanted {
        tracing::info!(limit, connections, wanted, "the limit of open files allows fewer connections");
    }
    Ok(connections)
}

fn reserved(slots: usize, cores: usize) -> usize {
    FDS_FOR_FILES.saturating_add(FDS_PER_CORE.saturating_mul(cores)).saturating_add(FDS_PER_SLOT.saturating_mul(slots))
}

fn connections(limit: usize, reserved: usize, wanted: usize) -> Result<usize, LimitTooLow> {
    let connections = limit.saturating_sub(reserved).min(wanted);
    if connections < MIN_CONNECTIONS.min(wanted) {
        return Err(LimitTooLow { limit, needed: reserved.saturating_add(MIN_CONNECTIONS) });
    }
    Ok(connections)
}

/// Raises the limit to `wanted`, or as far as it goes. Returns the limit in force.
fn raise_limit(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` stands for no limit.
    let limit = current.unwrap_or(u64::MAX);
    let raised = maximum.unwrap_or(u64::MAX).min(wanted as u64).max(limit);
    let is_raised = raised > limit && setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).is_ok();
    usize::try_from(if is_raised { raised } else { limit }).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{LimitTooLow, connections, reserved};

    #[test]
    fn connections_get_what_the_rest_of_the_relay_leaves() {
        assert_eq!(reserved(256, 2), 584);
        assert_eq!(connections(1_024, 584, 10_000), Ok(440));
        assert_eq!(connections(20_000, 584, 10_000), Ok(10_000));
        assert_eq!(
            connections(usize::MAX, reserved(usize::MAX, 2), 10_000),
            Err(LimitTooLow { limit: usize::MAX, needed: usize::MAX })
        );
    }

    #[test]
    fn a_limit_that_leaves_fewer_than_64_connections_is_an_error() {
        assert_eq!(connections(647, 584, 10_000), Err(LimitTooLow { limit: 647, needed: 648 }));
        assert_eq!(connections(648, 584, 10_000), Ok(64));
        assert_eq!(connections(256, 584, 10_000), Err(LimitTooLow { limit: 256, needed: 648 }));
    }
}
