//! The relay as its callers see it: the routes, and what they share.
//!
//! `POST /customers` does everything in one handler (request id, limits, deadline, counting): as a stack of layers the same
//! costs about a third of the throughput. Everything else is rare, and goes through the same few pieces.

pub mod admin;
mod answer;
pub(crate) mod body;
mod code;
pub(crate) mod customers;
mod docs;
mod health;
pub(crate) mod in_flight;
mod openapi;
mod prefer;
mod request_id;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;

use crate::auth::Auth;
use crate::integration::SegmentClients;
use crate::metrics::Metrics;
use crate::supervisor::Supervisor;
use admin::Operator;
use answer::{Answer, Failure};
use code::Code;
use in_flight::InFlight;
use openapi::Routes;
use request_id::RequestId;

/// What a path gets at which there is nothing.
pub const NOTHING_HERE: &str = "there is nothing at this path";

/// Bodies that are being read at once, beside one on each connection: as many streams of HTTP/2 as have a place in flight by
/// default. With 64 KiB each they are 128 MiB; SECURITY.md says what a connection can take in all.
pub(crate) const MAX_READING: usize = 2048;

/// What the routes share. The clients are injected.
pub struct AppState {
    clients: Arc<dyn SegmentClients>,
    metrics: Arc<Metrics>,
    pub(crate) supervisor: Supervisor,
    auth: Auth,
    request_timeout: Duration,
    pub(crate) in_flight: InFlight,
    /// Bodies that are being read, but for one on each connection.
    reading: InFlight,
    /// Brings the gauges up to date before they are read.
    measure: Box<dyn Fn() + Send + Sync>,
    /// Why the relay should get no requests at the moment, beside that it is shutting down.
    trouble: Box<dyn Fn() -> Option<&'static str> + Send + Sync>,
    /// None: there are no endpoints for operators.
    operator: Option<Arc<Operator>>,
}

impl AppState {
    /// `request_timeout` bounds a caller's whole request, `max_in_flight` how many have a place at once.
    pub fn new(
        clients: Arc<dyn SegmentClients>,
        metrics: Arc<Metrics>,
        supervisor: Supervisor,
        request_timeout: Duration,
        max_in_flight: usize,
    ) -> Self {
        let in_flight = InFlight::new(max_in_flight);
        let reading = InFlight::new(MAX_READING);
        Self {
            clients,
            metrics,
            supervisor,
            auth: Auth::none(),
            request_timeout,
            in_flight,
            reading,
            measure: Box::new(|| ()),
            trouble: Box::new(|| None),
            operator: None,
        }
    }

    /// Takes customers only from those whom `auth` lets in.
    #[must_use]
    pub fn guarded_by(self, auth: Auth) -> Self {
        Self { auth, ..self }
    }

    /// Calls `measure` before metrics are read.
    #[must_use]
    pub fn measured_by(self, measure: impl Fn() + Send + Sync + 'static) -> Self {
        Self { measure: Box::new(measure), ..self }
    }

    /// Is not ready while there is `trouble`.
    #[must_use]
    pub fn ready_without(self, trouble: impl Fn() -> Option<&'static str> + Send + Sync + 'static) -> Self {
        Self { trouble: Box::new(trouble), ..self }
    }

    /// Has endpoints for operators.
    #[must_use]
    pub fn operated_by(self, operator: Operator) -> Self {
        Self { operator: Some(Arc::new(operator)), ..self }
    }
}

/// Every route of the contract that this version has.
pub fn router(state: Arc<AppState>) -> Router {
    let routes = Routes::new()
        .post(customers::PATH, customers::post, openapi::customers::post(&state.auth))
        .get("/healthz", health::healthz, openapi::health::healthz())
        .get("/readyz", health::readyz, openapi::health::readyz())
        .get("/metrics", health::metrics, openapi::health::metrics())
        .get("/docs", docs::page, openapi::docs::page())
        .get("/docs/{file}", docs::file, openapi::docs::file());
    let routes = match &state.operator {
        Some(operator) => routes.merge(admin::routes(state.clone(), operator.clone())),
        None => routes,
    };
    let router = routes.documented("/openapi.json", &state.auth);
    // It counts for the routes that are there by now, so for all.
    router.fallback(not_found).method_not_allowed_fallback(method_not_allowed).with_state(state)
}

async fn not_found(request: Request) -> Response {
    let id = RequestId::of(request.headers());
    Answer::failure(&Failure::new(Code::NotFound, NOTHING_HERE)).with_id(&id)
}

/// axum adds the `Allow` header.
async fn method_not_allowed(State(state): State<Arc<AppState>>, request: Request) -> Response {
    let id = RequestId::of(request.headers());
    if request.uri().path() == customers::PATH {
        state.metrics.request_failed(Code::MethodNotAllowed.as_str());
    }
    let failure = Failure::new(Code::MethodNotAllowed, "this path does not take this method; see the Allow header");
    Answer::failure(&failure).with_id(&id)
}

#[cfg(test)]
mod tests;
