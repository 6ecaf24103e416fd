//! Callers who each wait for an answer before they ask again, on connections that are kept.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::exchange::{Answers, Requests};
use super::latency::Latency;

/// Long enough for allocators, connections and batches to settle.
pub const WARM_UP: Duration = Duration::from_millis(500);

/// How long the last answers may take: longer than the relay's own deadline of 10 s.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// When answers count for the numbers.
#[derive(Clone, Copy)]
pub struct Window {
    pub start: Instant,
    pub end: Instant,
}

impl Window {
    /// From the end of the warm-up on.
    pub fn of(duration: Duration) -> Self {
        let start = Instant::now() + WARM_UP;
        Self { start, end: start + duration }
    }

    /// Sleeps through it, and looks at something where it starts and where it ends.
    pub fn watch<T>(self, look: impl Fn() -> T) -> (T, T) {
        let sleep_until = |at: Instant| thread::sleep(at.saturating_duration_since(Instant::now()));
        sleep_until(self.start);
        let before = look();
        sleep_until(self.end);
        (before, look())
    }
}

/// What the callers heard.
pub struct Tally {
    /// Of the answers 200 within the window.
    pub latency: Latency,
    /// All answers 200, the warm-up's and the late ones among them.
    pub accepted: u64,
    /// All that was no answer 200.
    pub failed: u64,
}

impl Tally {
    pub fn new() -> Self {
        Self { latency: Latency::new(), accepted: 0, failed: 0 }
    }

    /// Counts one answer, or the lack of one. `counts` says whether it is within the window.
    pub fn count(&mut self, answer: &std::io::Result<u16>, took: Duration, counts: bool) {
        match answer {
            Ok(200) => {
                self.accepted += 1;
                if counts {
                    self.latency.record(took);
                }
            }
            _ => self.failed += 1,
        }
    }

    fn merge(&mut self, other: &Self) {
        self.latency.merge(&other.latency);
        self.accepted += other.accepted;
        self.failed += other.failed;
    }
}

/// So many connections, on each of which the server has answered once: one that only waits in its backlog may be refused
/// there without a word, and the first request on it would take a second.
pub fn connect(server: SocketAddr, callers: usize) -> anyhow::Result<Vec<TcpStream>> {
    let connect = |_| {
        let mut stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: bench\r\n\r\n")?;
        // Whatever it answers is shorter than this, and comes in one piece.
        let _bytes = stream.read(&mut [0; 1024])?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    (0..callers).map(connect).collect::<std::io::Result<_>>().context("could not connect (ulimit -n?)")
}

/// Has `callers` ask for as long as `duration`, and looks at something at its start and its end.
pub fn closed<T>(
    server: SocketAddr,
    callers: usize,
    duration: Duration,
    look: impl Fn() -> T,
) -> anyhow::Result<(Tally, (T, T))> {
    let mut streams = connect(server, callers)?;
    let threads = thread::available_parallelism().map_or(1, usize::from).min(callers);
    let window = Window::of(duration);
    thread::scope(|scope| {
        let mut running = Vec::new();
        for thread in 0..threads {
            let share = streams.split_off(streams.len() - streams.len() / (threads - thread));
            running.push(scope.spawn(move || ask_all(server, share, thread, window)));
        }
        let looks = window.watch(look);
        let mut whole = Tally::new();
        for thread in running {
            let Ok(tally) = thread.join() else { bail!("the load died") };
            whole.merge(&tally?);
        }
        Ok((whole, looks))
    })
}

fn ask_all(server: SocketAddr, streams: Vec<TcpStream>, thread: usize, window: Window) -> anyhow::Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let tally = Arc::new(Mutex::new(Tally::new()));
        let mut callers = JoinSet::new();
        for (index, stream) in streams.into_iter().enumerate() {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            // Numbers of two threads never meet: there are fewer than 100,000 callers.
            let requests = Requests::new(server, thread * 100_000 + index);
            callers.spawn(ask(stream, requests, window, tally.clone()));
        }
        let patience = tokio::time::Instant::from_std(window.end + PATIENCE);
        tokio::time::timeout_at(patience, callers.join_all()).await.context("answers never came")?;
        let tally = Arc::into_inner(tally).context("a caller still asks")?;
        Ok(tally.into_inner())
    })
}

async fn ask(mut stream: tokio::net::TcpStream, mut requests: Requests, window: Window, tally: Arc<Mutex<Tally>>) {
    let mut answers = Answers::new();
    let mut asked = Instant::now();
    while asked < window.end {
        let answer = match stream.write_all(requests.next()).await {
            Ok(()) => answers.next(&mut stream).await,
            Err(error) => Err(error),
        };
        let now = Instant::now();
        tally.lock().count(&answer, now - asked, window.start <= now && now < window.end);
        if answer.is_err() {
            return;
        }
        asked = now;
    }
}
