//! The record of operators' requests: each is logged and counted, with its method, its route and the peer's address, and
//! without ids, queries and bodies.
//!
//! Refused requests are bounded in the log, because everyone who reaches the port can send them: the first is logged, and
//! the number of those that follow within a second.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, Request, StatusCode};
use parking_lot::Mutex;
use tracing::field::{DisplayValue, display};

use crate::api::request_id;
use crate::metrics::Metrics;
use crate::server::Connection;
use crate::supervisor::Supervisor;

/// How long refused requests are only counted after one was logged.
const REFUSALS_INTERVAL: Duration = Duration::from_secs(1);

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
        let Operation { request_id, method, route, .. } = &self.what;
        // Without a status there was no answer: the caller left, or it took too long.
        let status = self.status.map(|status| status.as_u16());
        tracing::info!(request_id, %method, route, peer = self.what.peer(), status, "an operator's request");
    }
}

/// The number of refused requests that are not logged yet. `None`: the next one is logged.
#[derive(Clone, Default)]
pub(super) struct RefusalLog(Arc<Mutex<Option<u64>>>);

impl RefusalLog {
    /// Logs a request that was refused before it could do anything, or counts it if another one was logged within the last
    /// second.
    pub(super) fn refused(&self, supervisor: &Supervisor, what: &Operation, status: StatusCode) {
        {
            let mut count = self.0.lock();
            if let Some(count) = &mut *count {
                *count += 1;
                return;
            }
            *count = Some(0);
        }
        let Operation { request_id, method, route, .. } = what;
        let status = status.as_u16();
        tracing::warn!(request_id, %method, route, peer = what.peer(), status, "an operator's request was refused");
        let (log, stages) = (self.clone(), supervisor.clone());
        supervisor.spawn("refusals", async move {
            tokio::select! {
                () = tokio::time::sleep(REFUSALS_INTERVAL) => {}
                () = stages.draining() => {}
            }
            let count = log.0.lock().take().unwrap_or_default();
            if count > 0 {
                tracing::warn!(count, "more operators' requests were refused");
            }
        });
    }
}
