//! One call's way from taken to settled, seen from both ends: the [`Ticket`] travels with the call, the [`Claim`] stays
//! with its caller.
//!
//! The state they share decides who may still change their mind. A caller may withdraw as long as the call is in no
//! request and certainly was not accepted; once it is in one, only an answer tells, and a caller who cannot wait for it
//! hears that the outcome is unknown. A ticket that is dropped unsettled says that the relay is going down.
//!
//! A call from the outbox has no caller who waits, so it has no deadline and is never given up: its ticket goes to whoever
//! empties the outbox when the call is accepted or refused for good. Dropped unsettled, it just stays in the outbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::segment::{Delivered, Refusal};
use crate::segment::{ErrorCode, MIN_RETRY_AFTER, SegmentError};

/// In no request yet.
const WAITING: u8 = 0;
/// In a request now; nothing is known.
const IN_REQUEST: u8 = 1;
/// An attempt ended without an answer: it may have been accepted, whatever later attempts say.
const UNKNOWN: u8 = 2;
/// Was in a request; certainly not accepted so far.
const NOT_ACCEPTED: u8 = 3;
/// The caller gave up before it was in a request.
const WITHDRAWN: u8 = 4;

/// The call's end. Dropping it unsettled tells the caller that the relay is going down.
#[derive(Debug)]
pub(super) enum Ticket {
    /// Somebody waits for it.
    Caller { state: Arc<AtomicU8>, reply: Option<oneshot::Sender<Result<(), SegmentError>>>, deadline: Instant },
    /// It is in the outbox under this id.
    Stored { id: i64, delivered: mpsc::UnboundedSender<Delivered> },
}

/// The caller's end. Dropping it withdraws the call, if that is still possible.
#[derive(Debug)]
pub(super) struct Claim {
    state: Arc<AtomicU8>,
    reply: oneshot::Receiver<Result<(), SegmentError>>,
    deadline: Instant,
}

/// Both ends for one call, whose caller waits until `deadline`.
pub(super) fn ticket(deadline: Instant) -> (Ticket, Claim) {
    let state = Arc::new(AtomicU8::new(WAITING));
    let (sender, receiver) = oneshot::channel();
    (Ticket::Caller { state: state.clone(), reply: Some(sender), deadline }, Claim { state, reply: receiver, deadline })
}

impl Ticket {
    /// When the caller stops waiting; never, for a call of the outbox.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Caller { deadline, .. } => Some(*deadline),
            Self::Stored { .. } => None,
        }
    }

    /// Whether the caller will have stopped waiting by then.
    pub(super) fn is_over_by(&self, then: Instant) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= then)
    }

    /// Whether it is a call of the outbox.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self, Self::Stored { .. })
    }

    /// Puts the call into a request. False if its caller has left: then it must not be sent.
    pub(super) fn put_in_request(&self) -> bool {
        let Self::Caller { state, .. } = self else { return true };
        let put = state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| match state {
            WAITING | NOT_ACCEPTED => Some(IN_REQUEST),
            UNKNOWN => Some(UNKNOWN),
            _ => None,
        });
        put.is_ok() && !self.is_abandoned()
    }

    /// Whether the caller has left.
    pub(super) fn is_abandoned(&self) -> bool {
        match self {
            Self::Caller { reply, .. } => reply.as_ref().is_none_or(oneshot::Sender::is_closed),
            Self::Stored { .. } => false,
        }
    }

    /// The request came back and the call was certainly not accepted by it.
    pub(super) fn not_accepted(&self) {
        if let Self::Caller { state, .. } = self {
            // If an earlier attempt's outcome is unknown, it stays so.
            let _ = state.compare_exchange(IN_REQUEST, NOT_ACCEPTED, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// The request ended without an answer.
    pub(super) fn unknown(&self) {
        if let Self::Caller { state, .. } = self {
            state.store(UNKNOWN, Ordering::Release);
        }
    }

    /// Whether an attempt ended without an answer, so that the call may have been accepted.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Caller { state, .. } if state.load(Ordering::Acquire) == UNKNOWN)
    }

    /// Gives up: `why`, unless an attempt's outcome is unknown, which is what the caller must hear then. A call of the
    /// outbox stays there.
    pub(super) fn give_up(&mut self, why: &SegmentError) {
        if let Self::Caller { state, reply, .. } = self {
            let outcome = match state.load(Ordering::Acquire) {
                UNKNOWN => SegmentError { retry_after: why.retry_after.or(Some(MIN_RETRY_AFTER)), ..outcome_unknown() },
                _ => why.clone(),
            };
            tell(reply, Err(outcome));
        }
    }

    /// Segment accepted the call, or refused it for good.
    pub(super) fn settle(&mut self, outcome: &Result<(), Refused>) {
        match self {
            Self::Caller { reply, .. } => tell(reply, outcome.clone().map_err(|refused| refused.why)),
            Self::Stored { id, delivered } => {
                let outcome = outcome.clone().map_err(Refusal::from);
                // Nobody empties the outbox any more: then it stays there.
                let _ = delivered.send(Delivered { id: *id, outcome });
            }
        }
    }
}

/// A call that Segment refused for good.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) why: SegmentError,
    /// The status of Segment's answer.
    pub(super) status: u16,
    /// How many requests held the call.
    pub(super) attempts: u32,
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self { status: refused.status, reason: refused.why.message, attempts: refused.attempts }
    }
}

