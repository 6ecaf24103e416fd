//! The relay and its sandbox as real processes, driven over HTTP: the harness of `it` and `bdd`.
//!
//! Invariants: every [`App`] has ports of its own, so tests run side by side; children see no setting of the environment
//! they were not given; children die with the harness. Waiting is always a bounded wait for a condition.
//!
//! It knows nothing of the relay's insides: what it cannot see over HTTP, in a log line or an exit code does not exist.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

#[path = "harness/answer.rs"]
mod answer;
#[path = "harness/browser.rs"]
mod browser;
#[path = "harness/cable.rs"]
mod cable;
#[path = "harness/customers.rs"]
mod customers;
#[path = "harness/durable.rs"]
mod durable;
#[path = "harness/fleet.rs"]
mod fleet;
#[path = "harness/h2.rs"]
mod h2;
#[path = "harness/peer.rs"]
mod peer;
#[path = "harness/postgres.rs"]
pub mod postgres;
#[path = "harness/process.rs"]
mod process;
#[path = "harness/prometheus.rs"]
mod prometheus;
#[path = "harness/raw.rs"]
mod raw;
#[path = "harness/relay.rs"]
mod relay;
#[path = "harness/scripted.rs"]
mod scripted;
#[path = "harness/segment.rs"]
mod segment;
#[path = "harness/shim.rs"]
mod shim;
#[path = "harness/sign.rs"]
pub mod sign;
#[path = "harness/spans.rs"]
mod spans;
#[path = "harness/trace.rs"]
mod trace;
#[path = "harness/wait.rs"]
mod wait;

use reqwest::{Body, Client};
use serde_json::Value;

pub use answer::Answer;
pub use browser::{Browser, key};
pub use cable::{Cable, Cut};
pub use customers::{ada, customer};
pub use durable::{Durable, TOKEN};
pub use fleet::{Fleet, PROBE};
pub use h2::{Frame, H2, frame, get, post};
pub use peer::{Peer, Reply, answer};
pub use process::Process;
pub use prometheus::{Prometheus, promtool};
pub use raw::{Raw, head};
pub use relay::{Relay, WRITE_KEY};
pub use scripted::{Arrival, Fault, ScriptedSegment, Seen};
pub use segment::Segment;
pub use shim::Shim;
pub use spans::{Span, SpanReceiver};
pub use trace::{Record, Trace, mark};
pub use wait::{LONG_PATIENCE, PATIENCE, at_last, eventually};

/// A relay that sends to a sandbox of its own.
pub struct App {
    relay: Relay,
    segment: Segment,
}

impl App {
    /// Both with their defaults.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With these settings for the relay.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        Self::limited("true", settings).await
    }

    /// With these settings for the relay, started by a shell that sets limits first, such as `ulimit -S -n 1024`.
    pub async fn limited(limits: &str, settings: &[(&str, &str)]) -> Self {
        let segment = Segment::start().await;
        let mut all = vec![("SEGMENT_ENDPOINT", segment.url())];
        all.extend_from_slice(settings);
        Self { relay: Relay::limited(limits, &all).await, segment }
    }

    /// `POST /customers`.
    pub async fn post(&self, customer: &Value) -> Answer {
        self.relay.post(customer).await
    }

    /// `POST /customers` with these headers and this body. It is `application/json` unless the headers say otherwise.
    pub async fn post_with(&self, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        self.relay.post_with(headers, body).await
    }

    /// `GET` of this path at the relay.
    pub async fn get(&self, path: &str) -> Answer {
        self.relay.get(path).await
    }

    /// The relay.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// The relay, to end it.
    pub fn relay_mut(&mut self) -> &mut Relay {
        &mut self.relay
    }

    /// The sandbox.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }
}

/// A client that speaks HTTP/1.1 to this machine. One a runtime: its connections belong to the runtime it is used on.
pub fn client() -> Client {
    client_builder().build().expect("a client")
}

/// The same to be, with more to say about it: h2c, say.
pub fn client_builder() -> reqwest::ClientBuilder {
    // Whoever comes first sets it; the others find it set.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // No test uses the certificates of the machine. Reading them takes an unoptimised build longer than most requests.
    let builder = Client::builder().tls_certs_only([]);
    builder.no_proxy().timeout(2 * PATIENCE).redirect(reqwest::redirect::Policy::none())
}
