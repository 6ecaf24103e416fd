//! A batch, or what splitting left of one, and what it went through. Pure.

use tokio::sync::watch;
use tokio::time::Instant;

use super::batch::{Batch, Split};

/// A batch on its way, with its history.
pub(super) struct Part {
    pub(super) batch: Batch,
    /// How often these calls were sent, as Segment is told.
    pub(super) retries: u32,
    /// How many requests held these calls.
    pub(super) attempts: u32,
    /// Failures in a row.
    pub(super) failures: u32,
    /// How many requests Segment had accepted when this part began to fail.
    pub(super) accepted_before: u64,
    /// Whether it comes from a split without evidence.
    pub(super) split_blindly: bool,
    /// When it may be sent again.
    pub(super) not_before: Instant,
    /// Whether it may be sent earlier if Segment turns out to work again: nobody named the time.
    pub(super) may_hurry: bool,
    /// Whether its last pause was cut short for that.
    pub(super) was_hurried: bool,
    /// Tells of the end of every outage, those during an attempt among them.
    pub(super) recoveries: watch::Receiver<()>,
}

/// Two parts where there was one.
pub(super) struct Parts {
    pub(super) left: Part,
    pub(super) right: Part,
    /// Whether they are one user's calls: then the left part must be settled before the right one is sent.
    pub(super) in_order: bool,
}

impl Part {
    /// A batch that was never sent.
    pub(super) fn new(batch: Batch, recoveries: watch::Receiver<()>) -> Self {
        Self {
            batch,
            retries: 0,
            attempts: 0,
            failures: 0,
            accepted_before: 0,
            split_blindly: false,
            not_before: Instant::now(),
            may_hurry: false,
            was_hurried: false,
            recoveries,
        }
    }

    /// Two parts, each with the history of the whole.
    ///
    /// # Errors
    /// Gives the part back if it is one call.
    pub(super) fn split(self) -> Result<Parts, Self> {
        let Self { batch, .. } = self;
        let like = |batch| Self { batch, recoveries: self.recoveries.clone(), ..self };
        match batch.split() {
            Ok(Split::InOrder(left, right)) => Ok(Parts { left: like(left), right: like(right), in_order: true }),
            Ok(Split::Strangers(left, right)) => Ok(Parts { left: like(left), right: like(right), in_order: false }),
            Err(alone) => Err(like(alone)),
        }
    }
}
