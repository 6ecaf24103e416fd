//! A local stand-in for Segment's Tracking API: takes calls as Segment does, shows what it got, fails on request.
//!
//! Invariants:
//! - `serve` owns the set of connections, so nothing outlives `serve`.
//! - The calls of one request are kept under one lock in one step, so `GET /events` is the order of arrival.
//! - Memory is bounded: bodies, kept events, logged requests, connections.
//!
//! It does not speak TLS or HTTP/2, forwards nothing to Segment, checks no write key, and keeps nothing on disk. Anyone who
//! can reach it can read write keys in `GET /requests`, so it must not listen on a public address. Web pages cannot reach its
//! own routes through a browser on this machine (`same_site`).

mod body;
mod call;
mod control;
mod events;
mod faults;
mod history;
mod parse;
mod request_log;
mod same_site;
mod state;
#[cfg(test)]
mod tests;
mod tracking;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceExt;

pub use same_site::refuse_cross_site;
use tracking::ResetConnection;

/// Connections at once; more wait in the kernel's queue. Far above the relay's 256 slots and a few hundred hung ones.
const MAX_CONNECTIONS: usize = 8_192;

/// Pause after a failed accept (no file descriptors left): an immediate retry would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the sandbox on `listener` until `stop` resolves, then closes every connection and returns. A failed accept is
/// logged and tried again.
pub async fn serve(listener: TcpListener, stop: impl Future<Output = ()> + Send) {
    // Without an address it is treated as one that nobody else can reach.
    let router = router(listener.local_addr().is_ok_and(|address| !address.ip().to_canonical().is_loopback()));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, router.clone()));
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
}

fn router(is_public: bool) -> Router {
    const OTHER_METHOD: &str = "this endpoint has another method";
    let own = Router::new()
        .route("/events", get(control::events))
        .route("/stats", get(control::stats))
        .route("/requests", get(control::requests))
        .route("/reset", post(control::reset))
        .route("/faults", get(control::faults).post(control::set_faults))
        .route("/healthz", get(async || Json(json!({"status": "ok"}))))
        .route("/", get(control::home))
        .method_not_allowed_fallback(async || control::error(StatusCode::METHOD_NOT_ALLOWED, OTHER_METHOD));
    refuse_cross_site(own, !is_public)
        .route("/v1/{*endpoint}", post(tracking::receive))
        .fallback(async || control::error(StatusCode::NOT_FOUND, "no such endpoint"))
        .method_not_allowed_fallback(async || control::error(StatusCode::METHOD_NOT_ALLOWED, OTHER_METHOD))
        .with_state(Arc::default())
}

/// Serves one connection to its end. Errors of the connection are not reported: the peer sees them.
async fn serve_connection(stream: TcpStream, router: Router) {
    // Nagle's algorithm would delay the small answers. If the socket refuses the option it is about to fail anyway.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = router.clone().oneshot(request);
        async move {
            let Ok(response) = answer.await;
            let is_reset = response.extensions().get::<ResetConnection>().is_some();
            if is_reset { Err("the connection is to be reset") } else { Ok(response) }
        }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // hyper reports the service's own error as the user's.
    if (&mut connection).await.is_err_and(|error| error.is_user()) {
        // The kernel sends RST instead of FIN when a socket with a linger time of zero is closed.
        let stream = connection.into_parts().io.into_inner();
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
}
