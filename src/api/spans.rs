//! The span of a sender's request, from its head to the end of the answer. It continues the trace that `traceparent` names.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response};
use tower_http::trace::TraceLayer;
use tracing::{Span, field};

use super::error::FailureRecord;
use super::{customers, request_id, sources};
use crate::telemetry::{self, TARGET};

/// The routes, each request of which has a span if traces are on. Otherwise there is no layer.
pub(super) fn with_spans<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    if !telemetry::are_on() {
        return routes;
    }
    let layer = TraceLayer::new_for_http().make_span_with(start).on_response(end);
    routes.layer(layer.on_request(()).on_body_chunk(()).on_eos(()).on_failure(()))
}

/// Of the path only the route is told. The request's id is that of the log.
fn start(request: &Request<Body>) -> Span {
    let route = if request.uri().path() == customers::PATH { customers::PATH } else { sources::PATH };
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    // As OpenTelemetry names methods that may be anything.
    let method = known.iter().find(|known| *known == request.method()).map_or("_OTHER", Method::as_str);
    let span = tracing::info_span!(
        target: TARGET,
        parent: None,
        "request",
        otel.name = %format_args!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = method,
        http.response.status_code = field::Empty,
        http.route = route,
        segment_relay.request_id = request.headers().get(request_id::HEADER).and_then(|id| id.to_str().ok()),
        segment_relay.code = field::Empty,
    );
    telemetry::continue_from(&span, request.headers());
    span
}

fn end(response: &Response<Body>, _latency: Duration, span: &Span) {
    span.record("http.response.status_code", response.status().as_u16());
    if let Some(failure) = response.extensions().get::<FailureRecord>() {
        span.record("segment_relay.code", failure.code.as_str());
    }
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}
