//! The relay under test.

use std::net::SocketAddr;

use reqwest::{Body, Client, Method};
use serde_json::Value;

use super::answer::Answer;
use super::process::Process;
use super::raw::Raw;

/// The write key of every relay that was given no other. It is as long as Segment's, so that no relay warns about it.
pub const WRITE_KEY: &str = "wk-5ecre7-of-the-tests-012345678";

/// A relay of its own process, and a client to speak to it.
pub struct Relay {
    process: Process,
    address: SocketAddr,
    client: Client,
}

impl Relay {
    /// Starts `serve` with these settings on a free port, and waits until it serves.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        Self::of(Process::start(&["serve"], &Self::settings(settings))).await
    }

    /// The same from a shell that sets limits first, such as `ulimit -S -n 1024`.
    pub async fn limited(limits: &str, settings: &[(&str, &str)]) -> Self {
        Self::of(Process::limited(limits, &["serve"], &Self::settings(settings))).await
    }

    fn settings<'a>(settings: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        [&[("SEGMENT_WRITE_KEY", WRITE_KEY), ("RELAY_LISTEN", "127.0.0.1:0")][..], settings].concat()
    }

    async fn of(mut process: Process) -> Self {
        let address = process
            .line(|line| {
                // As JSON or as text.
                let Ok(line) = serde_json::from_str::<Value>(line) else {
                    return line.split_once("segment-relay serves address=")?.1.split(' ').next()?.parse().ok();
                };
                (line["message"] == "segment-relay serves").then(|| line["address"].as_str()?.parse().ok())?
            })
            .await;
        Self { process, address, client: super::client() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A path's URL.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The process, to wait for its end.
    pub fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Any request with the harness's own client.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// A `POST /customers` that can be given more before it is sent.
    pub fn post_request(&self, customer: &Value) -> reqwest::RequestBuilder {
        self.request(Method::POST, "/customers").json(customer)
    }

    /// `POST /customers`.
    pub async fn post(&self, customer: &Value) -> Answer {
        self.try_post(customer).await.expect("an answer")
    }

    /// `POST /customers`, which may get no answer.
    pub async fn try_post(&self, customer: &Value) -> reqwest::Result<Answer> {
        Answer::of(self.post_request(customer).send().await?).await
    }

    /// `POST /customers` with these headers and this body. It is `application/json` unless the headers say otherwise.
    pub async fn post_with(&self, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = self.request(Method::POST, "/customers").body(body);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.send().await.expect("an answer")).await.expect("a whole answer")
    }

    /// `GET` of this path.
    pub async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.expect("an answer")
    }

    /// `GET` of this path, which may get no answer.
    pub async fn try_get(&self, path: &str) -> reqwest::Result<Answer> {
        Answer::of(self.request(Method::GET, path).send().await?).await
    }

    /// A metric's value now, such as `segment_relay_slots_busy`.
    pub async fn metric(&self, series: &str) -> f64 {
        self.get("/metrics").await.metric(series).unwrap_or_else(|| panic!("{series} is in /metrics"))
    }

    /// A connection of its own, to send bytes as they are.
    pub async fn connect(&self) -> Raw {
        Raw::connect(self.address).await
    }

    /// Its log so far: every line is JSON.
    pub fn log(&self) -> Vec<Value> {
        self.process.stdout().iter().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }
}
