//! The handler that the relay is compared with: axum on a plain runtime, which reads a body and answers a fixed JSON.
//!
//! For a relay that is traced it is the receiver as well. What it does not do is what the relay is measured for: it looks at nothing and asks nobody.

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// As long as the relay's own answer.
const ANSWER: &str = r#"{"success":true,"messageId":"00000000-0000-4000-8000-000000000000"}"#;

/// Serves until the process is killed. The first line of standard output ends with the address.
pub fn serve() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("bare listening on http://{}", listener.local_addr()?);
        let router = Router::new().route("/customers", post(answer)).route("/v1/traces", post(receive));
        let mut connections = JoinSet::new();
        loop {
            let (stream, _peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            connections.spawn(converse(stream, router.clone()));
        }
    })
}

async fn answer(body: Bytes) -> ([(axum::http::HeaderName, &'static str); 1], &'static str) {
    std::hint::black_box(body);
    ([(CONTENT_TYPE, "application/json")], ANSWER)
}

/// What a receiver of traces does at least. An empty answer means that it took all spans.
async fn receive(body: Bytes) {
    std::hint::black_box(body);
}

/// What `axum::serve` does with a connection; the relay's axum is built without it.
async fn converse(stream: TcpStream, router: Router) {
    let service = TowerToHyperService::new(router);
    let builder = auto::Builder::new(TokioExecutor::new());
    // A caller who goes away is the end of a measurement.
    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}
