//! The record of operators' requests: each is logged and counted, with its method, its route and the peer's address, and
//! without ids, queries and bodies.
//!
//! Every line of a request with the token is written. Refused requests have the limit of other lines, because everyone who
//! reaches the port can send them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::{Method, Request, StatusCode};
use tracing::field::{DisplayValue, display};

use crate::api::request_id;
use crate::metrics::Metrics;
use crate::server::Connection;
use crate::telemetry::EVERY_LINE;

/// The most characters of a method that are logged. The longest registered one has 17. One that a caller makes up may be as
/// long as a head.
const MAX_METHOD: usize = 20;

/// What is asked for, and by whom.
pub(super) struct Operation {
    request_id: Option<String>,
    method: Method,
    /// The pattern of the route, such as `/dead-letters/{id}`.
    route: &'static str,
    peer: Option<SocketAddr>,
}

impl Operation {
    pub(super) fn new<B>(request: &Request<B>, route: &'static str) -> Self {
        let request_id = request.headers().get(request_id::HEADER).and_then(|id| id.to_str().ok());
        Self {
            request_id: request_id.map(str::to_owned),
            method: request.method().clone(),
            route,
            peer: request.extensions().get::<Connection>().map(|connection| connection.peer),
        }
    }

    /// The method for a log line. It is ASCII.
    fn method(&self) -> &str {
        let method = self.method.as_str();
        method.get(..MAX_METHOD).unwrap_or(method)
    }

    /// Logs a request that was refused before it could do anything.
    pub(super) fn refused(&self, status: StatusCode) {
        let Self { request_id, route, .. } = self;
        let (method, status) = (self.method(), status.as_u16());
        tracing::warn!(request_id, method, route, peer = self.peer(), status, "an operator's request was refused");
    }

    /// The peer's address for a log line.
    fn peer(&self) -> Option<DisplayValue<SocketAddr>> {
        self.peer.map(display)
    }
}

/// The record of an operator's request. It is written when this is dropped, also after a time-out and for a caller who left.
pub(super) struct OperationRecord {
    what: Operation,
    metrics: Arc<Metrics>,
    status: Option<StatusCode>,
}

impl OperationRecord {
    pub(super) fn begin(what: Operation, metrics: Arc<Metrics>) -> Self {
        Self { what, metrics, status: None }
    }

    pub(super) fn ended(&mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for OperationRecord {
    fn drop(&mut self) {
        let is_success = self.status.is_some_and(|status| status.is_success());
        if is_success { &self.metrics.admin_succeeded } else { &self.metrics.admin_failed }.inc();
        let Operation { request_id, route, .. } = &self.what;
        let method = self.what.method();
        // Without a status there was no answer: the caller left, or it took too long.
        let status = self.status.map(|status| status.as_u16());
        let peer = self.what.peer();
        tracing::info!(name: EVERY_LINE, request_id, method, route, peer, status, "an operator's request");
    }
}