/// Tells the caller, once.
fn tell(reply: &mut Option<oneshot::Sender<Result<(), SegmentError>>>, outcome: Result<(), SegmentError>) {
    if let Some(reply) = reply.take() {
        // A caller who left does not hear it.
        let _ = reply.send(outcome);
    }
}

impl Claim {
    /// Waits until the call is settled, at most until the deadline.
    ///
    /// Waiting may be broken off and begun again; once there was an outcome, there is no other.
    pub(super) async fn outcome(&mut self) -> Result<(), SegmentError> {
        match tokio::time::timeout_at(self.deadline, &mut self.reply).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_dropped)) => Err(self.cut_off()),
            Err(_elapsed) => self.withdraw(),
        }
    }

    /// The deadline has passed: takes the call back, or owns up to not knowing.
    fn withdraw(&mut self) -> Result<(), SegmentError> {
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            matches!(state, WAITING | NOT_ACCEPTED).then_some(WITHDRAWN)
        });
        match before {
            Ok(WAITING) => Err(SegmentError::new(
                ErrorCode::Overloaded,
                "the deadline passed before the call could be sent to Segment; it was not sent",
            )
            .retry_after(MIN_RETRY_AFTER)),
            Ok(_) => Err(SegmentError::new(
                ErrorCode::Unavailable,
                "Segment did not accept the call before the deadline; it was certainly not accepted",
            )
            .retry_after(MIN_RETRY_AFTER)),
            // It may have been settled this very moment.
            Err(_) => self.reply.try_recv().unwrap_or_else(|_| Err(outcome_unknown())),
        }
    }

    fn cut_off(&self) -> SegmentError {
        match self.state.load(Ordering::Acquire) {
            IN_REQUEST | UNKNOWN => outcome_unknown(),
            _ => SegmentError::new(ErrorCode::ShuttingDown, "the relay is shutting down; the call was not accepted")
                .retry_after(MIN_RETRY_AFTER),
        }
    }
}

fn outcome_unknown() -> SegmentError {
    SegmentError::new(
        ErrorCode::Timeout,
        "no answer of Segment's arrived: whether it accepted the call is unknown; trying again with the same key is safe",
    )
    .retry_after(MIN_RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::{ErrorCode, SegmentError, ticket};
    use std::time::Duration;
    use tokio::time::Instant;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    fn failed() -> SegmentError {
        SegmentError::new(ErrorCode::Unavailable, "503")
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_never_sent_is_withdrawn_at_the_deadline() {
        let (ticket, mut claim) = ticket(soon());
        assert_eq!(claim.outcome().await.unwrap_err().code, ErrorCode::Overloaded);
        assert!(!ticket.put_in_request());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_in_a_request_at_the_deadline_has_an_unknown_outcome() {
        let (ticket, mut claim) = ticket(soon());
        assert!(ticket.put_in_request());
        assert_eq!(claim.outcome().await.unwrap_err().code, ErrorCode::Timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_came_back_is_certainly_not_accepted_at_the_deadline() {
        let (ticket, mut claim) = ticket(soon());
        assert!(ticket.put_in_request());
        ticket.not_accepted();
        assert_eq!(claim.outcome().await.unwrap_err().code, ErrorCode::Unavailable);
        assert!(!ticket.put_in_request());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_attempt_is_never_forgotten() {
        let (mut ticket, mut claim) = ticket(soon());
        assert!(ticket.put_in_request());
        ticket.unknown();
        assert!(ticket.put_in_request());
        ticket.not_accepted();
        ticket.give_up(&failed());
        assert_eq!(claim.outcome().await.unwrap_err().code, ErrorCode::Timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_left_is_not_sent() {
        let (ticket, claim) = ticket(soon());
        drop(claim);
        assert!(!ticket.put_in_request());
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_dropped_unsettled_says_that_the_relay_goes_down() {
        let (waiting, mut claim) = ticket(soon());
        drop(waiting);
        assert_eq!(claim.outcome().await.unwrap_err().code, ErrorCode::ShuttingDown);
        let (sent, mut claim) = ticket(soon());
        assert!(sent.put_in_request());
        drop(sent);
        assert_eq!(claim.outcome().await.unwrap_err().code, ErrorCode::Timeout);
    }
}
