//! A relay is replaced while senders keep their connections, and no request is lost.
//!
//! Between senders and relays is a line of 10 ms each way, as a Kubernetes Service or a network balancer is one: it leads new
//! connections to the newest relay, and keeps those that it has. `POOLED_STOPS=100` makes it a longer test.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};

use crate::harness::{App, LONG_PATIENCE, Raw, Relay, customer, eventually};

/// How long the line takes, each way.
const LATENCY: Duration = Duration::from_millis(10);

/// Senders, each with a connection that it keeps.
const SENDERS: usize = 72;

/// Longest pause of a sender in milliseconds, and that of one in ten pauses: longer than the shutdown delay of 1 s, and
/// shorter than the 5 s for which an idle connection stays open.
const PAUSE: u64 = 300;
const LONG_PAUSE: u64 = 2_500;

/// A sender does not use a connection that was idle for so long, as a pool of connections does: a busy machine may make a
/// pause longer.
const MAX_IDLE: Duration = Duration::from_secs(4);

/// What the line may take longer than its latency on a busy machine. A request that it carries for longer may meet the end of a
/// connection that was idle for 5 s, whatever the relay does.
const MAX_LATE: Duration = Duration::from_millis(500);

/// What the line and the senders share with the test.
struct Stage {
    /// Where new connections go.
    relay: Cell<SocketAddr>,
    answered: Cell<u64>,
    /// What became of each request without an answer, or with another answer than success.
    lost: RefCell<Vec<String>>,
    /// When the line was last found to be late.
    late_at: Cell<Option<Instant>>,
    is_over: Cell<bool>,
}

/// Takes connections, and leads each to the relay that is the newest.
async fn run_line(listener: TcpListener, stage: Rc<Stage>) {
    let mut pipes = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.expect("a connection");
        let Ok(far) = TcpStream::connect(stage.relay.get()).await else { continue };
        near.set_nodelay(true).expect("a socket");
        far.set_nodelay(true).expect("a socket");
        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
        pipes.spawn_local(pipe(near_read, far_write, stage.clone()));
        pipes.spawn_local(pipe(far_read, near_write, stage.clone()));
        while pipes.try_join_next().is_some() {}
    }
}

/// Carries bytes, and their end, with the latency of the line.
async fn pipe(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, stage: Rc<Stage>) {
    let (send, mut under_way) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async move {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = from.read(&mut buffer).await.unwrap_or(0);
            let is_over = send.send((Instant::now() + LATENCY, buffer[..count].to_vec())).is_err();
            if is_over || count == 0 {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = under_way.recv().await {
            tokio::time::sleep_until(due.into()).await;
            if due.elapsed() > MAX_LATE {
                stage.late_at.set(Some(Instant::now()));
            }
            if bytes.is_empty() || to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        // The other end may be gone.
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}

/// Posts with pauses, on one connection for as long as it stays open.
async fn run_sender(line: SocketAddr, name: String, mut random: Rng, stage: Rc<Stage>) {
    let mut kept: Option<(Raw, Instant)> = None;
    for number in 0.. {
        let longest = if random.u8(..10) == 0 { LONG_PAUSE } else { PAUSE };
        tokio::time::sleep(Duration::from_millis(random.u64(..longest))).await;
        if stage.is_over.get() {
            return;
        }
        let usable =
            |(connection, answered): &mut (Raw, Instant)| answered.elapsed() < MAX_IDLE && !connection.has_ended();
        let is_usable = kept.as_mut().is_some_and(usable);
        let mut connection = match kept.take().filter(|_| is_usable) {
            Some((connection, _)) => connection,
            None => Raw::connect(line).await,
        };
        let sent = Instant::now();
        let posted = connection.try_post(&customer(&format!("{name}-{number}")).to_string()).await;
        let answer = if posted.is_ok() { connection.answer_within(LONG_PATIENCE).await } else { None };
        match answer {
            Some(answer) if answer.is_accepted() => {
                stage.answered.set(stage.answered.get() + 1);
                let is_last = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
                kept = (!is_last).then(|| (connection, Instant::now()));
            }
            _ if stage.late_at.get().is_some_and(|late_at| late_at > sent) => {}
            other => stage.lost.borrow_mut().push(format!("{name}-{number} after {:?}: {other:?}", sent.elapsed())),
        }
    }
}

#[tokio::test]
async fn no_request_on_a_kept_connection_is_lost_when_the_relay_is_replaced() {
    let stops: u64 = std::env::var("POOLED_STOPS").map_or(3, |stops| stops.parse().expect("a number"));
    let app = App::start().await;
    let settings = [("SEGMENT_ENDPOINT", app.segment().url()), ("RELAY_LOG", "warn,segment_relay=info")];
    let mut relay = Relay::start(&settings).await;
    let stage = Rc::new(Stage {
        relay: Cell::new(relay.address()),
        answered: Cell::new(0),
        lost: RefCell::default(),
        late_at: Cell::default(),
        is_over: Cell::new(false),
    });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let line = listener.local_addr().expect("an address");
    let local = LocalSet::new();
    let running_line = local.spawn_local(run_line(listener, stage.clone()));
    let mut random = Rng::with_seed(9);
    let mut senders = JoinSet::new();
    for number in 0..SENDERS {
        senders.spawn_local_on(run_sender(line, format!("sender-{number}"), random.fork(), stage.clone()), &local);
    }
    let mut times = Vec::new();
    let replace = async {
        for stop in 0..stops {
            let next = Relay::start(&settings).await;
            // Nearly all have a connection to the old relay when it is stopped.
            let enough = stage.answered.get() + 10 * SENDERS as u64;
            eventually(async || stage.answered.get() >= enough).await;
            stage.relay.set(next.address());
            let mut old = std::mem::replace(&mut relay, next);
            old.process().signal("TERM");
            let begun = Instant::now();
            assert_eq!(old.process_mut().exit_code().await, Some(0));
            times.push(begun.elapsed());
            if stops > 3 {
                println!("stop {stop}: {:?}, lost so far: {}", begun.elapsed(), stage.lost.borrow().len());
            }
        }
        stage.is_over.set(true);
        while let Some(ended) = senders.join_next().await {
            ended.expect("a sender");
        }
    };
    local.run_until(replace).await;
    running_line.abort();
    let (answered, lost) = (stage.answered.get(), stage.lost.borrow());
    println!("{stops} stops, {answered} answered, {} lost, stops took {times:?}", lost.len());
    assert!(lost.is_empty(), "{} of {answered}: {lost:#?}", lost.len());
}
