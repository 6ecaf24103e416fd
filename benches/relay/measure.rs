//! One measurement: its processes, its load, its numbers, and the check that nothing was made up.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;

use super::load::{Tally, closed};
use super::open_load::open;
use super::plan::{Measurement, Scene};
use super::server::{Server, own_cpu};

/// How far away Segment is, where it is not next door.
pub const AWAY: &str = "50ms";

/// [`AWAY`], in milliseconds.
pub const AWAY_MS: f64 = 50.0;

/// What was measured. Times are milliseconds, CPU is microseconds.
#[derive(Clone, Copy, Default)]
pub struct Numbers {
    pub requests_per_second: f64,
    pub p50: f64,
    pub p99: f64,
    /// CPU of the server a request.
    pub cpu: f64,
    /// CPU of the load a request.
    pub load_cpu: f64,
    /// CPU of the sandbox a call.
    pub sandbox_cpu: f64,
    /// Calls in one request to Segment.
    pub batch: f64,
    /// The server's peak memory in MiB.
    pub memory: f64,
    /// Answers 200, with those of the warm-up.
    pub accepted: u64,
    /// All other answers, and those that never came.
    pub failed: u64,
}

/// Measures once, with this build of relay and sandbox. `rate` is the requests a second of the half load.
///
/// # Errors
/// If a process cannot be started, answers never come, or the sandbox counted other calls than the callers did.
pub fn measure(binary: &Path, measurement: Measurement, duration: Duration, rate: f64) -> anyhow::Result<Numbers> {
    let Measurement { scene, callers } = measurement;
    let load = |server: SocketAddr, look: &dyn Fn() -> Cpu| match scene {
        Scene::Half => open(server, callers, rate, duration, look),
        _ => closed(server, callers, duration, look),
    };
    if scene == Scene::Bare {
        let bare = Server::bare()?;
        let look = || Cpu { server: bare.cpu(), load: own_cpu(), sandbox: Duration::ZERO };
        let (tally, looks) = load(bare.address, &look)?;
        return Ok(Numbers { memory: bare.peak_memory(), ..numbers(&tally, looks, duration) });
    }
    let sandbox = Server::sandbox(binary, (scene != Scene::Relay).then_some(AWAY))?;
    let relay = Server::relay(binary, &sandbox)?;
    let look = || Cpu { server: relay.cpu(), load: own_cpu(), sandbox: sandbox.cpu() };
    let (tally, looks) = load(relay.address, &look)?;
    let stats = sandbox.stats()?;
    if stats.accepted_calls != tally.accepted || tally.accepted == 0 {
        bail!(
            "{measurement}: {} answers 200, {} others, but the sandbox accepted {} calls",
            tally.accepted,
            tally.failed,
            stats.accepted_calls
        );
    }
    let batch = stats.accepted_calls as f64 / stats.accepted_requests.max(1) as f64;
    Ok(Numbers { batch, memory: relay.peak_memory(), ..numbers(&tally, looks, duration) })
}

/// CPU time used so far.
struct Cpu {
    server: Duration,
    load: Duration,
    sandbox: Duration,
}

fn numbers(tally: &Tally, (before, after): (Cpu, Cpu), duration: Duration) -> Numbers {
    let answers = tally.latency.count() as f64;
    let each = |before: Duration, after: Duration| (after - before).as_secs_f64() * 1e6 / answers.max(1.0);
    Numbers {
        requests_per_second: answers / duration.as_secs_f64(),
        p50: tally.latency.quantile(0.50),
        p99: tally.latency.quantile(0.99),
        cpu: each(before.server, after.server),
        load_cpu: each(before.load, after.load),
        sandbox_cpu: each(before.sandbox, after.sandbox),
        accepted: tally.accepted,
        failed: tally.failed,
        ..Numbers::default()
    }
}
