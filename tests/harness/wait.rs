//! Bounded waiting for a condition.

use std::future::Future;
use std::panic::Location;
use std::time::{Duration, Instant};

/// How long anything that will happen may take on a busy machine. Only a test that fails waits for so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(10);

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not within [`PATIENCE`], naming the caller's line.
#[track_caller]
pub fn eventually<C, F>(mut condition: C) -> impl Future<Output = ()>
where
    C: FnMut() -> F,
    F: Future<Output = bool>,
{
    let place = Location::caller();
    async move {
        let begin = Instant::now();
        while !condition().await {
            assert!(begin.elapsed() < PATIENCE, "what is waited for at {place} did not happen");
            tokio::time::sleep(GLANCE).await;
        }
    }
}
