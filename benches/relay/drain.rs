//! How what waits in an outbox reaches the sandbox once nobody asks any more.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::server::{Server, Stats};

/// How often the sandbox is asked: seldom enough to cost nothing, often enough for the seconds that are reported.
pub const TICK: Duration = Duration::from_millis(10);

/// How long no call at all may arrive: longer than the pauses of a relay that has met some seconds of trouble.
const STALL: Duration = Duration::from_secs(60);

/// How long after the last call the sandbox is looked at once more: what comes too much and the settling of the last
/// calls are seen then, and it is many times the relay's pace.
const AFTERWARDS: Duration = Duration::from_millis(200);

/// What was seen.
pub struct Drain {
    /// Calls that had not arrived when the watching began.
    pub waiting: u64,
    /// How long it took until one of them had.
    pub first: Duration,
    /// How long it took until all had.
    pub all: Duration,
    /// What the sandbox counted in the end.
    pub stats: Stats,
}

impl Drain {
    /// Watches until the sandbox has so many calls that differ in their `messageId`.
    ///
    /// # Errors
    /// If that never happens, or there are more of them.
    pub fn watch(sandbox: &Server, calls: u64) -> anyhow::Result<Self> {
        let began = Instant::now();
        let before = sandbox.stats()?.different_calls();
        let (mut seen, mut progress) = (before, began);
        let mut first = Duration::ZERO;
        while seen < calls {
            sleep(TICK);
            let now_there = sandbox.stats()?.different_calls();
            if now_there > seen {
                progress = Instant::now();
                if seen == before {
                    first = began.elapsed();
                }
                seen = now_there;
            } else if progress.elapsed() > STALL {
                bail!("{calls} calls were stored, but the sandbox accepted {seen}, and no more for {STALL:?}");
            }
        }
        let all = progress - began;
        sleep(AFTERWARDS);
        let stats = sandbox.stats()?;
        if stats.different_calls() != calls || stats.events_forgotten > 0 {
            bail!(
                "{calls} calls were stored, but the sandbox accepted {} different ones and forgot {}",
                stats.different_calls(),
                stats.events_forgotten
            );
        }
        Ok(Self { waiting: calls.saturating_sub(before), first, all, stats })
    }
}
