//! The one gate that stops everything: shut while Segment tells us to wait (429) or does not know us (credentials,
//! endpoint).
//!
//! When its time has come, one request goes through as a probe; the others follow when the probe's answer is neither. The
//! gate decides how long it stays shut: as long as Segment says, else longer each time in a row.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::retry::{self, MAX_RETRY_AFTER};
use crate::segment::SegmentError;

/// How long it stays shut at most when Segment names no time: an operator who has mended the credentials should not have
/// to wait longer to see it.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The gate. All who wait at it are told of every change.
pub(super) struct Gate {
    state: Mutex<State>,
    changes: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    shut: Option<Shut>,
    /// How often in a row it was shut, without a request that went through.
    times: u32,
}

struct Shut {
    until: Instant,
    why: SegmentError,
    probing: bool,
}

/// The right to send one request. Dropping it without a word means that it was not used.
pub(super) struct Pass {
    gate: Arc<Gate>,
    is_probe: bool,
}

impl Gate {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changes: watch::Sender::new(()) })
    }

    /// Why a call that must be settled by `deadline` need not wait: the gate opens after it.
    pub(super) fn refusal(&self, deadline: Instant) -> Option<SegmentError> {
        self.shut_until().filter(|(until, _)| *until >= deadline).map(|(_, why)| why)
    }

    /// When the gate opens, and what to tell those who cannot wait for it; none if it is not shut.
    pub(super) fn shut_until(&self) -> Option<(Instant, SegmentError)> {
        let state = self.state.lock();
        let shut = state.shut.as_ref()?;
        Some((shut.until, shut.why.clone().retry_after(shut.until.saturating_duration_since(Instant::now()))))
    }

    /// Whether nothing is sent at the moment.
    pub(super) fn is_shut(&self) -> bool {
        self.state.lock().shut.is_some()
    }

    /// Tells of every change.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Waits until a request may be sent.
    pub(super) async fn pass(self: &Arc<Self>) -> Pass {
        let mut changes = self.changes.subscribe();
        loop {
            let until = match self.try_pass() {
                Ok(pass) => return pass,
                Err(until) => until,
            };
            let opens = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = opens => {}
                // The sender lives as long as the gate: this cannot fail.
                _ = changes.changed() => {}
            }
        }
    }

    /// A pass, or when to ask again (`None`: when the probe's answer is there).
    fn try_pass(self: &Arc<Self>) -> Result<Pass, Option<Instant>> {
        let mut state = self.state.lock();
        match &mut state.shut {
            None => Ok(Pass { gate: self.clone(), is_probe: false }),
            Some(shut) if shut.probing => Err(None),
            Some(shut) if shut.until > Instant::now() => Err(Some(shut.until)),
            Some(shut) => {
                shut.probing = true;
                Ok(Pass { gate: self.clone(), is_probe: true })
            }
        }
    }
}

impl Pass {
    /// The answer was of no interest to the gate. If this was the probe, the gate opens.
    pub(super) fn went_through(mut self) {
        if std::mem::take(&mut self.is_probe) {
            *self.gate.state.lock() = State::default();
            tracing::info!("sending to Segment again");
            self.gate.changes.send_replace(());
        }
    }

    /// Segment asks everyone to wait, or does not know us: shuts the gate, and says until when.
    pub(super) fn shut(mut self, why: &SegmentError, retry_after: Option<Duration>) -> Instant {
        let mut state = self.gate.state.lock();
        let now = Instant::now();
        let already = state.shut.as_ref().map(|shut| shut.until).filter(|_| !self.is_probe);
        if already.is_none() {
            state.times = state.times.saturating_add(1);
            // One line a change, not one a probe.
            if state.shut.as_ref().is_none_or(|shut| shut.why.code != why.code) {
                tracing::warn!(code = why.code.as_str(), "Segment takes nothing; waiting");
            }
        }
        let pause = retry::a_pause(retry_after)
            .map_or_else(|| retry::doubled(state.times, LONGEST_PAUSE), |pause| pause.min(MAX_RETRY_AFTER));
        let until = already.map_or(now + pause, |already| already.max(now + pause));
        let probing = !self.is_probe && state.shut.as_ref().is_some_and(|shut| shut.probing);
        state.shut = Some(Shut { until, why: why.clone(), probing });
        self.is_probe = false;
        drop(state);
        self.gate.changes.send_replace(());
        until
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.is_probe {
            if let Some(shut) = &mut self.gate.state.lock().shut {
                shut.probing = false;
            }
            self.gate.changes.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Gate, LONGEST_PAUSE};
    use crate::publisher::retry::doubled;
    use crate::segment::{ErrorCode, SegmentError};
    use std::time::Duration;
    use tokio::time::Instant;

    fn limited() -> SegmentError {
        SegmentError::new(ErrorCode::RateLimited, "wait")
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[tokio::test(start_paused = true)]
    async fn a_shut_gate_opens_when_segment_said() {
        let gate = Gate::new();
        let shut = Instant::now();
        gate.pass().await.shut(&limited(), seconds(7));
        gate.pass().await.went_through();
        assert_eq!(shut.elapsed().as_secs(), 7);
        assert!(!gate.is_shut());
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_goes_first_and_the_others_wait_for_its_answer() {
        let gate = Gate::new();
        gate.pass().await.shut(&limited(), seconds(1));
        let probe = gate.pass().await;
        assert!(gate.try_pass().is_err());
        probe.went_through();
        assert!(gate.try_pass().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_was_not_used_lets_the_next_one_through() {
        let gate = Gate::new();
        gate.pass().await.shut(&limited(), seconds(1));
        drop(gate.pass().await);
        assert!(gate.try_pass().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_grows_with_each_probe_that_fails_but_not_with_stragglers() {
        let gate = Gate::new();
        let (first, straggler) = (gate.pass().await, gate.pass().await);
        let until = first.shut(&limited(), None);
        assert_eq!(straggler.shut(&limited(), None), until);
        let probe = gate.pass().await;
        let again = Instant::now();
        assert_eq!(probe.shut(&limited(), None) - again, doubled(2, LONGEST_PAUSE));
        assert_eq!(doubled(u32::MAX, LONGEST_PAUSE), LONGEST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_call_that_must_be_settled_before_the_gate_opens_is_refused() {
        let gate = Gate::new();
        gate.pass().await.shut(&limited(), seconds(7));
        let in_seconds = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert_eq!(gate.refusal(in_seconds(5)).unwrap().retry_after, seconds(7));
        assert_eq!(gate.refusal(in_seconds(8)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn segment_cannot_shut_it_for_longer_than_five_minutes() {
        let gate = Gate::new();
        let until = gate.pass().await.shut(&limited(), seconds(1_000_000));
        assert_eq!((until - Instant::now()).as_secs(), 300);
    }
}
