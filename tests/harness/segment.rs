//! The sandbox that stands in for Segment.

use reqwest::Client;
use serde_json::{Value, json};

use super::process::Process;

/// A sandbox of its own process, and a client to direct it.
pub struct Segment {
    _process: Process,
    url: String,
    client: Client,
}

impl Segment {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let mut process = Process::start(&["sandbox", "--listen", "127.0.0.1:0"], &[]);
        let url = process.line(|line| line.strip_prefix("sandbox listening on ").map(str::to_owned)).await;
        Self { _process: process, url, client: super::client() }
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The calls it kept, in order of arrival.
    pub async fn received(&self) -> Vec<Value> {
        self.received_lines().await.iter().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    /// The same, verbatim.
    pub async fn received_lines(&self) -> Vec<String> {
        self.text("/events").await.lines().map(str::to_owned).collect()
    }

    /// What the last 1,000 requests looked like around their calls, oldest first.
    pub async fn requests(&self) -> Vec<Value> {
        self.text("/requests").await.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    /// Its counters.
    pub async fn stats(&self) -> Value {
        serde_json::from_str(&self.text("/stats").await).expect("JSON")
    }

    /// From now on it misbehaves like this, and in no other way.
    pub async fn fail(&self, faults: Value) {
        self.post("/faults", &faults).await;
    }

    /// From now on it behaves.
    pub async fn heal(&self) {
        self.fail(json!({})).await;
    }

    /// Forgets what it got, and behaves.
    pub async fn reset(&self) {
        self.post("/reset", &json!({})).await;
    }

    async fn text(&self, path: &str) -> String {
        let response = self.client.get(format!("{}{path}", self.url)).send().await.expect("an answer");
        response.text().await.expect("a whole answer")
    }

    async fn post(&self, path: &str, body: &Value) {
        let response = self.client.post(format!("{}{path}", self.url)).json(body).send().await.expect("an answer");
        assert!(response.status().is_success(), "{}", response.text().await.unwrap_or_default());
    }
}
