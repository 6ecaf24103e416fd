//! What the router and each layer around it cost a request: `cargo bench --bench layers`.
//!
//! Every variant is called in the process itself, with no socket, so that nothing but the variant is measured. The variants
//! take turns for many rounds, so that a busy machine slows all of them alike; the table shows medians. `src/api/layers.rs`
//! says which layers `POST /customers` has.

use std::any::Any;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, Request, Response};
use axum::response::IntoResponse;
use axum::routing::post;
use segment_relay::metrics::Metrics;
use tower::layer::layer_fn;
use tower::timeout::TimeoutLayer;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::set_header::SetResponseHeaderLayer;

/// Rounds over all variants. The median of so many is steady to a few hundredths of a microsecond.
const ROUNDS: usize = 61;

/// Requests of a variant in one round: some tens of milliseconds.
const REQUESTS: u32 = 20_000;

type Variant = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    let variants = variants();
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); variants.len()];
    for _ in 0..ROUNDS {
        for ((_, service), times) in variants.iter().zip(&mut times) {
            times.push(runtime.block_on(time(service.clone())) / REQUESTS);
        }
    }
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    println!("{:<34} {:>12} {:>12}", "", "us/request", "more by us");
    for (index, ((name, _), median)) in variants.iter().zip(&medians).enumerate() {
        // The router is compared with the handler alone, everything else with the router.
        let base = medians[usize::from(index > 1)];
        println!("{name:<34} {median:>12.2} {:>12.2}", median - base);
    }
}

async fn time(mut service: Variant) -> Duration {
    let start = Instant::now();
    for _ in 0..REQUESTS {
        let request = Request::post("/customers")
            .header("host", "relay")
            .header("content-type", "application/json")
            .body(Body::from("{}"));
        let Ok(request) = request else { panic!("a request") };
        let Ok(ready) = service.ready().await;
        let Ok(answer) = ready.call(request).await;
        assert_eq!(answer.status(), 200);
    }
    start.elapsed()
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

async fn handler() -> &'static str {
    "{}"
}

/// The bare handler, the router, and the router with each layer alone and with all that `POST /customers` has.
fn variants() -> Vec<(&'static str, Variant)> {
    let bare = tower::service_fn(|_request: Request<Body>| async { Ok(handler().await.into_response()) });
    let router = || Router::new().route("/customers", post(handler));
    let panicked = |_panic: Box<dyn Any + Send>| "".into_response();
    let id = HeaderName::from_static("x-request-id");
    let body = |response: Response<_>| response.map(Body::new);
    let no_store = || SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let nosniff = || SetResponseHeaderLayer::overriding(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let all = ServiceBuilder::new()
        .layer(SetRequestIdLayer::new(id.clone(), MakeRequestUuid))
        .layer(PropagateRequestIdLayer::new(id.clone()))
        .layer(no_store())
        .layer(nosniff())
        .map_response(body)
        .layer(layer_fn(timed))
        .layer(CatchPanicLayer::custom(panicked))
        .service(router());
    vec![
        ("handler alone", boxed(bare)),
        ("Router", boxed(router())),
        ("+ SetRequestId, PropagateRequestId", {
            let layers = ServiceBuilder::new().layer(SetRequestIdLayer::new(id.clone(), MakeRequestUuid));
            boxed(layers.layer(PropagateRequestIdLayer::new(id)).service(router()))
        }),
        (
            "+ SetResponseHeader, twice",
            boxed(ServiceBuilder::new().layer(no_store()).layer(nosniff()).service(router())),
        ),
        ("+ CatchPanic", {
            let layers = ServiceBuilder::new().map_response(body).layer(CatchPanicLayer::custom(panicked));
            boxed(layers.service(router()))
        }),
        ("+ count and time of outcomes", boxed(timed(router()))),
        ("+ all of these", boxed(all)),
        ("+ Timeout (other routes only)", {
            let timed = ServiceBuilder::new().layer(TimeoutLayer::new(Duration::from_secs(10))).service(router());
            boxed(tower::service_fn(move |request| {
                let timed = timed.clone();
                async move { Ok(timed.oneshot(request).await.unwrap_or_else(|_| "".into_response())) }
            }))
        }),
        ("+ SetSensitiveHeaders (other routes)", {
            boxed(ServiceBuilder::new().layer(SetSensitiveRequestHeadersLayer::new([AUTHORIZATION])).service(router()))
        }),
    ]
}

/// Counts each answer and how long it took, as the application does.
fn timed<S, B>(
    service: S,
) -> impl Service<Request<Body>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static,
    B: 'static,
{
    let metrics = Arc::new(Metrics::new().unwrap_or_else(|error| panic!("no metrics: {error}")));
    service.map_future(move |answer| {
        let metrics = metrics.clone();
        async move {
            let begun = Instant::now();
            let answer = answer.await?;
            metrics.answered(answer.status().as_u16(), begun.elapsed());
            metrics.requests_accepted.inc();
            Ok(answer)
        }
    })
}

fn boxed<S>(service: S) -> Variant
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    BoxCloneSyncService::new(service)
}
