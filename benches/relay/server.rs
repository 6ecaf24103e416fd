//! The processes that are measured, and what the kernel knows of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use super::load::PATIENCE;

/// More requests at once than any measurement has callers.
const MAX_IN_FLIGHT: &str = "4096";

/// How long a relay may take to be ready: longer than the seconds it is asked for with a million calls waiting.
const READY: Duration = Duration::from_secs(60);

/// How often it is asked whether it is: not seen in the seconds that are reported.
const READY_TICK: Duration = Duration::from_millis(1);

/// The kernel counts CPU time for programs to read in hundredths of a second (USER_HZ), on every machine Rust runs on.
const TICKS_PER_SECOND: u64 = 100;

/// A process that serves on `address`; killed when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
}

/// Where spans go.
#[derive(Clone, Copy)]
pub struct Traces {
    pub receiver: SocketAddr,
    /// The share of the requests that have a trace.
    pub share: &'static str,
}

/// What the sandbox counted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    pub accepted_requests: u64,
    /// Repeats among them.
    pub accepted_calls: u64,
    /// Calls whose `messageId` came before, as far as the sandbox remembers: see [`Stats::events_forgotten`].
    pub duplicates: u64,
    pub events_forgotten: u64,
}

impl Stats {
    /// Calls that differ in their `messageId`.
    pub fn different_calls(&self) -> u64 {
        self.accepted_calls - self.duplicates
    }
}

impl Server {
    /// The handler to compare with: this program once more.
    pub fn bare() -> anyhow::Result<Self> {
        Self::start(&std::env::current_exe()?, &["bare"], &[])
    }

    /// Segment.
    pub fn sandbox(binary: &Path) -> anyhow::Result<Self> {
        Self::start(binary, &["sandbox", "--listen", "127.0.0.1:0"], &[])
    }

    /// Has a sandbox misbehave, as `POST /faults` takes it.
    pub fn set_faults(&self, faults: &str) -> anyhow::Result<()> {
        self.ask("POST", "/faults", faults)?;
        Ok(())
    }

    /// The relay, with its defaults but for what stands here; with an outbox if that has a URL.
    pub fn relay(binary: &Path, sandbox: &Self, outbox: Option<&str>, traces: Option<Traces>) -> anyhow::Result<Self> {
        let endpoint = format!("http://{}", sandbox.address);
        let mut environment = vec![
            ("SEGMENT_WRITE_KEY", "bench"),
            ("SEGMENT_ENDPOINT", &endpoint),
            ("RELAY_LISTEN", "127.0.0.1:0"),
            ("RELAY_MAX_IN_FLIGHT", MAX_IN_FLIGHT),
            // A stop is measured from the signal on.
            ("RELAY_SHUTDOWN_DELAY", "0s"),
        ];
        environment.extend(outbox.map(|url| ("RELAY_OUTBOX_URL", url)));
        let receiver = traces.map(|traces| format!("http://{}", traces.receiver)).unwrap_or_default();
        environment.extend([
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*receiver),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", traces.map_or("1", |traces| traces.share)),
        ]);
        Self::start(binary, &["serve"], &environment)
    }

    /// Waits until a relay says that it is ready.
    pub fn wait_until_ready(&self) -> anyhow::Result<()> {
        let patience = Instant::now() + READY;
        while let Err(error) = self.ask("GET", "/readyz", "") {
            if Instant::now() > patience {
                return Err(error.context("the relay was never ready"));
            }
            std::thread::sleep(READY_TICK);
        }
        Ok(())
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("no process")?;
        Ok(kill_process(pid, signal)?)
    }

    fn start(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(environment.iter().copied());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("could not start")?;
        let mut output = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut server = Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), child };
        let mut said = String::new();
        server.address = loop {
            let before = said.len();
            if output.read_line(&mut said)? == 0 {
                bail!("{program:?} ended, and said {said:?}");
            }
            if let Some(address) = said.get(before..).and_then(address) {
                break address;
            }
        };
        // Whoever logs must find a reader.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Ok(server)
    }

    /// What a sandbox counted.
    pub fn stats(&self) -> anyhow::Result<Stats> {
        Ok(serde_json::from_str(&self.ask("GET", "/stats", "")?)?)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
            _ => bail!("{method} {path}: {answer}"),
        }
    }

    /// The CPU time this process has used, in and for it.
    pub fn cpu(&self) -> Duration {
        cpu(&self.child.id().to_string())
    }

    /// The memory this process holds now, in MiB.
    pub fn memory(&self) -> f64 {
        self.number("status", "VmRSS:") / 1024.0
    }

    /// The most memory this process ever held, in MiB.
    pub fn peak_memory(&self) -> f64 {
        self.number("status", "VmHWM:") / 1024.0
    }

    /// The bytes this process had written to a disk: whole pages, when they were changed in the kernel's cache. What
    /// the file system writes for itself, its journal above all, is not in it.
    pub fn written(&self) -> f64 {
        self.number("io", "write_bytes:")
    }

    /// The number behind `name` in one of the files that the kernel keeps of this process; none is no number.
    fn number(&self, file: &str, name: &str) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(f64::NAN)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the line in which a server tells it: behind `http://`, or in a JSON log line.
fn address(line: &str) -> Option<SocketAddr> {
    match serde_json::from_str::<serde_json::Value>(line) {
        Ok(line) => line["address"].as_str()?.parse().ok(),
        Err(_) => line.trim().rsplit_once("http://")?.1.parse().ok(),
    }
}

/// The CPU time that the load, this process, has used.
pub fn own_cpu() -> Duration {
    cpu("self")
}

/// User and system time of all threads, those that ended among them: the 14th and 15th field of `stat`.
fn cpu(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The second field is the program's name in parentheses, which may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}
