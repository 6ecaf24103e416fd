//! Requests that come at a fixed rate, whether or not earlier ones were answered.
//!
//! Latency counts from when a request was due, not from when it was sent: a server that stalls is charged for all that
//! would have come meanwhile. (What the load itself is late, [`TICK`] at the most, is charged to the server too.)

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::exchange::{Answers, Requests};
use super::load::{Amount, Load, PATIENCE, Tally, Window, connect};

/// How often what is due is sent: often enough not to be seen in the numbers, seldom enough to be cheap.
const TICK: Duration = Duration::from_micros(200);

/// How often it is asked whether the last answer is there.
const LAST_ANSWERS: Duration = Duration::from_millis(5);

/// What the two threads share.
struct Shared {
    state: Mutex<State>,
}

struct State {
    tally: Tally,
    /// The connections on which nothing is under way.
    free: Vec<usize>,
    /// When the request that is under way on a connection was due.
    due: Vec<Instant>,
    under_way: usize,
    is_over: bool,
}

/// Sends `rate` requests a second over a connection a caller for as long as `duration`, and looks at something at its
/// start and its end.
pub fn open<T>(load: Load, rate: f64, duration: Duration, look: impl Fn() -> T) -> anyhow::Result<(Tally, (T, T))> {
    let Load { server, callers: connections, success } = load;
    let streams = connect(server, connections)?;
    let readers = streams.iter().map(TcpStream::try_clone).collect::<io::Result<Vec<_>>>()?;
    let requests = |caller| Requests::new(server, caller, Amount::NO_LIMIT.users);
    let writers = streams.into_iter().enumerate().map(|(caller, stream)| (stream, requests(caller)));
    let writers: Vec<_> = writers.collect();
    let (began, window) = (Instant::now(), Window::of(duration));
    let state = State {
        tally: Tally::new(success),
        free: (0..connections).collect(),
        due: vec![began; connections],
        under_way: 0,
        is_over: false,
    };
    let shared = Arc::new(Shared { state: Mutex::new(state) });
    thread::scope(|scope| {
        let reading = scope.spawn(|| read_all(readers, window, &shared));
        let writing = scope.spawn(|| write_all(writers, rate, began, window, &shared));
        let looks = window.watch(look);
        let Ok(()) = writing.join() else { bail!("the load died") };
        let Ok(read) = reading.join() else { bail!("the load died") };
        read?;
        let tally = std::mem::replace(&mut shared.state.lock().tally, Tally::new(success));
        Ok((tally, looks))
    })
}

/// Sends what is due, on whatever connection is free.
fn write_all(mut writers: Vec<(TcpStream, Requests)>, rate: f64, began: Instant, window: Window, shared: &Shared) {
    let mut sent = 0_u32;
    loop {
        let due = began + Duration::from_secs_f64(f64::from(sent) / rate);
        if due >= window.end {
            break;
        }
        let connection = if due <= Instant::now() { shared.state.lock().begin(due) } else { None };
        let Some(connection) = connection else {
            thread::sleep(TICK);
            continue;
        };
        sent += 1;
        let Some((stream, requests)) = writers.get_mut(connection) else { continue };
        // Nothing else is under way on this connection: a request always finds room.
        if let Err(error) = stream.write_all(requests.next()) {
            shared.state.lock().end(connection, &Err(error), window);
        }
    }
    shared.state.lock().is_over = true;
}

fn read_all(streams: Vec<TcpStream>, window: Window, shared: &Arc<Shared>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut readers = JoinSet::new();
        for (connection, stream) in streams.into_iter().enumerate() {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            readers.spawn(read(stream, connection, window, shared.clone()));
        }
        let all_answered = async {
            while !shared.state.lock().is_answered() {
                tokio::time::sleep(LAST_ANSWERS).await;
            }
        };
        let patience = tokio::time::Instant::from_std(window.end + PATIENCE);
        tokio::time::timeout_at(patience, all_answered).await.context("answers never came")
    })
}

async fn read(mut stream: tokio::net::TcpStream, connection: usize, window: Window, shared: Arc<Shared>) {
    let mut answers = Answers::new();
    loop {
        let answer = answers.next(&mut stream).await;
        shared.state.lock().end(connection, &answer, window);
        if answer.is_err() {
            return;
        }
    }
}

impl State {
    /// A connection for a request that is due; none if something is under way on all of them.
    fn begin(&mut self, due: Instant) -> Option<usize> {
        let connection = self.free.pop()?;
        *self.due.get_mut(connection)? = due;
        self.under_way += 1;
        Some(connection)
    }

    /// A request was answered, or never will be: then its connection is not used again.
    fn end(&mut self, connection: usize, answer: &io::Result<u16>, window: Window) {
        let Some(due) = self.due.get(connection) else { return };
        self.tally.count(answer, due.elapsed(), *due, window);
        self.under_way = self.under_way.saturating_sub(1);
        if answer.is_ok() {
            self.free.push(connection);
        }
    }

    fn is_answered(&self) -> bool {
        self.is_over && self.under_way == 0
    }
}
