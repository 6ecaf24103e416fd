//! A relay with an outbox that can be killed, stopped and started again on the same file, while its sandbox keeps
//! running.
//!
//! The outbox has a directory of its own. The relay's port changes with every start.

use std::path::{Path, PathBuf};

use reqwest::{Body, Method};
use serde_json::Value;
use tempfile::TempDir;

use super::answer::Answer;
use super::process::Process;
use super::relay::{Relay, WRITE_KEY};
use super::segment::Segment;

/// The admin token of every such relay.
pub const TOKEN: &str = "t0ken-of-the-operator";

/// A relay with an outbox, and its sandbox.
pub struct Durable {
    relay: Option<Relay>,
    segment: Option<Segment>,
    settings: Vec<(String, String)>,
    directory: TempDir,
}

impl Durable {
    /// Starts a relay with the default settings, and waits until it serves.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts a relay with these settings, and waits until it serves.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let mut durable = Self::prepared(settings).await;
        durable.start_relay().await;
        durable
    }

    /// Prepares a relay with these settings, without starting it.
    pub async fn prepared(settings: &[(&str, &str)]) -> Self {
        let segment = Segment::start().await;
        let endpoint = segment.url().to_owned();
        Self { segment: Some(segment), ..Self::sending_to(&endpoint, settings) }
    }

    /// Prepares a relay whose admin token comes from a file, without starting it. Returns the file, too.
    pub async fn with_token_file() -> (Self, PathBuf) {
        let mut durable = Self::prepared(&[]).await;
        let file = durable.directory().join("token");
        std::fs::write(&file, TOKEN).expect("a file");
        durable.unset("RELAY_ADMIN_TOKEN");
        durable.set("RELAY_ADMIN_TOKEN_FILE", &file.display().to_string());
        (durable, file)
    }

    /// Prepares a relay that sends to this endpoint and has no sandbox, without starting it.
    pub fn sending_to(endpoint: &str, settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut durable = Self { relay: None, segment: None, settings: Vec::new(), directory };
        let file = durable.file();
        durable.set("SEGMENT_ENDPOINT", endpoint);
        durable.set("RELAY_OUTBOX_URL", &format!("sqlite://{}", file.display()));
        durable.set("RELAY_ADMIN_TOKEN", TOKEN);
        durable.set("RELAY_SHUTDOWN_DELAY", "0s");
        settings.iter().for_each(|(name, value)| durable.set(name, value));
        durable
    }

    /// Sets a setting, from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Removes a setting, from the next start on.
    pub fn unset(&mut self, name: &str) {
        self.settings.retain(|(set, _)| set != name);
    }

    /// Path of the outbox.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("outbox.db")
    }

    /// The outbox's directory. It holds no other files, unless a test creates them.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts the relay and waits until it serves.
    pub async fn start_relay(&mut self) {
        assert!(self.relay.is_none(), "the relay is still running");
        let relay = Relay::start(&self.shown()).await;
        self.relay = Some(relay);
    }

    /// Starts another process with the same settings, without waiting.
    pub fn spawn(&self) -> Process {
        let settings = [("SEGMENT_WRITE_KEY", WRITE_KEY), ("RELAY_LISTEN", "127.0.0.1:0")];
        Process::start(&["serve"], &[&settings[..], &self.shown()].concat())
    }

    fn shown(&self) -> Vec<(&str, &str)> {
        self.settings.iter().map(|(name, value)| (&**name, &**value)).collect()
    }

    /// Sends SIGKILL, and waits for the end of the process.
    pub async fn kill(&mut self) {
        let mut relay = self.relay.take().expect("a relay");
        relay.process().signal("KILL");
        assert_eq!(relay.process_mut().exit_code().await, None, "the relay ended before it was killed");
    }

    /// Sends SIGTERM, and returns the exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        self.relay().process().signal("TERM");
        self.ended().await
    }

    /// Waits for the end of the relay, and returns the exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let code = self.relay.as_mut().expect("a relay").process_mut().exit_code().await;
        self.relay = None;
        code
    }

    /// The relay, if it runs.
    pub fn running(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// The running relay.
    pub fn relay(&self) -> &Relay {
        self.relay.as_ref().expect("a relay")
    }

    /// The running relay.
    pub fn relay_mut(&mut self) -> &mut Relay {
        self.relay.as_mut().expect("a relay")
    }

    /// The sandbox.
    pub fn segment(&self) -> &Segment {
        self.segment.as_ref().expect("a sandbox")
    }

    /// `POST /customers`.
    pub async fn post(&self, customer: &Value) -> Answer {
        self.relay().post(customer).await
    }

    /// `POST /customers` with these headers.
    pub async fn post_with(&self, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        self.relay().post_with(headers, body).await
    }

    /// `GET` of this path.
    pub async fn get(&self, path: &str) -> Answer {
        self.relay().get(path).await
    }

    /// Any request, with the admin token.
    pub async fn operate(&self, method: Method, path: &str) -> Answer {
        let request = self.relay().request(method, path).bearer_auth(TOKEN);
        Answer::of(request.send().await.expect("an answer")).await.expect("a whole answer")
    }

    /// All dead letters, newest first.
    pub async fn dead_letters(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut path = "/dead-letters?limit=1000".to_owned();
        loop {
            let answer = self.operate(Method::GET, &path).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            all.extend(answer.body["deadLetters"].as_array().expect("dead letters").iter().cloned());
            match &answer.body["next"] {
                Value::Null => return all,
                next => path = format!("/dead-letters?limit=1000&before={next}"),
            }
        }
    }
}
