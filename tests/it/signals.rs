//! A signal in the first moments of a process shuts it down in order; it does not kill it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{PATIENCE, Process, WRITE_KEY};

/// Enough that a race of a millisecond shows: of the processes without this order of the start, two thirds died.
const ROUNDS: usize = 30;

/// The signals that stop a process.
const SIGNALS: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::QUIT];

/// An address on which nothing listens. The process is told it, so that the test can connect before the first log line.
async fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

fn serve(address: SocketAddr) -> Process {
    let listen = address.to_string();
    let settings = [("SEGMENT_WRITE_KEY", WRITE_KEY), ("RELAY_LISTEN", &listen), ("RELAY_SHUTDOWN_DELAY", "0s")];
    Process::start(&["serve"], &settings)
}

/// Connects as soon as the port is bound.
async fn connect(address: SocketAddr) -> TcpStream {
    let begin = Instant::now();
    loop {
        match TcpStream::connect(address).await {
            Ok(connection) => return connection,
            Err(error) => assert!(begin.elapsed() < PATIENCE, "{address}: {error}"),
        }
        // A look every 0.1 ms finds the moment at which the port is bound, and leaves the processor to the process.
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
}

/// Sends the signal without the detour of a shell, which takes milliseconds.
fn send(process: &Process, signal: Signal) {
    let id = Pid::from_raw(process.id().try_into().unwrap()).unwrap();
    kill_process(id, signal).unwrap();
}

/// Whether the process has a handler for each of [`SIGNALS`], as Linux says.
fn has_handlers(process: &Process) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
    SIGNALS.iter().all(|signal| caught & (1 << (signal.as_raw() - 1)) != 0)
}

#[tokio::test]
async fn a_relay_that_gets_sigterm_as_soon_as_its_port_accepts_drains_and_exits_0() {
    let mut codes = Vec::new();
    for _ in 0..ROUNDS {
        let address = free_address().await;
        let mut process = serve(address);
        let _connection = connect(address).await;
        send(&process, Signal::TERM);
        codes.push(process.exit_code().await);
    }
    assert_eq!(codes, [Some(0); ROUNDS]);
}

#[tokio::test]
async fn a_signal_is_acted_on_from_the_moment_its_handler_is_installed() {
    for signal in SIGNALS {
        let mut process = serve(free_address().await);
        let begin = Instant::now();
        while !has_handlers(&process) {
            assert!(begin.elapsed() < PATIENCE, "the handlers are not installed");
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        send(&process, signal);
        assert_eq!(process.exit_code().await, Some(0), "{signal:?}: {:?}", process.stderr());
    }
}

#[tokio::test]
async fn every_command_that_serves_has_its_handlers_before_its_port_is_bound() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap();
    for command in ["serve", "dev", "sandbox"] {
        let address = free_address().await;
        let listen = address.to_string();
        let mut process = match command {
            "serve" => serve(address),
            "dev" => Process::start(
                &["dev", "--sandbox-listen", "127.0.0.1:0", "--data", data],
                &[("RELAY_LISTEN", &listen), ("RELAY_SHUTDOWN_DELAY", "0s")],
            ),
            _ => Process::start(&["sandbox", "--listen", &listen], &[]),
        };
        drop(connect(address).await);
        assert!(has_handlers(&process), "{command}");
        send(&process, Signal::QUIT);
        assert_eq!(process.exit_code().await, Some(0), "{command}: {:?}", process.stderr());
    }
}
