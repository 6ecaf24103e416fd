//! The routes, and which layers each group of them has.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, Response};
use axum::routing::{Route, any, get, post};
use axum::{BoxError, Router};
use tower::{Layer, Service, layer::layer_fn};

use super::error::{ApiError, NO_ROUTE, method_not_allowed};
use super::state::AppState;
use super::{admin, customers, docs, health, layers, openapi, page, sources, spans};

/// The routes of one address. All have `/healthz` and `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routes {
    All,
    /// `POST /customers` and the sources alone.
    Senders,
    /// All others: operators, metrics and documents.
    Operators,
}

/// The whole application for one listener. `server` serves it, and so could `axum::serve`.
pub fn service<B>(
    state: Arc<AppState>,
    routes: Routes,
    is_loopback: bool,
) -> impl Service<Request<B>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let router = router(state.clone(), routes, is_loopback);
    layers::with_common_layers(router, state, routes != Routes::Senders)
}

fn router(state: Arc<AppState>, routes: Routes, is_loopback: bool) -> Router {
    // A layer covers the fallbacks that are set before it. The count is outside, so that it includes panics.
    let catch_panic = layers::catch_panic(state.metrics.clone());
    let metrics = state.metrics.clone();
    let caught = catch_panic.clone();
    let counted = layer_fn(move |route: Route| layers::count_customers(caught.layer(route), metrics.clone()));
    let customers = Router::new()
        .route(customers::PATH, post(customers::post))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(counted);
    let senders = customers.merge(Router::new().route(sources::PATH, any(sources::any)).layer(catch_panic.clone()));
    let senders = spans::with_spans(senders);
    let documents = Router::new()
        .route("/openapi.json", get(openapi::document))
        .route("/docs", get(docs::page))
        .route("/docs/{file}", get(docs::file))
        .route("/metrics", get(health::metrics))
        .method_not_allowed_fallback(method_not_allowed);
    let page = match state.admin {
        Some(_) => Router::new().route("/", get(page::page)).route("/page/{file}", get(page::file)),
        None => Router::new(),
    };
    let page = page.method_not_allowed_fallback(method_not_allowed);
    let health = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .method_not_allowed_fallback(method_not_allowed);
    let with_timeout = |routes| layers::with_timeout(routes, state.request_timeout);
    let operators =
        with_timeout(documents.merge(page).merge(admin::read_routes(&state))).merge(admin::write_routes(&state));
    let (senders, operators) = match routes {
        Routes::All => (senders, operators),
        Routes::Senders => (senders, Router::new()),
        Routes::Operators => (Router::new(), operators),
    };
    let others = layers::with_sensitive_headers(with_timeout(health).merge(operators)).layer(catch_panic);
    (state.wrap)(senders.merge(others).fallback(not_found).with_state(state.clone()), is_loopback)
}

async fn not_found() -> ApiError {
    ApiError::not_found(NO_ROUTE)
}
