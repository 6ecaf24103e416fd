//! The gate that stops all sending: shut while Segment asks the relay to wait (429), or while the credentials or the
//! endpoint are wrong.
//!
//! When the gate's time is over, one request goes through as a probe. The others follow unless the probe's answer shuts the
//! gate again. The gate stays shut for as long as Segment says, whatever is answered meanwhile; if Segment names no time, for
//! a pause that doubles with each failed probe.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::retry::{self, MAX_RETRY_AFTER};
use crate::segment::{FailureReason, SegmentError};

/// Longest pause when Segment names no time. An operator who has corrected the credentials should see the effect soon.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The gate. `changes` reports every change to the tasks that wait.
pub(super) struct Gate {
    state: Mutex<GateState>,
    pub(super) changes: watch::Sender<()>,
}

#[derive(Default)]
struct GateState {
    shut: Option<ShutGate>,
    /// How often the gate was shut in a row, without a request that went through.
    times_shut: u32,
}

struct ShutGate {
    until: Instant,
    /// The end of the longest wait that Segment named. Nothing opens the gate earlier.
    named_until: Option<Instant>,
    error: SegmentError,
    is_probing: bool,
}

/// The permit to send one request. A permit that is dropped counts as not used.
pub(super) struct GatePermit {
    gate: Arc<Gate>,
    is_probe: bool,
}

impl Gate {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changes: watch::Sender::new(()) })
    }

    /// The error of a call that cannot be sent before `deadline`, because the gate opens later.
    pub(super) fn error_before(&self, deadline: Instant) -> Option<SegmentError> {
        self.shut_until().filter(|(until, _)| *until >= deadline).map(|(_, error)| error)
    }

    /// When the gate opens, and the error of calls that cannot wait for it. None if the gate is open.
    pub(super) fn shut_until(&self) -> Option<(Instant, SegmentError)> {
        let state = self.state.lock();
        let shut = state.shut.as_ref()?;
        Some((shut.until, shut.error.clone().retry_after(shut.until.saturating_duration_since(Instant::now()))))
    }

    /// Waits until a request may be sent.
    pub(super) async fn acquire(self: &Arc<Self>) -> GatePermit {
        let mut changes = self.changes.subscribe();
        loop {
            match self.try_acquire() {
                Ok(permit) => return permit,
                // The sender lives as long as the gate, so `changed` cannot fail.
                Err(Some(until)) => drop(timeout_at(until, changes.changed()).await),
                Err(None) => drop(changes.changed().await),
            }
        }
    }

    /// A permit, or the time of the next try. `Err(None)`: after the probe's answer.
    pub(super) fn try_acquire(self: &Arc<Self>) -> Result<GatePermit, Option<Instant>> {
        let mut state = self.state.lock();
        match &mut state.shut {
            None => Ok(GatePermit { gate: self.clone(), is_probe: false }),
            Some(shut) if shut.is_probing => Err(None),
            Some(shut) if shut.until > Instant::now() => Err(Some(shut.until)),
            Some(shut) => {
                shut.is_probing = true;
                Ok(GatePermit { gate: self.clone(), is_probe: true })
            }
        }
    }
}

impl GatePermit {
    /// The answer does not shut the gate. If the request was the probe, the gate opens, unless Segment named a wait meanwhile
    /// that is not over.
    pub(super) fn open(mut self) {
        if !std::mem::take(&mut self.is_probe) {
            return;
        }
        let mut state = self.gate.state.lock();
        let now = Instant::now();
        let shut = state.shut.take().and_then(|shut| {
            let until = shut.named_until.filter(|until| *until > now)?;
            Some(ShutGate { until, is_probing: false, ..shut })
        });
        if shut.is_none() {
            tracing::info!("requests to Segment resume");
        }
        *state = GateState { shut, times_shut: 0 };
        drop(state);
        self.gate.changes.send_replace(());
    }

    /// Segment asks the relay to wait, or the credentials or the endpoint are wrong. Shuts the gate, and returns until when.
    pub(super) fn shut(mut self, error: &SegmentError, retry_after: Option<Duration>) -> Instant {
        let mut state = self.gate.state.lock();
        let now = Instant::now();
        let already_until = state.shut.as_ref().map(|shut| shut.until).filter(|_| !self.is_probe);
        if already_until.is_none() {
            state.times_shut = state.times_shut.saturating_add(1);
            // One log line per change, not per probe.
            if state.shut.as_ref().is_none_or(|shut| shut.error.code != error.code) {
                let (reason, status) = (error.reason.map(FailureReason::as_str), error.status());
                tracing::warn!(code = error.code.as_str(), reason, status, "requests to Segment are paused");
            }
        }
        let named = retry::usable_retry_after(retry_after).map(|pause| now + pause.min(MAX_RETRY_AFTER));
        let named_until = named.max(state.shut.as_ref().and_then(|shut| shut.named_until));
        let until = named.unwrap_or_else(|| now + retry::exponential_pause(state.times_shut, MAX_PAUSE));
        let until = [already_until, named_until].into_iter().flatten().fold(until, Instant::max);
        let is_probing = !self.is_probe && state.shut.as_ref().is_some_and(|shut| shut.is_probing);
        state.shut = Some(ShutGate { until, named_until, error: error.clone(), is_probing });
        self.is_probe = false;
        drop(state);
        self.gate.changes.send_replace(());
        until
    }
}

