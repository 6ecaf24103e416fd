//! One connection: HTTP/1.1 or h2c, bounded in what it may have under way, closed when its peer makes no progress, and
//! ended so that a peer who keeps connections loses no request.
//!
//! The service times the body of a request. `idle` times everything before the head is complete and after the answer is
//! ready. hyper itself answers malformed requests, in HTTP/1 with 400 or 431 and no body, and closes the connection.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::mem;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::unconstrained;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tower::Service;

use super::activity::{ActivityCounts, AwaitedBody, Turn};
use super::head_bounds::{HeadBounds, MAX_HEADERS};
use super::idle::{ENDING, IdlePolicy, IdleTracker, MAKING_ROOM, Verdict};
use super::limits::Limits;
use super::places::{Notice, Place, Places};
use super::stream::{CountedStream, LINGER, SHORT_LINGER, Transport, close};
use crate::metrics::ListenerMetrics;
use crate::supervisor::Supervisor;

/// The largest head of a request, in bytes. Common proxies allow 8 to 16 KiB; twice that is generous. In HTTP/1 it also
/// bounds what is read ahead, and what is written and not yet taken by the peer.
const MAX_HEAD: usize = 32 * 1024;

/// Requests at once on one HTTP/2 connection: the least that RFC 9113 recommends.
const MAX_STREAMS: u32 = 100;

/// Unread bytes of bodies on one HTTP/2 connection, whatever the number of its streams: four bodies of 64 KiB.
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// Streams that an HTTP/2 peer has opened and reset before the server looked at them. With one more the connection ends.
/// This is h2's own default against "rapid reset" (CVE-2023-44487).
const MAX_PEER_RESETS: usize = 20;

/// Streams that the server had to reset because their peer broke the protocol. With one more the connection ends. This is
/// hyper's own default (RUSTSEC-2024-0003). A peer that opens too many streams before it has heard the limit stays below.
const MAX_LOCAL_RESETS: usize = 1024;

/// How often an HTTP/2 peer is pinged. While a request is answered, only the ping shows whether the peer is still
/// there.
const PING_INTERVAL: Duration = Duration::from_secs(75);

/// What a connection shares with its requests. Each request carries it as an extension.
#[derive(Clone)]
pub struct Connection {
    /// The address at the other end, which may be that of a proxy.
    pub peer: SocketAddr,
    activity: Arc<ActivityCounts>,
}

impl Connection {
    pub(super) fn new(peer: SocketAddr, activity: Arc<ActivityCounts>) -> Self {
        Self { peer, activity }
    }

    /// Says that a request waits for its body until the guard is dropped. Such a request does not keep the connection from
    /// making room for others.
    pub fn await_body(&self) -> AwaitedBody<'_> {
        self.activity.await_body()
    }

    /// Says that a request has shown a secret. While places for connections are short, this one then stays rather than those
    /// that have shown none.
    pub fn set_known(&self) {
        self.activity.set_known();
    }
}

/// What all connections share.
pub(super) struct ServerState {
    supervisor: Supervisor,
    /// How long an idle connection stays open.
    keep_alive: Duration,
    pub(super) places: Arc<Places>,
    /// Permits for open HTTP/2 streams, beside one stream on each connection. A stream is open until its peer has room for
    /// the answer, and answers are kept in memory until then.
    pub(super) streams: Semaphore,
    heads: HeadBounds,
}

impl ServerState {
    pub(super) fn new(supervisor: Supervisor, limits: Limits, metrics: ListenerMetrics) -> Self {
        Self {
            supervisor,
            keep_alive: limits.keep_alive,
            places: Places::new(limits.connections, metrics),
            streams: Semaphore::new(limits.streams.min(Semaphore::MAX_PERMITS)),
            heads: HeadBounds::new(),
        }
    }
}

/// How far the end of the process is, for a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    Stopping,
    Closing,
    Draining,
    Cancelled,
}

