//! The pool of connections to Segment, and which requests failed only because of it.
//!
//! A load balancer that restarts forgets its connections, and all idle connections in the pool are dead at once. A request
//! without an answer on a connection that was used before says nothing about Segment. Then the whole pool is replaced, and
//! the request is sent again on a new connection. Drawing the next connection from the old pool would meet the next dead one.
//!
//! The HTTP client does not say whether it used an old connection. Its connector says that it opened a new one: it is called
//! inside the request's own future, so it finds the request's [`Exchange`]. If a connection of another request becomes free
//! while the new one is opened, the client uses that one. It was in use a moment ago, and counts as new here.

use std::cell::Cell;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::{Client, ClientBuilder};
use tokio::time::Instant;
use tower::util::MapRequestLayer;

use super::retry::SendResult;

/// Age at which the client is renewed: the longest time for which a resolved address is used.
const MAX_CLIENT_AGE: Duration = Duration::from_secs(300);

/// Age up to which a client that replaced another one is not replaced because of its pool. On a line that kills every connection
/// this bounds the work of building clients.
const MIN_CLIENT_AGE: Duration = Duration::from_millis(100);

/// Idle time after which the kernel asks whether the peer is still there, so that a dead connection leaves the pool before a
/// request meets it. A probe costs one packet each way.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);

/// Time between such questions: the shortest that the kernel takes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// The client with the pool in use.
pub(super) struct Connections {
    build: Box<dyn Fn() -> reqwest::Result<Client> + Send + Sync>,
    current: Mutex<Pool>,
    /// Held while a client is built.
    renewal: Mutex<()>,
}

struct Pool {
    client: Client,
    created: Instant,
    /// Changes with every new client.
    generation: u64,
}

/// What is known about the connection of one request.
#[derive(Default)]
struct Exchange {
    generation: Cell<u64>,
    opened_connection: Cell<bool>,
    has_answer: Cell<bool>,
}

tokio::task_local! {
    static EXCHANGE: Exchange;
}

impl Connections {
    /// # Errors
    /// If no client can be built.
    pub(super) fn new(build: impl Fn() -> reqwest::Result<Client> + Send + Sync + 'static) -> reqwest::Result<Self> {
        let pool = Pool { client: build()?, created: Instant::now(), generation: 0 };
        Ok(Self { build: Box::new(build), current: Mutex::new(pool), renewal: Mutex::default() })
    }

    /// The client for a request, renewed if it is too old. Requests in flight keep the old one.
    pub(super) fn client(&self) -> Client {
        let mut current = self.current.lock();
        if current.created.elapsed() > MAX_CLIENT_AGE {
            // The first request that sees the age renews the client; the others use the old one meanwhile. The new time also
            // keeps a failure from being repeated at once.
            current.created = Instant::now();
            let generation = current.generation;
            drop(current);
            self.renew(generation);
            current = self.current.lock();
        }
        note(|exchange| exchange.generation.set(current.generation));
        current.client.clone()
    }

    /// Runs a request. True if it had no answer on a connection that was used before. Then no later request uses a connection
    /// of that pool.
    pub(super) async fn watch(&self, request: impl Future<Output = SendResult>) -> (SendResult, bool) {
        EXCHANGE
            .scope(Exchange::default(), async {
                let result = request.await;
                let stale = matches!(result, SendResult::NoResponse(_)).then(|| EXCHANGE.with(Exchange::stale_pool));
                if let Some(generation) = stale.flatten() {
                    self.drop_idle(generation);
                }
                (result, stale.flatten().is_some())
            })
            .await
    }

    /// Drops the idle connections of a pool.
    fn drop_idle(&self, generation: u64) {
        let is_new = generation > 0 && self.current.lock().created.elapsed() < MIN_CLIENT_AGE;
        if !is_new {
            self.renew(generation);
        }
    }

    /// Replaces the client of this generation, unless another request has done so. Its idle connections are dropped. Loading
    /// the certificates takes milliseconds, for which requests that need no new client do not wait.
    fn renew(&self, generation: u64) {
        let _renewal = self.renewal.lock();
        if self.current.lock().generation != generation {
            return;
        }
        match (self.build)() {
            Ok(client) => {
                let pool = Pool { client, created: Instant::now(), generation: generation.wrapping_add(1) };
                *self.current.lock() = pool;
            }
            Err(error) => tracing::error!(%error, "could not renew the HTTP client; the old one stays in use"),
        }
    }
}

impl Exchange {
    /// The pool whose connection was used before and did not answer.
    fn stale_pool(&self) -> Option<u64> {
        (!self.opened_connection.get() && !self.has_answer.get()).then(|| self.generation.get())
    }
}

/// Lets a client tell [`Connections::watch`] when it opens a connection, and find dead idle connections soon. There is no bound
/// for unacknowledged bytes: Linux applies it to a peer that is there and reads late. The attempt's timeout finds dead ones.
pub(super) fn watched(builder: ClientBuilder) -> ClientBuilder {
    builder
        .connector_layer(MapRequestLayer::new(note_opened))
        .tcp_keepalive(KEEPALIVE_IDLE)
        .tcp_keepalive_interval(KEEPALIVE_INTERVAL)
}

/// The connector opens a connection for `target`.
fn note_opened<T>(target: T) -> T {
    note(|exchange| exchange.opened_connection.set(true));
    target
}

/// The head of an answer has arrived.
pub(super) fn note_answer() {
    note(|exchange| exchange.has_answer.set(true));
}

/// Does nothing outside of [`Connections::watch`].
fn note(change: impl FnOnce(&Exchange)) {
    let _ = EXCHANGE.try_with(change);
}
