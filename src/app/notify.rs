//! The figures of which notifications are made, and who is told of them.

use std::sync::Arc;
use std::time::Duration;

use super::sources::SourceParts;
use crate::config::NotifySettings;
use crate::metrics::Metrics;
use crate::notify::{Figures, Notifier, OutboxFigures, ShutGate};
use crate::outbox::Store;
use crate::publisher::{FAILURES_OF_AN_OUTAGE, LiveClients};
use crate::segment::{ErrorCode, FailureReason};
use crate::supervisor::Supervisor;

/// Starts to tell what wakes somebody.
///
/// # Errors
/// If HTTPS cannot be set up.
pub(super) fn start(
    settings: &NotifySettings,
    live: &Arc<LiveClients>,
    outbox: Option<&Arc<dyn Store>>,
    sources: SourceParts,
    metrics: &Arc<Metrics>,
    supervisor: &Supervisor,
) -> anyhow::Result<Notifier> {
    let (live, outbox, counted) = (live.clone(), outbox.cloned(), metrics.clone());
    let figures = move || {
        let stats = outbox.as_ref().map(|outbox| outbox.stats());
        Figures {
            gate: gate(&live, stats.map_or(0, |stats| stats.waiting)),
            outbox: stats.map(|stats| OutboxFigures {
                waiting: stats.waiting,
                dead_letters: stats.dead_letters,
                parked_users: stats.parked_users,
                parked_calls: stats.parked_calls,
                bytes: stats.bytes,
                max_bytes: stats.max_bytes,
            }),
            dead_letters: [counted.outbox_refused.get(), counted.outbox_gave_up.get(), sources.unmapped_events()],
            worker_restarts: [
                counted.map_workers_out_of_time.get(),
                counted.map_workers_out_of_memory.get(),
                counted.map_workers_crashed.get(),
            ],
        }
    };
    Notifier::start(settings, figures, metrics.clone(), supervisor)
}

/// Why nothing reaches Segment. While the calls of few users wait, the gate stays open, because the fault may be theirs: then
/// requests that fail one after the other tell as much.
fn gate(live: &LiveClients, waiting: u64) -> Option<ShutGate> {
    let last_failure = live.last_failure();
    let (code, shut_for) = match (live.gate_shut_until(), live.gate_shut_since()) {
        (Some((_, code)), Some(since)) => (code, since.elapsed()),
        _ if waiting > 0 && live.failed_in_a_row() >= FAILURES_OF_AN_OUTAGE => (last_failure?.0, Duration::ZERO),
        _ => return None,
    };
    let reason = last_failure.and_then(|(_, reason, _)| reason);
    Some(ShutGate {
        shut_for,
        is_rate_limit: code == ErrorCode::RateLimited,
        code: code.as_str(),
        reason: reason.map(FailureReason::as_str),
        status: reason.and_then(FailureReason::status),
    })
}
