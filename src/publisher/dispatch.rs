//! Runs what [`Schedule`] says: a task for each request in flight, and one loop that waits.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::batch::PendingCall;
use super::queue::UserId;
use super::retry::ResponseClass;
use super::schedule::{Request, Schedule, Step};
use super::transport::Transport;
use crate::config::{SegmentSettings, WriteKeys};
use crate::metrics::Metrics;
use crate::segment::{SegmentError, SendFence, boot_time};
use crate::supervisor::Supervisor;
use crate::telemetry::RequestSpan;

/// What the loop, the requests in flight and the clients share.
pub(super) struct Dispatch {
    pub(super) schedule: Mutex<Schedule>,
    /// Notified when the loop must ask the schedule again.
    changed: Notify,
    /// Notified when calls have left memory.
    room: Notify,
    pub(super) transport: Transport,
    metrics: Arc<Metrics>,
    supervisor: Supervisor,
}

impl Dispatch {
    /// # Errors
    /// If HTTPS cannot be set up.
    pub(super) fn new(
        settings: SegmentSettings,
        write_keys: &WriteKeys,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Self> {
        let (slots, pace) = (settings.max_concurrency, settings.max_requests_per_second);
        let schedule = Schedule::new(slots, pace, write_keys, metrics.clone());
        Ok(Self {
            schedule: Mutex::new(schedule),
            changed: Notify::new(),
            room: Notify::new(),
            transport: Transport::new(settings, write_keys)?,
            metrics,
            supervisor: supervisor.clone(),
        })
    }

    /// # Errors
    /// If there is no room, or if the caller must not wait for the end of an outage.
    pub(super) fn enqueue(&self, pending: PendingCall) -> Result<(), SegmentError> {
        if self.schedule.lock().push(pending)? {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Requests that are formed from now on have these keys.
    pub(super) fn replace_write_keys(&self, write_keys: &WriteKeys) {
        self.transport.add_secrets(write_keys);
        self.schedule.lock().replace_keys(write_keys);
        self.changed.notify_one();
    }

    /// Waits until there is room for more calls of the outbox, in bytes of their JSON.
    pub(super) async fn wait_for_room(&self) -> usize {
        loop {
            let room = self.schedule.lock().room();
            match room {
                Some(room) => return room,
                None => self.room.notified().await,
            }
        }
    }

    pub(super) fn take_back(&self, user_id: &str, ids: &HashSet<i64>) {
        self.schedule.lock().queue.take_back(user_id, ids);
        // Delivery may wait for the room that these calls took.
        self.room.notify_one();
    }

    /// From now on stored calls are sent only while this fence is open.
    pub(super) fn set_fence(&self, fence: Arc<SendFence>) {
        self.schedule.lock().set_fence(fence);
    }

    /// The fence was shut: stored calls that wait go back.
    pub(super) fn take_back_all(&self) {
        self.schedule.lock().look_at_fence();
        // What waits for a slot or for the end of a pause is gone, and delivery may wait for the room.
        self.changed.notify_one();
        self.room.notify_one();
    }

    pub(super) fn confirm_parked(&self, users: &[UserId]) {
        let mut schedule = self.schedule.lock();
        users.iter().for_each(|user_id| schedule.queue.confirm_parked(user_id));
    }
}

/// Runs until the supervisor cuts it off.
pub(super) async fn run_dispatch(dispatch: Arc<Dispatch>) {
    let draining = async {
        dispatch.supervisor.draining().await;
        dispatch.schedule.lock().queue.leave_stored();
        dispatch.supervisor.cancelled().await;
    };
    tokio::select! {
        // First, so that no stored call is sent after draining has begun.
        biased;
        () = draining => drop(std::mem::take(&mut dispatch.schedule.lock().queue)),
        () = start_requests(&dispatch) => {}
    }
}

async fn start_requests(dispatch: &Arc<Dispatch>) {
    loop {
        let step = dispatch.schedule.lock().next(Instant::now());
        match step {
            Step::Send(request) => dispatch.supervisor.spawn("request", send(dispatch.clone(), request)),
            Step::Wait(None) => dispatch.changed.notified().await,
            Step::Wait(Some(until)) => {
                tokio::select! {
                    () = dispatch.changed.notified() => {}
                    () = sleep_until(until) => {}
                }
            }
        }
    }
}

/// Sends a request. If the supervisor cuts the relay off, its calls are dropped, which tells their callers.
async fn send(dispatch: Arc<Dispatch>, request: Request) {
    let supervisor = dispatch.supervisor.clone();
    tokio::select! {
        () = send_request(&dispatch, request) => {}
        () = supervisor.cancelled() => {}
    }
}

async fn send_request(dispatch: &Dispatch, request: Request) {
    dispatch.metrics.slots_busy.inc();
    let answered = attempt(dispatch, request).await;
    dispatch.metrics.slots_busy.dec();
    if let Some((request, class)) = answered {
        dispatch.schedule.lock().answered(request, class, Instant::now());
    }
    dispatch.changed.notify_one();
    dispatch.room.notify_one();
}

/// Sends a request, at most twice. `None` if it may not start now: then its calls are in line again, or back in the store.
async fn attempt(dispatch: &Dispatch, mut request: Request) -> Option<(Request, ResponseClass)> {
    let metrics = &dispatch.metrics;
    let mut is_second_try = false;
    loop {
        request = dispatch.schedule.lock().start(request, boot_time(), Instant::now())?;
        let calls = request.batch.len();
        tracing::debug!(calls, class = ?request.class, is_probe = request.is_probe, "request started");
        metrics.batch_calls.observe(calls as f64);
        let spans = request.batch.iter().map(|pending| &pending.span);
        let span = RequestSpan::start(dispatch.transport.host(), request.batch.retries(), calls, spans);
        let timer = metrics.attempt_seconds.start_timer();
        let sent = dispatch.transport.send_batch(&request.batch, &request.write_key, request.batch.retries());
        let (result, is_stale) = dispatch.transport.connections.watch(sent).await;
        let seconds = timer.stop_and_record();
        let class = dispatch.transport.classify(&result);
        metrics.attempted(class.as_str());
        span.end(class.as_str(), result.status());
        tracing::debug!(calls, result = class.as_str(), seconds, "request ended");
        if !is_stale || is_second_try {
            return Some((request, class));
        }
        // This says nothing about Segment, and is no failure: the same request follows at once.
        is_second_try = true;
        request.batch.mark_second_try();
        dispatch.schedule.lock().pace.charge();
    }
}
