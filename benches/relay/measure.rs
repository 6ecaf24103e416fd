//! One measurement: its processes, its load, its numbers, and the check that nothing was made up.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::bail;

use super::drain::Drain;
use super::load::{Load, Tally, closed};
use super::open_load::open;
use super::options::Options;
use super::plan::{Measurement, Scene};
use super::server::{Server, Traces, own_cpu};
use super::store::Store;

/// How far away Segment is, where it is not next door.
const AWAY: &str = r#"{"latency":"50ms"}"#;

/// [`AWAY`], in milliseconds.
pub const AWAY_MS: f64 = 50.0;

/// What was measured. Times are milliseconds, CPU is microseconds.
#[derive(Clone, Copy, Default)]
pub struct Numbers {
    pub requests_per_second: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    /// CPU of the server a request; with an outbox until all is delivered.
    pub cpu: f64,
    /// CPU of the load a request.
    pub load_cpu: f64,
    /// CPU of the sandbox a call.
    pub sandbox_cpu: f64,
    /// Calls in one request to Segment.
    pub batch: f64,
    /// The server's peak memory in MiB.
    pub memory: f64,
    /// Calls that had not reached the sandbox when the load had its last answer.
    pub waiting: f64,
    /// Seconds until they had.
    pub drain: f64,
    /// Bytes written to disk a call, from its storing to its settling.
    pub written: f64,
    /// Successes, with those of the warm-up.
    pub succeeded: u64,
    /// All other answers, and those that never came.
    pub failed: u64,
}

/// Measures once. `rate` is the requests a second of the half load.
///
/// # Errors
/// If a process cannot be started, answers never come, or the sandbox counted other calls than the callers did.
pub fn measure(options: &Options, measurement: Measurement, rate: f64) -> anyhow::Result<Numbers> {
    let Measurement { scene, callers } = measurement;
    let duration = options.duration();
    let run = |server: SocketAddr, look: &dyn Fn() -> Cpu| {
        let load = Load { server, callers, success: scene.success() };
        match scene {
            Scene::Half => open(load, rate, duration, look),
            _ => closed(load, duration, look),
        }
    };
    if scene == Scene::Bare {
        let bare = Server::bare()?;
        let look = || Cpu { server: bare.cpu(), load: own_cpu(), sandbox: Duration::ZERO };
        let (tally, looks) = run(bare.address, &look)?;
        return Ok(Numbers { memory: bare.peak_memory(), ..numbers(&tally, looks, duration, tally.latency.count()) });
    }
    let sandbox = Server::sandbox(&options.relay)?;
    if matches!(scene, Scene::Away | Scene::Half) {
        sandbox.set_faults(AWAY)?;
    }
    let store = scene.has_outbox().then(|| Store::new(&options.disk)).transpose()?;
    let receiver = scene.traced().map(|share| Ok::<_, anyhow::Error>((Server::bare()?, share))).transpose()?;
    let traces = receiver.as_ref().map(|(server, share)| Traces { receiver: server.address, share });
    let relay = Server::relay(&options.relay, &sandbox, store.as_ref().map(Store::url).as_deref(), traces)?;
    relay.wait_until_ready()?;
    let look = || Cpu { server: relay.cpu(), load: own_cpu(), sandbox: sandbox.cpu() };
    let written = relay.written();
    let (tally, (before, mut after)) = run(relay.address, &look)?;
    let Tally { succeeded, failed, .. } = tally;
    let mut drain = None;
    if store.is_some() {
        // One who got no 202 may have a call there all the same.
        if failed > 0 {
            bail!("{measurement}: {failed} answers are not 202");
        }
        drain = Some(Drain::watch(&sandbox, succeeded)?);
        // A call's way ends with its delivery, and the last ones end theirs only now.
        after = Cpu { load: after.load, ..look() };
    }
    let stats = sandbox.stats()?;
    if stats.accepted_calls != succeeded || stats.duplicates > 0 || succeeded == 0 {
        bail!(
            "{measurement}: {succeeded} answers {}, {failed} others, but the sandbox accepted {} calls, {} twice",
            scene.success(),
            stats.accepted_calls,
            stats.duplicates
        );
    }
    let calls = tally.latency.count() + if store.is_some() { tally.late } else { 0 };
    let mut numbers = numbers(&tally, (before, after), duration, calls);
    numbers.batch = stats.accepted_calls as f64 / stats.accepted_requests.max(1) as f64;
    numbers.memory = relay.peak_memory();
    if let Some(drain) = drain {
        numbers.waiting = drain.waiting as f64;
        numbers.drain = drain.all.as_secs_f64();
        numbers.written = (relay.written() - written) / succeeded as f64;
    }
    Ok(numbers)
}

/// CPU time used so far.
struct Cpu {
    server: Duration,
    load: Duration,
    sandbox: Duration,
}

/// `calls` is what the CPU time was used for.
fn numbers(tally: &Tally, (before, after): (Cpu, Cpu), duration: Duration, calls: u64) -> Numbers {
    let each = |before: Duration, after: Duration| (after - before).as_secs_f64() * 1e6 / calls.max(1) as f64;
    Numbers {
        requests_per_second: tally.latency.count() as f64 / duration.as_secs_f64(),
        p50: tally.latency.quantile(0.50),
        p99: tally.latency.quantile(0.99),
        p999: tally.latency.quantile(0.999),
        cpu: each(before.server, after.server),
        load_cpu: each(before.load, after.load),
        sandbox_cpu: each(before.sandbox, after.sandbox),
        succeeded: tally.succeeded,
        failed: tally.failed,
        ..Numbers::default()
    }
}
