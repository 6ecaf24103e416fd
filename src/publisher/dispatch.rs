//! The dispatch loop: at the pace, a free slot takes all calls that wait.
//!
//! The loop only waits and starts batches. [`super::queue`] decides which calls are next, and [`super::send`] sends a batch
//! until it is settled.

use std::sync::Arc;

use super::dispatch_state::DispatchState;
use super::send::send_new_batch;
use crate::config::SegmentSettings;
use crate::metrics::Metrics;
use crate::supervisor::Supervisor;

/// Starts the loop, which runs until the supervisor cuts it off. Callers add their calls to the returned state.
///
/// # Errors
/// If HTTPS cannot be set up.
pub(super) fn start_dispatch(
    settings: SegmentSettings,
    metrics: Arc<Metrics>,
    supervisor: &Supervisor,
) -> anyhow::Result<Arc<DispatchState>> {
    let dispatch = DispatchState::new(settings, metrics, supervisor)?;
    supervisor.supervise("dispatch", run(dispatch.clone()));
    Ok(dispatch)
}

async fn run(dispatch: Arc<DispatchState>) {
    let draining = async {
        dispatch.supervisor.draining().await;
        dispatch.drop_stored();
        dispatch.supervisor.cancelled().await;
    };
    tokio::select! {
        // First, so that no stored call is sent after draining has begun.
        biased;
        () = draining => dispatch.drop_queue(),
        () = start_batches(&dispatch) => {}
    }
}

async fn start_batches(dispatch: &Arc<DispatchState>) {
    loop {
        dispatch.wait_until_ready().await;
        let slot = dispatch.slots.acquire().await;
        let next = dispatch.take_batch();
        dispatch.metrics.calls_withdrawn.inc_by(next.withdrawn as u64);
        if !next.batch.is_empty() {
            dispatch.supervisor.spawn("batch", send_new_batch(dispatch.clone(), next.batch, slot));
        }
    }
}
