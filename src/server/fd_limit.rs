//! File descriptors: the system gives a process a limited number, and every connection takes one.
//!
//! The soft limit, which is often 1,024, is raised to what the relay has use for, as far as the hard one goes. What the
//! rest of the relay needs is set aside first, so that callers who hold connections never keep it from reaching Segment or
//! its disk. It does not count what is open: what is set aside is an upper bound.

use std::fmt;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For files: standard streams, the outbox with its log, its index and its readers, certificates, the listener.
const FILES: usize = 64;

/// A core has a runtime for connections and a thread of the shared one; each runtime has a poll and two ways to be woken.
const A_CORE: usize = 4;

/// A request to Segment has a connection, and one more while its name is resolved or a second address is tried.
const A_SLOT: usize = 2;

/// Fewer connections than this are worth a warning: a busy load balancer alone keeps hundreds.
const FEW: usize = 1_000;

/// Fewer connections than this are no service.
const FEWEST: usize = 64;

/// The limit leaves next to nothing for connections.
#[derive(Debug, PartialEq, Eq)]
pub struct TooFew {
    limit: usize,
    needed: usize,
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, needed } = self;
        write!(
            f,
            "only {limit} files may be open, and at least {needed} are needed; raise the limit (LimitNOFILE=, ulimit -n) or \
             lower SEGMENT_MAX_CONCURRENCY"
        )
    }
}

impl std::error::Error for TooFew {}

/// How many connections there may be, at most `most`, beside `slots` requests to Segment at once. Raises the process's limit
/// for that, if it can.
///
/// # Errors
/// If that would be hardly any.
pub fn for_connections(most: usize, slots: usize) -> Result<usize, TooFew> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let set_aside = set_aside(slots, cores);
    let limit = raised_to(most.saturating_add(set_aside));
    let places = places(limit, set_aside, most)?;
    if places < FEW.min(most) {
        tracing::warn!(limit, connections = places, of = most, "few files may be open: there are few connections");
    } else if places < most {
        tracing::info!(limit, connections = places, of = most, "the limit of open files leaves fewer connections");
    }
    Ok(places)
}

fn set_aside(slots: usize, cores: usize) -> usize {
    FILES.saturating_add(A_CORE.saturating_mul(cores)).saturating_add(A_SLOT.saturating_mul(slots))
}

fn places(limit: usize, set_aside: usize, most: usize) -> Result<usize, TooFew> {
    let places = limit.saturating_sub(set_aside).min(most);
    if places < FEWEST.min(most) { Err(TooFew { limit, needed: set_aside.saturating_add(FEWEST) }) } else { Ok(places) }
}

/// The limit that is in force after it was raised to `wanted`, or as far as it goes.
fn raised_to(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = wanted as u64;
    // None: there is no limit.
    let limit = current.unwrap_or(u64::MAX);
    let raised = maximum.unwrap_or(u64::MAX).min(wanted).max(limit);
    let is_raised = raised > limit && setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).is_ok();
    usize::try_from(if is_raised { raised } else { limit }).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{TooFew, places, set_aside};

    #[test]
    fn connections_get_what_the_rest_of_the_relay_leaves() {
        assert_eq!(set_aside(256, 2), 584);
        assert_eq!(places(1_024, 584, 10_000), Ok(440));
        assert_eq!(places(20_000, 584, 10_000), Ok(10_000));
        assert_eq!(
            places(usize::MAX, set_aside(usize::MAX, 2), 10_000),
            Err(TooFew { limit: usize::MAX, needed: usize::MAX })
        );
    }

    #[test]
    fn hardly_any_are_none() {
        assert_eq!(places(647, 584, 10_000), Err(TooFew { limit: 647, needed: 648 }));
        assert_eq!(places(648, 584, 10_000), Ok(64));
        assert_eq!(places(256, 584, 10_000), Err(TooFew { limit: 256, needed: 648 }));
    }
}