/// Serves one connection until its end, with one `service` for all its requests.
pub(super) async fn serve_connection<T, S, B>(
    stream: T,
    (place, notice): (Place, Notice),
    service: S,
    shared: Arc<ServerState>,
) where
    T: Transport,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Send + 'static,
    B: HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Default + Send + 'static,
{
    let (owner, mut returned) = oneshot::channel();
    let place = Arc::new(place);
    let verdict = serve_until_end(stream, place.clone(), notice, owner, service, shared).await;
    // A peer that made no progress would not read the end either.
    if verdict != Verdict::Stuck
        && let Ok(stream) = returned.try_recv()
    {
        close(stream, if place.is_scarce() { SHORT_LINGER } else { LINGER }).await;
    }
}

/// Serves one connection until its end, and returns why it ended. The stream is then sent to `owner`.
async fn serve_until_end<T, S, B>(
    stream: T,
    place: Arc<Place>,
    mut notice: Notice,
    owner: oneshot::Sender<T>,
    service: S,
    shared: Arc<ServerState>,
) -> Verdict
where
    T: Transport,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Send + 'static,
    B: HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Default + Send + 'static,
{
    let supervisor = &shared.supervisor;
    let mut serving = Some(supervisor.serving_token());
    let activity = &place.activity;
    let open_blocks = shared.heads.open_blocks.clone();
    let stream = TokioIo::new(CountedStream::new(stream, owner, activity.clone(), open_blocks));
    let builder = builder(StreamExecutor { shared: shared.clone(), activity: activity.clone() });
    let requests = Arc::new(Requests {
        service: Mutex::new(service),
        connection: Connection::new(place.peer, activity.clone()),
        place: place.clone(),
        shared: shared.clone(),
    });
    let mut connection =
        pin!(builder.serve_connection(stream, service_fn(move |request| requests.clone().answer(request))));
    let mut policy = IdlePolicy::serving(shared.keep_alive);
    let mut ticks = ticks(policy.tick);
    let mut tracker = IdleTracker::default();
    let (mut stage, mut next_stage) = (Stage::Serving, supervisor.stopping_token());
    let accepted_at = Instant::now();
    // hyper was told to end the connection.
    let mut is_ending = false;
    // The connection was told to make room for others, and does so at once: no request is being answered.
    let (mut is_told, mut makes_room) = (false, false);
    loop {
        let served = poll_fn(|cx| {
            let served = connection.as_mut().poll(cx);
            // An HTTP/2 peer can be told at any time, and loses nothing: GOAWAY says which requests are answered. An HTTP/1
            // peer hears it with its next answer. While places are short, each connection has had one answer before it ends.
            let ends = supervisor.is_stopping() || (activity.has_answered() && place.ends_with_answer());
            if served.is_ready() || !activity.is_http2() || !ends || mem::replace(&mut is_ending, true) {
                return served;
            }
            connection.as_mut().graceful_shutdown();
            connection.as_mut().poll(cx)
        });
        tokio::select! {
            // What has come is read before the process's next stage is entered, and before the connection makes room.
            biased;
            // A peer that breaks the protocol or goes away is no event worth a log line. One that was idle when it made room has
            // nothing left to read.
            _ended = served => {
                return if makes_room && !activity.is_http2() { Verdict::Stuck } else { Verdict::Idle };
            }
            _ = &mut notice, if !is_told => {
                let turn = activity.turn();
                if turn == Turn::Peer && !activity.has_begun() && !activity.is_http2() {
                    return Verdict::Stuck;
                }
                place.leave();
                (is_told, is_ending, makes_room) = (true, true, turn != Turn::Server);
                policy = if makes_room { MAKING_ROOM } else { ENDING };
                ticks = self::ticks(policy.tick);
                connection.as_mut().graceful_shutdown();
            }
            // A peer that sends without a pause uses up the runtime's budget for this task, without which no timer fires.
            _ = unconstrained(ticks.tick()) => {
                // A peer that was told and does not go has no time to spare while places are short.
                let hurries = is_ending && !makes_room && place.is_scarce();
                match tracker.judge(activity.snapshot(), if hurries { &ENDING } else { &policy }) {
                    Verdict::Stays if makes_room && activity.turn() == Turn::Peer => return Verdict::Stuck,
                    Verdict::Stays if is_ending || !place.is_overdue() || activity.turn() == Turn::Server => {}
                    Verdict::Stays | Verdict::Idle if !is_ending => {
                        is_ending = true;
                        policy = ENDING;
                        ticks = self::ticks(policy.tick);
                        connection.as_mut().graceful_shutdown();
                    }
                    verdict => {
                        if verdict == Verdict::Stuck && !is_told {
                            shared.places.metrics.slow.inc();
                        }
                        return verdict;
                    }
                }
            }
            () = next_stage.cancelled(), if stage != Stage::Cancelled => {
                (stage, next_stage, policy) = match stage {
                    Stage::Serving => (Stage::Stopping, supervisor.closing_token(), policy.stopping()),
                    Stage::Stopping => (Stage::Closing, supervisor.draining_token(), policy.closing()),
                    Stage::Closing => {
                        // The first request of a new connection is on its way. If it does not come, the next tick ends the
                        // connection.
                        if activity.has_read() || accepted_at.elapsed() >= ENDING.tick {
                            is_ending = true;
                            connection.as_mut().graceful_shutdown();
                        }
                        (Stage::Draining, supervisor.cancelled_token(), ENDING)
                    }
                    Stage::Draining | Stage::Cancelled => {
                        // Nothing is cut off of a connection on which nothing is half done.
                        if !activity.snapshot().is_half_done {
                            drop(serving.take());
                        }
                        (Stage::Cancelled, next_stage, ENDING)
                    }
                };
                ticks = self::ticks(policy.tick);
            }
        }
    }
}

