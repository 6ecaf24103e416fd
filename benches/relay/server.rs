//! The processes that are measured, and what the kernel knows of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;

/// More requests at once than any measurement has callers.
const MAX_IN_FLIGHT: &str = "4096";

/// The kernel counts CPU time for programs to read in hundredths of a second (USER_HZ), on every machine Rust runs on.
const TICKS_PER_SECOND: u64 = 100;

/// A process that serves on `address`; killed when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
}

/// What the sandbox counted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    pub accepted_requests: u64,
    pub accepted_calls: u64,
}

impl Server {
    /// The handler to compare with: this program once more.
    pub fn bare() -> anyhow::Result<Self> {
        Self::start(&std::env::current_exe()?, &["bare"], &[])
    }

    /// Segment, which answers after `latency` as `POST /faults` takes it.
    pub fn sandbox(binary: &Path, latency: Option<&str>) -> anyhow::Result<Self> {
        let sandbox = Self::start(binary, &["sandbox", "--listen", "127.0.0.1:0"], &[])?;
        if let Some(latency) = latency {
            sandbox.ask("POST", "/faults", &format!(r#"{{"latency":"{latency}"}}"#))?;
        }
        Ok(sandbox)
    }

    /// The relay, with its defaults but for what stands here.
    pub fn relay(binary: &Path, sandbox: &Self) -> anyhow::Result<Self> {
        let endpoint = format!("http://{}", sandbox.address);
        let environment = [
            ("SEGMENT_WRITE_KEY", "bench"),
            ("SEGMENT_ENDPOINT", &endpoint),
            ("RELAY_LISTEN", "127.0.0.1:0"),
            ("RELAY_MAX_IN_FLIGHT", MAX_IN_FLIGHT),
        ];
        Self::start(binary, &["serve"], &environment)
    }

    fn start(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(environment.iter().copied());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("could not start")?;
        let mut output = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut server = Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), child };
        let mut line = String::new();
        output.read_line(&mut line)?;
        server.address = address(&line).with_context(|| format!("{program:?} said {line:?}"))?;
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
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
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

    /// The most memory this process ever held, in MiB.
    pub fn peak_memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        let kib = line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok());
        kib.unwrap_or_default() / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the first line that a server prints: behind `http://`, or in a JSON log line.
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
