//! The completion of one call, from both ends: the [`Completion`] travels with the call, and its caller keeps the
//! [`CompletionHandle`].
//!
//! Both ends share a state that decides whether the caller may still withdraw the call. That is possible while the call is
//! in no request and was certainly not accepted. While the call is in a request, only an answer can tell: a caller whose
//! deadline passes hears that the outcome is unknown. A completion that is dropped tells the caller that the relay is
//! shutting down.
//!
//! A stored call has no waiting caller. It has no deadline and is never given up: its outcome goes to delivery when Segment
//! accepts the call or refuses it for good, or when its user is parked. If its completion is dropped, the call stays in
//! the outbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::segment::{CallOutcome, ErrorCode, FailureReason, MIN_RETRY_AFTER, Refusal, SegmentError, SettledCall};

/// The call was in no request yet.
const WAITING: u8 = 0;
/// The call is in a request, which has no answer yet.
const IN_REQUEST: u8 = 1;
/// A request ended without an answer. Segment may have accepted the call, whatever later attempts say.
const UNKNOWN: u8 = 2;
/// The call was in a request, and was certainly not accepted so far.
const NOT_ACCEPTED: u8 = 3;
/// The caller withdrew the call: before it was in a request, or after it was certainly not accepted.
const WITHDRAWN: u8 = 4;

/// The call's end.
#[derive(Debug)]
pub(super) enum Completion {
    /// A caller waits for the outcome.
    Caller { state: Arc<AtomicU8>, reply: Option<oneshot::Sender<Result<(), SegmentError>>>, deadline: Instant },
    /// The call is in the outbox under this id.
    Stored { id: i64, delivered: mpsc::UnboundedSender<SettledCall> },
}

/// The caller's end. Dropping it withdraws the call, if that is still possible.
#[derive(Debug)]
pub(super) struct CompletionHandle {
    state: Arc<AtomicU8>,
    reply: oneshot::Receiver<Result<(), SegmentError>>,
    deadline: Instant,
}

/// Both ends for a call whose caller waits until `deadline`.
pub(super) fn completion(deadline: Instant) -> (Completion, CompletionHandle) {
    let state = Arc::new(AtomicU8::new(WAITING));
    let (sender, reply) = oneshot::channel();
    let completion = Completion::Caller { state: state.clone(), reply: Some(sender), deadline };
    (completion, CompletionHandle { state, reply, deadline })
}

