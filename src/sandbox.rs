//! A local stand-in for Segment's Tracking API: takes calls as Segment does, shows what it got, misbehaves on request.
//!
//! Invariants:
//! - A connection lives in the set that `serve` owns, so nothing outlives `serve`.
//! - The calls of one request are kept under one lock in one go: `GET /events` is the order of arrival.
//! - Memory is bounded: bodies, kept events, remembered requests, connections.
//!
//! It does not speak TLS or HTTP/2, forwards nothing to Segment, checks no write key, and keeps nothing on disk. Write
//! keys are readable by whoever asks for `GET /requests`: not a service for a public address.

mod body;
mod call;
mod control;
mod dropped;
mod events;
mod faults;
mod intake;
mod record;
mod requests;
#[cfg(test)]
mod tests;
mod tracking;

use std::convert::Infallible;
use std::error::Error;
use std::hash::RandomState;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{get, post};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceExt;

use faults::Faults;
use record::Record;

/// Connections at once; more wait in the kernel's queue. Far above the relay's 256 slots and a few hundred hung ones.
const MAX_CONNECTIONS: usize = 8_192;

/// How long to wait after the system could not accept (no file descriptors left): trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the sandbox on `listener` until `stop` resolves, then cuts every connection and returns.
///
/// # Errors
/// None today: a failed accept is logged and tried again. The result leaves room for a listener that is lost for good.
pub async fn serve(listener: TcpListener, stop: impl Future<Output = ()> + Send) -> io::Result<()> {
    let router = router();
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, router.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the sandbox could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
    connections.shutdown().await;
    Ok(())
}

/// What all connections share. Neither lock is ever held across an await.
struct Sandbox {
    faults: Mutex<Faults>,
    record: Mutex<Record>,
    /// Makes the hashes of message ids; shared so that they can be made before the record is locked.
    hashes: RandomState,
}

impl Sandbox {
    fn new() -> Self {
        Self {
            faults: Mutex::new(Faults::default()),
            record: Mutex::new(Record::new(events::Limits::default())),
            hashes: RandomState::new(),
        }
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn router() -> Router {
    Router::new()
        .route("/v1/{*endpoint}", post(tracking::take))
        .route("/events", get(control::events))
        .route("/stats", get(control::stats))
        .route("/requests", get(control::requests))
        .route("/reset", post(control::reset))
        .route("/faults", get(control::faults).post(control::set_faults))
        .route("/healthz", get(control::healthz))
        .route("/", get(control::home))
        .fallback(control::not_found)
        .method_not_allowed_fallback(control::method_not_allowed)
        .with_state(Arc::new(Sandbox::new()))
}

/// Put on a response that must never be sent: the connection is reset instead.
#[derive(Clone, Copy, Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is to be reset")
    }
}

impl Error for Cut {}

/// Serves one connection to its end; what went wrong on it is the peer's business.
async fn converse(stream: TcpStream, router: Router) {
    // Answers are small; Nagle's algorithm would only hold them back. A socket that refuses this is about to fail anyway.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            let answer: Result<Response, Infallible> = router.oneshot(request.map(Body::new)).await;
            match answer {
                Ok(response) if response.extensions().get::<Cut>().is_some() => Err(Cut),
                Ok(response) => Ok(response),
            }
        }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = (&mut connection).await
        && error.source().is_some_and(|cause| cause.is::<Cut>())
    {
        // Closing a socket that lingers for zero seconds makes the kernel send RST instead of FIN.
        let stream = connection.into_parts().io.into_inner();
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
}
