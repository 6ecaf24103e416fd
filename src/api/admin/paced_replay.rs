//! A replay of many dead letters at a pace, in the background. It is in memory alone: what it has not put back when the
//! process ends is still a dead letter.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until};

use super::replay::replay;
use crate::outbox::{DeadLetters, LetterWalk, OutboxError, STORE_RETRY_AFTER};
use crate::sources::Sources;
use crate::supervisor::Supervisor;

/// Steps a second at most: each is a transaction.
const MAX_STEPS_PER_SECOND: u32 = 10;

/// Which letters are put back, and how fast.
pub(super) struct PacedReplay {
    pub(super) dead_letters: Arc<dyn DeadLetters>,
    pub(super) sources: Option<Arc<Sources>>,
    pub(super) walk: LetterWalk,
    pub(super) per_second: NonZeroU32,
    pub(super) request_id: String,
}

impl PacedReplay {
    /// Starts it. `running` is the right to it, which it holds until it ends: when all that fitted are put back, or when
    /// the process drains.
    pub(super) fn start(mut self, supervisor: &Supervisor, running: OwnedSemaphorePermit) {
        let stages = supervisor.clone();
        supervisor.spawn("paced replay", async move {
            let mut replayed = 0;
            let is_complete = tokio::select! {
                () = self.run(&mut replayed) => true,
                () = stages.draining() => false,
            };
            drop(running);
            let request_id = self.request_id;
            tracing::info!(request_id, count = replayed, is_complete, "the replay of dead letters at a pace has ended");
        });
    }

    async fn run(&mut self, replayed: &mut u64) {
        let (count, pause) = steps(self.per_second);
        loop {
            let begun = Instant::now();
            let found = match self.walk.step(count).await {
                Ok(Some(found)) => found,
                Ok(None) => return,
                Err(error) => {
                    self.wait(error).await;
                    continue;
                }
            };
            let pause = pause.mul_f64(found.ids.len() as f64 / count as f64);
            while let Err(error) = replay(&*self.dead_letters, self.sources.as_deref(), &found, replayed).await {
                self.wait(error).await;
            }
            sleep_until(begun + pause).await;
        }
    }

    /// An outbox that is full or cannot be read for a while does not end it. One that has failed ends the process.
    async fn wait(&self, error: OutboxError) {
        tracing::warn!(request_id = self.request_id, %error, "a replay of dead letters at a pace waits");
        sleep(STORE_RETRY_AFTER).await;
    }
}

/// How many letters fit.
pub(super) async fn count(mut walk: LetterWalk) -> Result<u64, OutboxError> {
    let mut count = 0;
    while let Some(found) = walk.step(usize::MAX).await? {
        count += found.ids.len() as u64;
    }
    Ok(count)
}

/// How many letters are put back at once, and the pause after that many.
fn steps(per_second: NonZeroU32) -> (usize, Duration) {
    let count = per_second.get().div_ceil(MAX_STEPS_PER_SECOND);
    (usize::try_from(count).unwrap_or(usize::MAX), Duration::from_secs(1) * count / per_second.get())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::{MAX_STEPS_PER_SECOND, steps};

    #[test]
    fn no_more_than_the_pace_are_put_back_and_in_small_steps() {
        for per_second in [1, 2, 9, 10, 11, 25, 99, 900, 1_000_000, u32::MAX] {
            let (count, pause) = steps(NonZeroU32::new(per_second).unwrap());
            let pace = count as f64 / pause.as_secs_f64();
            assert!((pace / f64::from(per_second) - 1.0).abs() < 1e-6, "{per_second}: {pace}");
            assert!(pause.as_secs_f64() * f64::from(MAX_STEPS_PER_SECOND) > 0.999, "{per_second}: {pause:?}");
            assert!(count == 1 || count as f64 <= 2.0 * f64::from(per_second) / 10.0, "{per_second}: {count}");
        }
    }
}
