//! A batch with the history of its attempts, and how it is split. Pure.

use tokio::sync::watch;
use tokio::time::Instant;

use super::batch::{Batch, Halves};

pub(super) struct BatchAttempt {
    pub(super) batch: Batch,
    /// Number of retries: the header `x-retry-count`.
    pub(super) retry_count: u32,
    /// Number of requests that held these calls.
    pub(super) attempts: u32,
    /// Whether the last request had no answer on a connection that was used before. Then the next one follows at once.
    pub(super) is_second_try: bool,
    /// Consecutive failures.
    pub(super) failures: u32,
    /// Number of requests that Segment had accepted when this batch began to fail.
    pub(super) accepted_before: u64,
    /// Whether the batch was split although nothing else was accepted meanwhile.
    pub(super) was_split_without_evidence: bool,
    /// Earliest time of the next attempt.
    pub(super) not_before: Instant,
    /// Whether the end of an outage shortens the pause. False if Segment named the time.
    pub(super) resumes_on_recovery: bool,
    /// Whether the end of an outage shortened the last pause.
    pub(super) was_resumed_early: bool,
    /// Reports the end of every outage, also one that ends during an attempt.
    pub(super) recoveries: watch::Receiver<()>,
}

impl BatchAttempt {
    /// A batch that was never sent.
    pub(super) fn new(batch: Batch, recoveries: watch::Receiver<()>) -> Self {
        Self {
            batch,
            retry_count: 0,
            attempts: 0,
            is_second_try: false,
            failures: 0,
            accepted_before: 0,
            was_split_without_evidence: false,
            not_before: Instant::now(),
            resumes_on_recovery: false,
            was_resumed_early: false,
            recoveries,
        }
    }

    /// Two halves, each with the history of the whole.
    ///
    /// # Errors
    /// Gives the batch back if it holds a single call.
    pub(super) fn split(self) -> Result<Halves<Self>, Self> {
        let Self { batch, .. } = self;
        let with_history = |batch| Self { batch, recoveries: self.recoveries.clone(), ..self };
        let Halves { left, right, in_order } = batch.split().map_err(&with_history)?;
        Ok(Halves { left: with_history(left), right: with_history(right), in_order })
    }
}
