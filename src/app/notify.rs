//! The figures of which notifications are made, and who is told of them.

use std::sync::Arc;

use super::sources::SourceParts;
use crate::config::NotifySettings;
use crate::metrics::Metrics;
use crate::notify::{Figures, Notifier, OutboxFigures, ShutGate};
use crate::outbox::Outbox;
use crate::outbox::sqlite::SqliteOutbox;
use crate::publisher::LiveClients;
use crate::segment::{ErrorCode, FailureReason};
use crate::supervisor::Supervisor;

/// Starts to tell what wakes somebody.
///
/// # Errors
/// If HTTPS cannot be set up.
pub(super) fn start(
    settings: &NotifySettings,
    live: &Arc<LiveClients>,
    outbox: Option<&Arc<SqliteOutbox>>,
    sources: SourceParts,
    metrics: &Arc<Metrics>,
    supervisor: &Supervisor,
) -> anyhow::Result<Notifier> {
    let (live, outbox, counted) = (live.clone(), outbox.cloned(), metrics.clone());
    let figures = move || Figures {
        gate: gate(&live),
        outbox: outbox.as_ref().map(|outbox| {
            let stats = outbox.stats();
            OutboxFigures {
                waiting: stats.waiting,
                dead_letters: stats.dead_letters,
                parked_users: stats.parked_users,
                parked_calls: stats.parked_calls,
                bytes: stats.bytes,
                max_bytes: stats.max_bytes,
            }
        }),
        dead_letters: [counted.outbox_refused.get(), counted.outbox_gave_up.get(), sources.unmapped_events()],
        worker_restarts: [
            counted.map_workers_out_of_time.get(),
            counted.map_workers_out_of_memory.get(),
            counted.map_workers_crashed.get(),
        ],
    };
    Notifier::start(settings, figures, metrics.clone(), supervisor)
}

fn gate(live: &LiveClients) -> Option<ShutGate> {
    let (_, code) = live.gate_shut_until()?;
    let reason = live.last_failure().and_then(|(_, reason, _)| reason);
    Some(ShutGate {
        shut_for: live.gate_shut_since()?.elapsed(),
        is_rate_limit: code == ErrorCode::RateLimited,
        code: code.as_str(),
        reason: reason.map(FailureReason::as_str),
        status: reason.and_then(FailureReason::status),
    })
}
