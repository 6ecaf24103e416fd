//! Bounded waiting for a condition.

use std::future::Future;
use std::panic::Location;
use std::time::{Duration, Instant};

/// How long anything that will happen may take on a busy machine. Only a test that fails waits for so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The same for what has to outlast the relay's own pauses, or is a great deal of work.
pub const LONG_PATIENCE: Duration = Duration::from_secs(120);

/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(10);

/// The same for what takes long, or costs something to look at.
const SELDOM: Duration = Duration::from_millis(200);

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not within [`PATIENCE`], naming the caller's line.
#[track_caller]
pub fn eventually<C, F>(condition: C) -> impl Future<Output = ()>
where
    C: FnMut() -> F,
    F: Future<Output = bool>,
{
    wait(condition, PATIENCE, GLANCE)
}

/// Waits until `condition` holds, which takes long or costs something to look at.
///
/// # Panics
/// If it does not within [`LONG_PATIENCE`], naming the caller's line.
#[track_caller]
pub fn at_last<C, F>(condition: C) -> impl Future<Output = ()>
where
    C: FnMut() -> F,
    F: Future<Output = bool>,
{
    wait(condition, LONG_PATIENCE, SELDOM)
}

#[track_caller]
fn wait<C, F>(mut condition: C, patience: Duration, pause: Duration) -> impl Future<Output = ()>
where
    C: FnMut() -> F,
    F: Future<Output = bool>,
{
    let place = Location::caller();
    async move {
        let begin = Instant::now();
        while !condition().await {
            assert!(begin.elapsed() < patience, "what is waited for at {place} did not happen");
            tokio::time::sleep(pause).await;
        }
    }
}
