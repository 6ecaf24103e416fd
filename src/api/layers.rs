//! What surrounds the router: request ids, headers of every answer, panics, trailing slashes, sound hosts; and on some
//! routes more.

use std::any::Any;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::BoxError;
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::error_handling::HandleErrorLayer;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Request, Response, Uri};
use axum::response::IntoResponse;
use tower::timeout::TimeoutLayer;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_http::catch_panic::{CatchPanicLayer, ResponseForPanic};
use tower_http::request_id::{PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use super::customers;
use super::error::ApiError;
use super::host::WithHost;
use super::request_id::{self, RandomId};
use super::state::AppState;
use crate::metrics::Metrics;

/// The path of a request ended with a slash, which [`remove_trailing_slash`] removed.
#[derive(Clone, Copy)]
pub(super) struct TrailingSlash;

/// The router with the layers that every route has, beside [`catch_panic`]. `has_operators`: operators' routes are among them.
pub(super) fn with_common_layers<B>(
    router: Router,
    state: Arc<AppState>,
    has_operators: bool,
) -> impl Service<Request<B>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let no_store = HeaderValue::from_static("no-store");
    ServiceBuilder::new()
        .map_response(customers::log_failure)
        .map_request(request_id::remove_unfit)
        .layer(SetRequestIdLayer::new(request_id::HEADER, RandomId))
        .layer(PropagateRequestIdLayer::new(request_id::HEADER))
        .layer(SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, no_store))
        .layer(SetResponseHeaderLayer::overriding(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        .map_request(remove_trailing_slash)
        .service(WithHost { inner: router, state, has_operators })
}

/// Answers a panic of a handler with 500 `internal_error`, and counts it.
pub(super) fn catch_panic(metrics: Arc<Metrics>) -> CatchPanicLayer<impl ResponseForPanic<ResponseBody = Body>> {
    CatchPanicLayer::custom(move |_panic: Box<dyn Any + Send>| {
        metrics.panics.inc();
        ApiError::internal().into_response()
    })
}

/// Counts the answers of `POST /customers`, and how long each took: two looks at the clock, and a histogram.
pub(super) fn count_customers<S, B>(
    service: S,
    metrics: Arc<Metrics>,
) -> impl Service<Request<Body>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static,
    B: 'static,
{
    service.map_future(move |answer| {
        let metrics = metrics.clone();
        async move {
            let begun = Instant::now();
            let answer = answer.await?;
            metrics.answered(answer.status().as_u16(), begun.elapsed());
            Ok(customers::count(&metrics, answer))
        }
    })
}

/// The router with a layer that hides the `Authorization` header from everything that prints requests.
pub(super) fn with_sensitive_headers<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.layer(SetSensitiveRequestHeadersLayer::new([AUTHORIZATION]))
}

/// The router with a time limit. An answer that is not ready within `limit` becomes 503 `overloaded`.
pub(super) fn with_timeout<S: Clone + Send + Sync + 'static>(router: Router<S>, limit: Duration) -> Router<S> {
    let timed_out = |_elapsed: BoxError| async { ApiError::overloaded("the answer was not ready in time; try again") };
    router.layer(ServiceBuilder::new().layer(HandleErrorLayer::new(timed_out)).layer(TimeoutLayer::new(limit)))
}

/// Removes a slash at the end of the path: it does not count. Other paths stay as they are, so that what a proxy in front
/// forbids by its path is not reachable under another one.
fn remove_trailing_slash<B>(mut request: Request<B>) -> Request<B> {
    let path = request.uri().path();
    let Some(trimmed) = path.strip_suffix('/').filter(|rest| !rest.is_empty() && !rest.ends_with('/')) else {
        return request;
    };
    let path_and_query = match request.uri().query() {
        Some(query) => format!("{trimmed}?{query}"),
        None => trimmed.to_owned(),
    };
    let Ok(path_and_query) = path_and_query.parse() else { return request };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(path_and_query);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
        request.extensions_mut().insert(TrailingSlash);
    }
    request
}
