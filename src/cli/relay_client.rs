//! A client of the running relay's admin routes.

use std::io;
use std::time::Duration;

use anyhow::{Context, anyhow};
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use super::address::{given_url, http_client, local_url};
use super::dead_letters::table::escape;
use crate::api::NO_ROUTE;
use crate::config::{self, Secret};

/// A running relay accepts a connection at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the relay may send nothing. A replay of a million calls takes minutes, and so does the copy of a large outbox. The
/// relay answers at their end.
const READ_TIMEOUT: Duration = Duration::from_secs(10 * 60);

pub(super) struct RelayClient {
    base: String,
    token: Secret,
    client: Client,
}

impl RelayClient {
    /// The relay at `base`, or else the relay on this machine.
    pub(super) fn new(base: Option<&str>) -> anyhow::Result<Self> {
        let token = config::admin_token_from_environment()?;
        let base = match base {
            Some(base) => given_url(base)?.trim_end_matches('/').to_owned(),
            None => local_url()?,
        };
        // No proxy and no redirect receives the token.
        let builder = http_client(&base).redirect(Policy::none());
        let client = builder.connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
        Ok(Self { base, token, client: client.context("cannot set up HTTP")? })
    }

    /// The body of a successful answer. The error is as that of [`request`](Self::request).
    pub(super) async fn request_text(&self, method: Method, path: &str) -> anyhow::Result<String> {
        let answer = self.request(method, path).await?;
        answer.text().await.with_context(|| self.broke_off())
    }

    /// The body of the successful answer to a POST with this JSON.
    pub(super) async fn post_json(&self, path: &str, body: &Value) -> anyhow::Result<String> {
        let request = self.client.post(format!("{}{path}", self.base)).header(CONTENT_TYPE, "application/json");
        let request = request.body(body.to_string());
        self.send(request).await?.text().await.with_context(|| self.broke_off())
    }

    /// The head of a successful answer. The error is an `io::Error` of the kind `NotFound` if the relay has the route, and
    /// not what the path names.
    pub(super) async fn request(&self, method: Method, path: &str) -> anyhow::Result<Response> {
        self.send(self.client.request(method, format!("{}{path}", self.base))).await
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let base = &self.base;
        let answer =
            request.bearer_auth(self.token.reveal()).send().await.with_context(|| format!("{base} does not answer"))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.text().await.with_context(|| self.broke_off())?;
        Err(failure(status, &body, base))
    }

    /// The error message for an answer that is not whole.
    pub(super) fn broke_off(&self) -> String {
        format!("the answer of {} broke off", self.base)
    }
}

/// The relay's own message, if a relay answers.
fn failure(status: StatusCode, body: &str, base: &str) -> anyhow::Error {
    let error = serde_json::from_str::<Value>(body).unwrap_or_default()["error"].take();
    let (Some(message), Some(code)) = (error["message"].as_str(), error["code"].as_str()) else {
        return anyhow!("{base} answers {status}, and is not a relay");
    };
    if message == NO_ROUTE {
        return anyhow!("{message}: does the relay at {base} have RELAY_ADMIN_TOKEN, and no other RELAY_ADMIN_LISTEN?");
    }
    let message = format!("{} ({})", escape(message), escape(code));
    if status == StatusCode::NOT_FOUND {
        return io::Error::new(io::ErrorKind::NotFound, message).into();
    }
    anyhow!(message)
}

#[cfg(test)]
mod tests {
    use super::{StatusCode, failure, io};

    fn is_not_found(error: &anyhow::Error) -> bool {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    #[test]
    fn the_relays_message_is_escaped() {
        let body = r#"{"success":false,"error":{"message":"no \u001b[31mroom","code":"overloaded"}}"#;
        let error = failure(StatusCode::SERVICE_UNAVAILABLE, body, "http://relay");
        assert_eq!(error.to_string(), r"no \u{1b}[31mroom (overloaded)");
        assert!(!is_not_found(&error));
    }

    #[test]
    fn a_missing_dead_letter_differs_from_a_relay_without_admin_routes() {
        let body = |message| format!(r#"{{"success":false,"error":{{"message":"{message}","code":"not_found"}}}}"#);
        assert!(is_not_found(&failure(StatusCode::NOT_FOUND, &body("no such letter"), "http://relay")));
        let off = failure(StatusCode::NOT_FOUND, &body(crate::api::NO_ROUTE), "http://relay");
        assert!(off.to_string().contains("RELAY_ADMIN_TOKEN") && !is_not_found(&off));
    }

    #[test]
    fn an_answer_of_another_program_is_reported() {
        let error = failure(StatusCode::BAD_GATEWAY, "<html>", "http://relay");
        assert!(error.to_string().contains("502 Bad Gateway"), "{error}");
    }
}
