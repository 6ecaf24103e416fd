//! The dispatch loop: at the pace, a free slot takes all calls that wait.

use std::sync::Arc;

use super::attempt::BatchAttempt;
use super::dispatch_state::DispatchState;
use super::send::send_until_settled;

/// Runs until the supervisor cuts it off.
pub(super) async fn run_dispatch(dispatch: Arc<DispatchState>) {
    let draining = async {
        dispatch.supervisor.draining().await;
        dispatch.queue.lock().leave_stored();
        dispatch.supervisor.cancelled().await;
    };
    tokio::select! {
        // First, so that no stored call is sent after draining has begun.
        biased;
        () = draining => drop(std::mem::take(&mut *dispatch.queue.lock())),
        () = start_batches(&dispatch) => {}
    }
}

async fn start_batches(dispatch: &Arc<DispatchState>) {
    loop {
        dispatch.wait_until_ready().await;
        let slot = dispatch.slots.acquire().await;
        let next = dispatch.queue.lock().take_batch();
        dispatch.metrics.calls_withdrawn.inc_by(next.withdrawn as u64);
        if !next.batch.is_empty() {
            let attempt = BatchAttempt::new(next.batch, dispatch.recovery.subscribe());
            dispatch.supervisor.spawn("batch", send_until_settled(dispatch.clone(), attempt, Some(slot.start())));
        }
    }
}
