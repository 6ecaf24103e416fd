//! Notifications (`RELAY_NOTIFY_URL`), at a receiver that the test starts.
//!
//! The pauses of ten minutes and an hour are those of the unit tests of `notify/watch.rs`.

mod kinds;
mod receivers;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use standardwebhooks::Webhook;

use crate::harness::sign::webhook_secret;
use crate::harness::{Peer, Reply, answer};

/// What no notification and no line of the log may hold, beside what a test adds: the path and the query of the receiver's URL.
const SECRET_PATH: &str = "/s3cret-path?token=s3cret-query";

/// A request that the receiver got.
#[derive(Clone)]
struct Notification {
    headers: HeaderMap,
    body: Vec<u8>,
}

/// A receiver of notifications.
struct Receiver {
    peer: Peer,
    got: Arc<Mutex<Vec<Notification>>>,
}

/// A secret that the relay signs with.
fn secret() -> String {
    webhook_secret(b"the-key-of-notifications")
}

impl Receiver {
    /// Answers with these one after the other, and 204 from then on.
    fn replying(replies: impl IntoIterator<Item = Reply>) -> Self {
        let got: Arc<Mutex<Vec<Notification>>> = Arc::default();
        let (kept, replies) = (got.clone(), Mutex::new(replies.into_iter().collect::<VecDeque<_>>()));
        let peer = Peer::replying(move |head, body| {
            assert!(head.starts_with(&format!("POST {SECRET_PATH} HTTP/1.1\r\n")), "{head}");
            kept.lock().unwrap().push(Notification::read(head, body));
            replies.lock().unwrap().pop_front().unwrap_or_else(|| Reply::Answer(answer("204 No Content", &[], "")))
        });
        Self { peer, got }
    }

    fn start() -> Self {
        Self::replying([])
    }

    /// The URL for `RELAY_NOTIFY_URL`.
    fn url(&self) -> String {
        format!("{}{SECRET_PATH}", self.peer.url())
    }

    /// What it got so far.
    fn got(&self) -> Vec<Notification> {
        self.got.lock().unwrap().clone()
    }

    /// The bodies of one kind.
    fn of_kind(&self, kind: &str) -> Vec<Value> {
        self.got().iter().map(Notification::json).filter(|body| body["type"] == kind).collect()
    }
}

impl Notification {
    fn read(head: &str, body: &[u8]) -> Self {
        let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let headers = lines.map(|(name, value)| {
            (name.parse::<HeaderName>().expect("a name"), value.parse::<HeaderValue>().expect("a value"))
        });
        Self { headers: headers.collect(), body: body.to_vec() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().expect("text")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Whether the library of Standard Webhooks believes it, with this secret.
    fn is_signed_with(&self, secret: &str) -> bool {
        Webhook::new(secret).expect("a secret").verify(&self.body, &self.headers).is_ok()
    }

    /// That it is signed, and holds nothing of these texts.
    #[track_caller]
    fn check(&self, hidden: &[&str]) {
        assert!(self.is_signed_with(&secret()), "{:?}", self.headers);
        assert_eq!(self.header("content-type"), "application/json");
        let shown = format!("{:?} {}", self.headers, String::from_utf8_lossy(&self.body));
        assert!(hidden.iter().all(|hidden| !shown.contains(hidden)), "{shown}");
    }
}