fn builder(executor: StreamExecutor) -> auto::Builder<StreamExecutor> {
    let mut builder = auto::Builder::new(executor);
    builder
        .http1()
        .timer(TokioTimer::new())
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PEER_RESETS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .max_header_list_size(MAX_HEAD as u32)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_INTERVAL);
    builder
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The requests of one connection.
struct Requests<S> {
    /// The streams of an HTTP/2 connection share it. They run on one thread, so the lock is never contended.
    service: Mutex<S>,
    connection: Connection,
    place: Arc<Place>,
    shared: Arc<ServerState>,
}

impl<S> Requests<S> {
    async fn answer<B: Default>(self: Arc<Self>, mut request: Request<Incoming>) -> Result<Response<B>, Infallible>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    {
        let _request = self.place.activity.begin_request(self.shared.places.clock());
        let version = request.version();
        let head = if version < Version::HTTP_2 { Ok(None) } else { self.shared.heads.admit(&request) };
        let Ok(_head) = head else {
            // What hyper says to a head that is too large.
            let mut response = Response::new(B::default());
            *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Ok(response);
        };
        request.extensions_mut().insert(self.connection.clone());
        let mut request = Some(request);
        let response = poll_fn(|cx| {
            let mut service = self.service.lock();
            // The error type has no values.
            let Ok(()) = ready!(service.poll_ready(cx));
            // The service is called once: this closure is not polled again after it was ready.
            request.take().map_or(Poll::Pending, |request| Poll::Ready(service.call(request)))
        });
        // The error type has no values.
        let Ok(mut response) = response.await.await;
        if self.shared.supervisor.is_stopping() {
            self.shared.supervisor.note_answer();
        }
        if version < Version::HTTP_2 && (self.shared.supervisor.is_stopping() || self.place.ends_with_answer()) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if version == Version::HTTP_10 && response.headers().contains_key(CONNECTION) {
            // hyper would add `keep-alive` to the `close` of a later version.
            *response.version_mut() = version;
        }
        Ok(response)
    }
}

/// Starts the streams of an HTTP/2 connection.
#[derive(Clone)]
struct StreamExecutor {
    shared: Arc<ServerState>,
    activity: Arc<ActivityCounts>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for StreamExecutor {
    /// A stream without a permit is dropped, which resets it. The only stream of a connection needs no permit, so that other
    /// connections, which are bounded themselves, cannot keep it from being served.
    fn execute(&self, stream: F) {
        let open = self.activity.clone().open_stream();
        let shared = self.shared.clone();
        self.shared.supervisor.spawn("stream", async move {
            let permit = shared.streams.try_acquire();
            if open.is_only_one || permit.is_ok() {
                stream.await;
            }
            drop((permit, open));
        });
    }
}