impl Drop for GatePermit {
    fn drop(&mut self) {
        if self.is_probe {
            if let Some(shut) = &mut self.gate.state.lock().shut {
                shut.is_probing = false;
            }
            self.gate.changes.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Gate, GatePermit, MAX_PAUSE};
    use crate::publisher::retry::exponential_pause;
    use crate::segment::{ErrorCode, SegmentError};
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::time::Instant;

    fn rate_limited() -> SegmentError {
        SegmentError::new(ErrorCode::RateLimited, "wait")
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[tokio::test(start_paused = true)]
    async fn a_shut_gate_opens_at_the_time_that_segment_named() {
        let gate = Gate::new();
        let shut_at = Instant::now();
        gate.acquire().await.shut(&rate_limited(), seconds(7));
        gate.acquire().await.open();
        assert_eq!(shut_at.elapsed().as_secs(), 7);
        assert!(gate.shut_until().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_is_sent_and_the_other_requests_wait_for_its_answer() {
        let gate = Gate::new();
        gate.acquire().await.shut(&rate_limited(), seconds(1));
        let probe = gate.acquire().await;
        assert!(gate.try_acquire().is_err());
        probe.open();
        assert!(gate.try_acquire().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unused_probe_allows_another_probe() {
        let gate = Gate::new();
        gate.acquire().await.shut(&rate_limited(), seconds(1));
        drop(gate.acquire().await);
        assert!(gate.try_acquire().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_grows_with_each_failed_probe_but_not_with_late_answers() {
        let gate = Gate::new();
        let (first, late) = (gate.acquire().await, gate.acquire().await);
        let until = first.shut(&rate_limited(), None);
        assert_eq!(late.shut(&rate_limited(), None), until);
        let probe = gate.acquire().await;
        let probed_at = Instant::now();
        assert_eq!(probe.shut(&rate_limited(), None) - probed_at, exponential_pause(2, MAX_PAUSE));
        assert_eq!(exponential_pause(u32::MAX, MAX_PAUSE), MAX_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_call_whose_deadline_is_before_the_gate_opens_gets_an_error() {
        let gate = Gate::new();
        gate.acquire().await.shut(&rate_limited(), seconds(7));
        let in_seconds = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert_eq!(gate.error_before(in_seconds(5)).unwrap().retry_after, seconds(7));
        assert_eq!(gate.error_before(in_seconds(8)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn segment_cannot_shut_the_gate_for_longer_than_five_minutes() {
        let gate = Gate::new();
        let until = gate.acquire().await.shut(&rate_limited(), seconds(1_000_000));
        assert_eq!((until - Instant::now()).as_secs(), 300);
    }

    /// The probe of a gate that was shut, and a request from before the gate was shut.
    async fn probe_and_late_request(gate: &Arc<Gate>) -> (GatePermit, GatePermit) {
        let (first, late) = (gate.acquire().await, gate.acquire().await);
        first.shut(&rate_limited(), seconds(1));
        (gate.acquire().await, late)
    }

    /// For how long no request goes through.
    async fn stays_shut(gate: &Arc<Gate>) -> u64 {
        let start = Instant::now();
        let _permit = gate.acquire().await;
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_succeeds_does_not_end_a_wait_that_segment_named_meanwhile() {
        let gate = Gate::new();
        let (probe, late) = probe_and_late_request(&gate).await;
        late.shut(&rate_limited(), seconds(30));
        probe.open();
        assert_eq!(stays_shut(&gate).await, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_fails_does_not_shorten_a_wait_that_segment_named_meanwhile() {
        for pause in [None, seconds(2)] {
            let gate = Gate::new();
            let (probe, late) = probe_and_late_request(&gate).await;
            late.shut(&rate_limited(), seconds(30));
            probe.shut(&rate_limited(), pause);
            assert_eq!(stays_shut(&gate).await, 30);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unused_probe_does_not_end_a_wait_that_segment_named_meanwhile() {
        let gate = Gate::new();
        let (probe, late) = probe_and_late_request(&gate).await;
        late.shut(&rate_limited(), seconds(30));
        drop(probe);
        assert_eq!(stays_shut(&gate).await, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn late_answers_do_not_shorten_a_wait_that_segment_named() {
        let gate = Gate::new();
        let [first, shorter, unnamed, accepted] = [(); 4].map(|()| gate.try_acquire().ok().unwrap());
        first.shut(&rate_limited(), seconds(30));
        shorter.shut(&rate_limited(), seconds(2));
        unnamed.shut(&rate_limited(), None);
        accepted.open();
        assert_eq!(stays_shut(&gate).await, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_without_a_named_wait_does_not_outlast_a_probe_that_succeeds() {
        let gate = Gate::new();
        let (probe, late) = probe_and_late_request(&gate).await;
        late.shut(&rate_limited(), None);
        probe.open();
        assert!(gate.shut_until().is_none());
    }
}