impl Completion {
    /// When the caller stops waiting. None for a stored call.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Caller { deadline, .. } => Some(*deadline),
            Self::Stored { .. } => None,
        }
    }

    /// Whether the deadline is at `instant` or before it.
    pub(super) fn expires_by(&self, instant: Instant) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= instant)
    }

    pub(super) fn is_stored(&self) -> bool {
        matches!(self, Self::Stored { .. })
    }

    /// The id of a stored call.
    pub(super) fn stored_id(&self) -> Option<i64> {
        match self {
            Self::Stored { id, .. } => Some(*id),
            Self::Caller { .. } => None,
        }
    }

    /// Marks the call as in a request. False if its caller has left: then the call must not be sent.
    pub(super) fn mark_in_request(&self) -> bool {
        let Self::Caller { state, .. } = self else { return true };
        let marked = state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| match state {
            WAITING | NOT_ACCEPTED => Some(IN_REQUEST),
            UNKNOWN => Some(UNKNOWN),
            _ => None,
        });
        marked.is_ok() && !self.is_abandoned()
    }

    pub(super) fn is_abandoned(&self) -> bool {
        matches!(self, Self::Caller { reply, .. } if reply.as_ref().is_none_or(oneshot::Sender::is_closed))
    }

    /// The request has an answer, and the call was certainly not accepted.
    pub(super) fn mark_not_accepted(&self) {
        if let Self::Caller { state, .. } = self {
            // The state stays UNKNOWN if an earlier request ended without an answer.
            let _ = state.compare_exchange(IN_REQUEST, NOT_ACCEPTED, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// The request ended without an answer.
    pub(super) fn mark_unknown(&self) {
        if let Self::Caller { state, .. } = self {
            state.store(UNKNOWN, Ordering::Release);
        }
    }

    /// Gives the call up. The caller hears `error`, or that the outcome is unknown if a request ended without an answer. A
    /// stored call stays in the outbox. Returns whether the outcome is unknown.
    pub(super) fn give_up(&mut self, error: &SegmentError) -> bool {
        let Self::Caller { state, reply, .. } = self else { return false };
        let is_unknown = state.load(Ordering::Acquire) == UNKNOWN;
        let error = match error.clone() {
            SegmentError { retry_after, reason, .. } if is_unknown => {
                let unknown = unknown_outcome();
                SegmentError { retry_after: retry_after.or(unknown.retry_after), reason, ..unknown }
            }
            error => error,
        };
        send_reply(reply, Err(error));
        is_unknown
    }

    /// The publisher does not hold a stored call any more. A call whose caller waits never ends like this.
    pub(super) fn leave(&self, outcome: CallOutcome) {
        if let Self::Stored { id, delivered } = self {
            // If delivery has ended, the call stays in the outbox.
            let _ = delivered.send(SettledCall { id: *id, outcome });
        }
    }

    /// Segment accepted the call, or refused it for good.
    pub(super) fn settle(&mut self, outcome: &Result<(), Refusal>) {
        match self {
            Self::Caller { reply, .. } => {
                let rejected = |refusal: Refusal| SegmentError::new(ErrorCode::Rejected, refusal.reason);
                send_reply(reply, outcome.clone().map_err(rejected));
            }
            Self::Stored { .. } => {
                self.leave(outcome.clone().map_or_else(CallOutcome::Refused, |()| CallOutcome::Accepted));
            }
        }
    }
}

/// Sends the caller the outcome, at most once.
fn send_reply(reply: &mut Option<oneshot::Sender<Result<(), SegmentError>>>, outcome: Result<(), SegmentError>) {
    if let Some(reply) = reply.take() {
        // This fails if the caller has left.
        let _ = reply.send(outcome);
    }
}

impl CompletionHandle {
    /// Waits until the call is settled, at most until the deadline.
    ///
    /// The future may be dropped and created again. There is only one outcome.
    pub(super) async fn outcome(&mut self) -> Result<(), SegmentError> {
        match tokio::time::timeout_at(self.deadline, &mut self.reply).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_dropped)) => Err(self.shutdown_error()),
            Err(_elapsed) => self.withdraw(),
        }
    }

    /// The outcome, if it is known.
    #[cfg(test)]
    pub(super) fn try_outcome(&mut self) -> Option<Result<(), SegmentError>> {
        self.reply.try_recv().ok()
    }

    /// The deadline has passed: withdraws the call, or reports that the outcome is unknown.
    fn withdraw(&mut self) -> Result<(), SegmentError> {
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            matches!(state, WAITING | NOT_ACCEPTED).then_some(WITHDRAWN)
        });
        let (code, message) = match before {
            Ok(WAITING) => {
                (ErrorCode::Overloaded, "the deadline passed before the call could be sent to Segment; it was not sent")
            }
            Ok(_) => (
                ErrorCode::Unavailable,
                "Segment did not accept the call before the deadline; it was certainly not accepted",
            ),
            // The outcome may have arrived at this moment.
            Err(_) => {
                let no_answer = || unknown_outcome().because(FailureReason::Timeout);
                return self.reply.try_recv().unwrap_or_else(|_| Err(no_answer()));
            }
        };
        Err(SegmentError::new(code, message).retry_after(MIN_RETRY_AFTER))
    }

    fn shutdown_error(&self) -> SegmentError {
        match self.state.load(Ordering::Acquire) {
            IN_REQUEST | UNKNOWN => unknown_outcome(),
            _ => SegmentError::new(ErrorCode::ShuttingDown, "the relay is shutting down; the call was not accepted")
                .retry_after(MIN_RETRY_AFTER),
        }
    }
}

fn unknown_outcome() -> SegmentError {
    SegmentError::new(
        ErrorCode::Timeout,
        "no answer of Segment's arrived: whether it accepted the call is unknown; trying again with the same key is safe",
    )
    .retry_after(MIN_RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::{ErrorCode, SegmentError, completion};
    use std::time::Duration;
    use tokio::time::Instant;

    fn in_ten_seconds() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    fn unavailable() -> SegmentError {
        SegmentError::new(ErrorCode::Unavailable, "503")
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_never_sent_is_withdrawn_at_the_deadline() {
        let (call, mut handle) = completion(in_ten_seconds());
        assert_eq!(handle.outcome().await.unwrap_err().code, ErrorCode::Overloaded);
        assert!(!call.mark_in_request());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_in_a_request_at_the_deadline_has_an_unknown_outcome() {
        let (call, mut handle) = completion(in_ten_seconds());
        assert!(call.mark_in_request());
        assert_eq!(handle.outcome().await.unwrap_err().code, ErrorCode::Timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answered_call_is_certainly_not_accepted_at_the_deadline() {
        let (call, mut handle) = completion(in_ten_seconds());
        assert!(call.mark_in_request());
        call.mark_not_accepted();
        assert_eq!(handle.outcome().await.unwrap_err().code, ErrorCode::Unavailable);
        assert!(!call.mark_in_request());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_outcome_stays_unknown_after_later_attempts() {
        let (mut call, mut handle) = completion(in_ten_seconds());
        assert!(call.mark_in_request());
        call.mark_unknown();
        assert!(call.mark_in_request());
        call.mark_not_accepted();
        call.give_up(&unavailable());
        assert_eq!(handle.outcome().await.unwrap_err().code, ErrorCode::Timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_whose_caller_left_is_not_sent() {
        let (call, handle) = completion(in_ten_seconds());
        drop(handle);
        assert!(!call.mark_in_request());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_completion_reports_the_shutdown() {
        let (waiting, mut handle) = completion(in_ten_seconds());
        drop(waiting);
        assert_eq!(handle.outcome().await.unwrap_err().code, ErrorCode::ShuttingDown);
        let (sent, mut handle) = completion(in_ten_seconds());
        assert!(sent.mark_in_request());
        drop(sent);
        assert_eq!(handle.outcome().await.unwrap_err().code, ErrorCode::Timeout);
    }
}
