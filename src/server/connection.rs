//! One connection: HTTP/1.1 or h2c, bounded in what it may have under way, ended when nobody speaks on it.
//!
//! Slow bodies are the handler's business; everything before a request is complete, and after it, is the clock's
//! (`patience`). What is malformed hyper answers itself, in HTTP/1 with 400 or 431 and no body, and closes.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tower::ServiceExt;

use super::activity::{Activity, Counted};
use super::patience::{DRAINING, SERVING, Watch};
use crate::api::body::MAX_BODY;
use crate::api::in_flight::InFlight;
use crate::api::{AppState, MAX_READING, customers};
use crate::supervisor::Supervisor;

/// The largest head of a request, in bytes: common proxies allow 8 to 16 KiB; twice that is generous. Of HTTP/1 it is also
/// what is read ahead, and written and not yet taken by the peer.
const MAX_HEAD: usize = 32 * 1024;

/// The most headers of a request of HTTP/1, which is hyper's own default; of HTTP/2 [`MAX_HEAD`] bounds them.
const MAX_HEADERS: usize = 100;

/// Requests at once on one HTTP/2 connection, as RFC 9113 recommends at least.
const MAX_STREAMS: u32 = 100;

/// Bytes of bodies under way on one HTTP/2 connection: four of the largest.
const CONNECTION_WINDOW: u32 = 4 * MAX_BODY as u32;

/// Streams that an HTTP/2 peer has opened and reset before we looked at them; with one more the connection ends. h2's own
/// default, against "rapid reset" (CVE-2023-44487): callers who give up do so later, and on few streams.
const MAX_RESET_UNSEEN: usize = 20;

/// Streams that we had to reset because their peer broke the protocol on them; with one more the connection ends. hyper's
/// own default (RUSTSEC-2024-0003): a peer that sends more streams than it may, before it has heard how many, stays below.
const MAX_RESET_BY_US: usize = 1024;

/// How often an HTTP/2 peer is asked whether it is there: while a request is answered, nothing else would tell.
const PING: Duration = Duration::from_secs(75);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) state: Arc<AppState>,
    pub(crate) router: Router,
    /// All places for connections are taken, and others wait.
    pub(crate) crowded: AtomicBool,
    /// Streams of HTTP/2 that are open, beside one on each connection: as many as may have a place for their body or in
    /// flight. One more is reset. A stream is open until its peer has room for the answer, and peers who give none have their
    /// answers kept until they are closed: 22 KB for `/metrics`, the largest that anyone may ask for.
    pub(crate) streams: InFlight,
}

impl Shared {
    pub(crate) fn new(state: Arc<AppState>) -> Self {
        let router = crate::api::router(state.clone());
        let streams = InFlight::new(MAX_READING.saturating_add(state.in_flight.max()));
        Self { state, router, crowded: AtomicBool::new(false), streams }
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve<S>(stream: S, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let supervisor = shared.state.supervisor.clone();
    let draining = supervisor.draining_token();
    let activity = Arc::new(Activity::default());
    let stream = TokioIo::new(Counted { stream, activity: activity.clone() });
    let builder = builder(Streams { supervisor, shared: shared.clone(), activity: activity.clone() });
    let of = Arc::new(Connection { shared, activity, reading: InFlight::new(1) });
    let served = of.clone();
    let service = service_fn(move |request| served.clone().answer(request));
    let mut connection = pin!(builder.serve_connection(stream, service));
    let mut patience = &SERVING;
    let mut ticks = ticks_of(patience.tick);
    let mut watch = Watch::default();
    let mut is_draining = false;
    loop {
        tokio::select! {
            // A caller who breaks the protocol or goes away is no news.
            _ended = connection.as_mut() => return,
            _ = ticks.tick() => {
                let crowded = of.shared.crowded.load(Ordering::Relaxed);
                if watch.is_over(of.activity.found(), patience, crowded) {
                    return;
                }
            }
            () = draining.cancelled(), if !is_draining => {
                is_draining = true;
                patience = &DRAINING;
                ticks = ticks_of(patience.tick);
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn builder(streams: Streams) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(streams);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESET_UNSEEN)
        .max_local_error_reset_streams(MAX_RESET_BY_US)
        .max_header_list_size(MAX_HEAD as u32)
        // What may be under way and unread on one connection, whatever the number of its streams.
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING);
    builder
}

fn ticks_of(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// What a connection's requests share.
struct Connection {
    shared: Arc<Shared>,
    activity: Arc<Activity>,
    /// The body that is being read, if one is.
    reading: InFlight,
}

impl Connection {
    /// The one path that is hot goes past the router and its boxes, for a sixth less CPU a request (`cargo bench`).
    async fn answer(self: Arc<Self>, request: hyper::Request<Incoming>) -> Result<Response, Infallible> {
        let _under_way = self.activity.begin();
        let request = request.map(Body::new);
        if request.method() == Method::POST && request.uri().path() == customers::PATH {
            return Ok(customers::answer(&self.shared.state, &self.reading, request).await);
        }
        Box::pin(self.shared.router.clone().oneshot(request)).await
    }
}

/// Starts the streams of an HTTP/2 connection.
#[derive(Clone)]
struct Streams {
    supervisor: Supervisor,
    shared: Arc<Shared>,
    activity: Arc<Activity>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    /// A stream for which there is no place is dropped, and so reset. One that is alone on its connection needs none, so that
    /// other connections, which are bounded themselves, cannot keep it from being served.
    fn execute(&self, stream: F) {
        let open = self.activity.clone().open();
        let shared = self.shared.clone();
        self.supervisor.spawn("stream", async move {
            let place = shared.streams.enter();
            if open.is_alone || place.is_some() {
                stream.await;
            }
            drop((place, open));
        });
    }
}
