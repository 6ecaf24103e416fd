//! Callers who each wait for an answer before they ask again, on connections that are kept.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};
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

/// Whom to ask, and what to take for a success.
#[derive(Clone, Copy)]
pub struct Load {
    pub server: SocketAddr,
    /// How many ask at once.
    pub callers: usize,
    /// The one status that does not count as failed.
    pub success: u16,
}

/// How much the callers ask.
#[derive(Clone, Copy)]
pub struct Amount {
    /// All callers together.
    pub requests: u64,
    /// A caller's users, who are asked about in turn.
    pub users: u64,
}

impl Amount {
    /// Until the time is over, each request for a user of its own.
    pub const NO_LIMIT: Self = Self { requests: u64::MAX, users: u64::MAX };

    /// One caller's share of the requests.
    fn of(self, caller: usize, callers: usize) -> u64 {
        let (caller, callers) = (caller as u64, callers as u64);
        self.requests / callers + u64::from(caller < self.requests % callers)
    }
}

/// The least requests a second that [`fill`] waits for: a tenth of what a debug build on a busy machine does.
const SLOWEST_FILL: u64 = 200;

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

    fn of_instant(self, at: Instant) -> When {
        if at < self.start {
            When::Before
        } else if at < self.end {
            When::Within
        } else {
            When::Late
        }
    }
}

/// Where in the window something was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    Within,
    Late,
}

/// What the callers heard.
pub struct Tally {
    success: u16,
    /// Of the successes within the window.
    pub latency: Latency,
    /// Successes after the window.
    pub late: u64,
    /// All successes, the warm-up's and the late ones among them.
    pub succeeded: u64,
    /// All that was no success.
    pub failed: u64,
}

impl Tally {
    /// Nothing yet; answers with this status will be successes.
    pub fn new(success: u16) -> Self {
        Self { success, latency: Latency::new(), late: 0, succeeded: 0, failed: 0 }
    }

    /// Counts one answer, or the lack of one. `at` is what is, or is not, within the window.
    pub fn count(&mut self, answer: &std::io::Result<u16>, took: Duration, at: Instant, window: Window) {
        match answer {
            Ok(status) if *status == self.success => {
                self.succeeded += 1;
                match window.of_instant(at) {
                    When::Before => {}
                    When::Within => self.latency.record(took),
                    When::Late => self.late += 1,
                }
            }
            _ => self.failed += 1,
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.latency.merge(&other.latency);
        self.late += other.late;
        self.succeeded += other.succeeded;
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

/// Has the callers ask for as long as `duration`, and looks at something at its start and its end.
pub fn closed<T>(load: Load, duration: Duration, look: impl Fn() -> T) -> anyhow::Result<(Tally, (T, T))> {
    let streams = connect(load.server, load.callers)?;
    let window = Window::of(duration);
    thread::scope(|scope| {
        let asking = start(scope, streams, load, window, Amount::NO_LIMIT);
        let looks = window.watch(look);
        Ok((finish(asking, load)?, looks))
    })
}

/// Has the callers ask so many times. Returns how long that took, too.
pub fn fill(load: Load, amount: Amount) -> anyhow::Result<(Tally, Duration)> {
    let streams = connect(load.server, load.callers)?;
    let began = Instant::now();
    let window = Window { start: began, end: began + PATIENCE + Duration::from_secs(amount.requests / SLOWEST_FILL) };
    let tally = thread::scope(|scope| finish(start(scope, streams, load, window, amount), load))?;
    Ok((tally, began.elapsed()))
}

type Asking<'scope> = Vec<ScopedJoinHandle<'scope, anyhow::Result<Tally>>>;

/// Spreads the callers over a thread a core.
fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    streams: Vec<TcpStream>,
    load: Load,
    window: Window,
    amount: Amount,
) -> Asking<'scope> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(load.callers);
    let mut callers: Vec<(usize, TcpStream)> = streams.into_iter().enumerate().collect();
    let share = |thread| callers.split_off(callers.len() - callers.len() / (threads - thread));
    let shares: Vec<_> = (0..threads).map(share).collect();
    shares.into_iter().map(|share| scope.spawn(move || ask_all(share, load, window, amount))).collect()
}

fn finish(asking: Asking<'_>, load: Load) -> anyhow::Result<Tally> {
    let mut whole = Tally::new(load.success);
    for thread in asking {
        let Ok(tally) = thread.join() else { bail!("the load died") };
        whole.merge(&tally?);
    }
    Ok(whole)
}

fn ask_all(callers: Vec<(usize, TcpStream)>, load: Load, window: Window, amount: Amount) -> anyhow::Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let tally = Arc::new(Mutex::new(Tally::new(load.success)));
        let mut asking = JoinSet::new();
        for (caller, stream) in callers {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            let requests = Requests::new(load.server, caller, amount.users);
            asking.spawn(ask(stream, requests, amount.of(caller, load.callers), window, tally.clone()));
        }
        let patience = tokio::time::Instant::from_std(window.end + PATIENCE);
        tokio::time::timeout_at(patience, asking.join_all()).await.context("answers never came")?;
        let tally = Arc::into_inner(tally).context("a caller still asks")?;
        Ok(tally.into_inner())
    })
}

async fn ask(
    mut stream: tokio::net::TcpStream,
    mut requests: Requests,
    mut left: u64,
    window: Window,
    tally: Arc<Mutex<Tally>>,
) {
    let mut answers = Answers::new();
    let mut asked = Instant::now();
    while asked < window.end && left > 0 {
        left -= 1;
        let answer = match stream.write_all(requests.next()).await {
            Ok(()) => answers.next(&mut stream).await,
            Err(error) => Err(error),
        };
        let now = Instant::now();
        tally.lock().count(&answer, now - asked, now, window);
        if answer.is_err() {
            return;
        }
        asked = now;
    }
}
