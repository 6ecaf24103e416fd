//! Connections: HTTP/1.1 and h2c on one port, bounded in number, ended when nobody speaks on them.
//!
//! One coarse clock a connection covers every way of being slow before a request is complete: silence, half a preface,
//! half a header, an idle keep-alive. (Slow bodies are the handler's business.) hyper's own header timeout would set a
//! timer for each request instead. Connections are dealt out to a runtime a core, and stay there.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Method;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tower::ServiceExt;

use super::{Edge, customers};
use crate::lifecycle::Lifecycle;

/// Connections at once; more wait in the system's backlog. Each has a read buffer of up to 32 KiB.
const MAX_CONNECTIONS: usize = 10_000;

/// A connection on which no request was begun or ended between two ticks, and none is being answered, is closed. Longer
/// than the minute for which load balancers commonly keep theirs, so that they, not we, end an idle one.
const IDLE_TICK: Duration = Duration::from_secs(75);

/// While draining, a connection on which no request is being answered is closed after this long: time enough to read a
/// request that is on its way, and no reason to wait for one that is not.
const DRAINING_TICK: Duration = Duration::from_millis(500);

/// How long to wait when a connection cannot be accepted, which is when file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Requests at once on one HTTP/2 connection, as RFC 9113 recommends at least.
const MAX_STREAMS: u32 = 100;

/// Bytes of bodies under way on one HTTP/2 connection: four of the largest.
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// The largest head of a request, in bytes: common proxies allow 8 to 16 KiB; twice that is generous.
const MAX_HEAD: usize = 32 * 1024;

/// Serves until the process drains: then no connection is accepted any more, and those there are finish what they do.
pub async fn serve(listener: TcpListener, edge: Arc<Edge>) {
    let (router, life) = (super::router(edge.clone()), edge.life.clone());
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let runtimes = match runtimes(&life) {
        Ok(runtimes) => runtimes,
        Err(error) => {
            tracing::error!(%error, "could not start the threads for connections");
            return;
        }
    };
    let accept = async {
        for runtime in runtimes.iter().cycle() {
            // The semaphore is never closed; if it were, nothing could be accepted.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let stream = accept(&listener).await;
            let (edge, router) = (edge.clone(), router.clone());
            let connection = async move {
                // What fails here is a connection that is gone already.
                if let Ok(stream) = TcpStream::from_std(stream) {
                    connection(stream, edge, router).await;
                }
                drop(place);
            };
            life.spawn_on(runtime, "connection", connection);
        }
    };
    tokio::select! {
        () = accept => {}
        () = life.draining() => {}
    }
}

/// A runtime a core, each with one thread: connections are dealt out to them and stay there, so that a request never
/// wakes a thread but its own. With 512 callers that brings 15 % more requests, and 20 % with an outbox (`cargo bench`).
fn runtimes(life: &Lifecycle) -> std::io::Result<Vec<Handle>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (0..cores).map(|_| life.runtime("connections")).collect()
}

/// The next connection, registered with no runtime yet.
async fn accept(listener: &TcpListener) -> std::net::TcpStream {
    loop {
        let accepted = listener.accept().await.and_then(|(stream, _peer)| {
            // Without it answers wait for acknowledgements; if it cannot be had, they do.
            let _ = stream.set_nodelay(true);
            stream.into_std()
        });
        match accepted {
            Ok(stream) => return stream,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, edge: Arc<Edge>, router: Router) {
    let life = edge.life.clone();
    let draining = life.draining_token();
    // One count for both, which no other connection changes: what all cores count on is slow to count.
    let of = Arc::new(Connection { edge, router, activity: Activity::default() });
    let served = of.clone();
    let service = service_fn(move |request| served.clone().answer(request));
    let mut builder = auto::Builder::new(Streams(life.clone()));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32)
        // What may be under way and unread on one connection, whatever the number of its streams.
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(IDLE_TICK);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut ticks = ticks_of(IDLE_TICK);
    let mut before = (0, 0);
    let mut is_draining = false;
    loop {
        tokio::select! {
            // A caller who breaks the protocol or goes away is no news.
            _ended = connection.as_mut() => return,
            _ = ticks.tick() => {
                let now = of.activity.so_far();
                if now == before && now.0 == now.1 {
                    return;
                }
                before = now;
            }
            () = draining.cancelled(), if !is_draining => {
                is_draining = true;
                ticks = ticks_of(DRAINING_TICK);
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn ticks_of(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// What a connection's requests share.
struct Connection {
    edge: Arc<Edge>,
    router: Router,
    activity: Activity,
}

impl Connection {
    /// The one path that is hot goes past the router and its boxes, for a sixth less CPU a request (`cargo bench`).
    async fn answer(self: Arc<Self>, request: hyper::Request<Incoming>) -> Result<Response, Infallible> {
        let _under_way = self.activity.begin();
        let request = request.map(Body::new);
        if request.method() == Method::POST && request.uri().path() == customers::PATH {
            return Ok(customers::answer(&self.edge, request).await);
        }
        Box::pin(self.router.clone().oneshot(request)).await
    }
}

/// What happened on a connection so far.
#[derive(Default)]
struct Activity {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Activity {
    /// Requests begun, and ended.
    fn so_far(&self) -> (u64, u64) {
        (self.begun.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed))
    }
}

/// A request that is being answered, ended when this is dropped.
struct RequestUnderWay<'a>(&'a Activity);

impl Activity {
    fn begin(&self) -> RequestUnderWay<'_> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        RequestUnderWay(self)
    }
}

impl Drop for RequestUnderWay<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Starts the streams of an HTTP/2 connection.
#[derive(Clone)]
struct Streams(Lifecycle);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.spawn("stream", stream);
    }
}
