//! A client of the running relay's admin routes.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::terminal::escape;
use crate::api::NO_ROUTE;
use crate::cli::address::reachable;
use crate::config::{self, AdminToken};

/// A running relay accepts a connection at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A replay of a million calls takes minutes, and the relay answers at its end with their number.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10 * 60);

pub(super) struct Relay {
    base: String,
    token: AdminToken,
    client: Client,
}

/// A page of dead letters, each of which is the relay's JSON object.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    pub(super) dead_letters: Vec<Box<RawValue>>,
    pub(super) next: Option<i64>,
}

/// There is no dead letter with the given id. Holds the relay's message.
#[derive(Debug)]
pub(super) struct NotFound(String);

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotFound {}

impl Relay {
    /// The relay at `base`, or else the relay on this machine.
    pub(super) fn new(base: Option<&str>) -> anyhow::Result<Self> {
        let token = config::admin_token_from_environment()?;
        let base = match base {
            Some(base) => base.trim_end_matches('/').to_owned(),
            None => format!("http://{}", reachable(config::listen_from_environment()?)),
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        // No proxy and no redirect receives the token.
        let builder = Client::builder().no_proxy().redirect(Policy::none());
        let client = builder.connect_timeout(CONNECT_TIMEOUT).timeout(REQUEST_TIMEOUT).build();
        Ok(Self { base, token, client: client.context("cannot set up HTTP")? })
    }

    pub(super) async fn list(&self, limit: usize, before: Option<i64>) -> anyhow::Result<Page> {
        let before = before.map(|id| format!("&before={id}")).unwrap_or_default();
        parse(&self.request(Method::GET, &format!("?limit={limit}{before}")).await?)
    }

    pub(super) async fn replay(&self, id: i64) -> anyhow::Result<()> {
        self.request(Method::POST, &format!("/{id}/replay")).await.map(drop)
    }

    /// The number of replayed calls.
    pub(super) async fn replay_all(&self) -> anyhow::Result<u64> {
        let answer: Replayed = parse(&self.request(Method::POST, "/replay").await?)?;
        Ok(answer.replayed)
    }

    pub(super) async fn discard(&self, id: i64) -> anyhow::Result<()> {
        self.request(Method::DELETE, &format!("/{id}")).await.map(drop)
    }

    /// The body of a successful answer.
    async fn request(&self, method: Method, path: &str) -> anyhow::Result<String> {
        let Self { base, token, client } = self;
        let request = client.request(method, format!("{base}/dead-letters{path}")).bearer_auth(token.reveal());
        let answer = request.send().await.with_context(|| format!("{base} does not answer"))?;
        let status = answer.status();
        let body = answer.text().await.with_context(|| format!("the answer of {base} broke off"))?;
        if status.is_success() { Ok(body) } else { Err(failure(status, &body, base)) }
    }
}

#[derive(Deserialize)]
struct Replayed {
    replayed: u64,
}

fn parse<T: DeserializeOwned>(answer: &str) -> anyhow::Result<T> {
    serde_json::from_str(answer).context("the answer is not that of a relay")
}

/// The relay's own message, if a relay answers.
fn failure(status: StatusCode, body: &str, base: &str) -> anyhow::Error {
    #[derive(Deserialize)]
    struct Failure {
        error: Details,
    }
    #[derive(Deserialize)]
    struct Details {
        message: String,
        code: String,
    }
    let Ok(Failure { error: Details { message, code } }) = serde_json::from_str(body) else {
        return anyhow::anyhow!("{base} answers {status}, and is not a relay");
    };
    if message == NO_ROUTE {
        return anyhow::anyhow!("{message}: was the relay at {base} started with RELAY_ADMIN_TOKEN?");
    }
    let message = format!("{} ({})", escape(&message), escape(&code));
    if status == StatusCode::NOT_FOUND { NotFound(message).into() } else { anyhow::anyhow!(message) }
}

#[cfg(test)]
mod tests {
    use super::{NotFound, Page, Replayed, StatusCode, failure, parse};

    #[test]
    fn the_relays_message_is_escaped() {
        let body = r#"{"success":false,"error":{"message":"no \u001b[31mroom","code":"overloaded"}}"#;
        let error = failure(StatusCode::SERVICE_UNAVAILABLE, body, "http://relay");
        assert_eq!(error.to_string(), r"no \u{1b}[31mroom (overloaded)");
        assert!(!error.is::<NotFound>());
    }

    #[test]
    fn a_missing_dead_letter_differs_from_a_relay_without_admin_routes() {
        let body = |message| format!(r#"{{"success":false,"error":{{"message":"{message}","code":"not_found"}}}}"#);
        assert!(failure(StatusCode::NOT_FOUND, &body("no such letter"), "http://relay").is::<NotFound>());
        let off = failure(StatusCode::NOT_FOUND, &body(crate::api::NO_ROUTE), "http://relay");
        assert!(off.to_string().contains("RELAY_ADMIN_TOKEN") && !off.is::<NotFound>());
    }

    #[test]
    fn an_answer_of_another_program_is_reported() {
        let error = failure(StatusCode::BAD_GATEWAY, "<html>", "http://relay");
        assert!(error.to_string().contains("502 Bad Gateway"), "{error}");
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error() {
        assert!(parse::<Page>("<html>").is_err() && parse::<Replayed>("{}").is_err());
        assert_eq!(parse::<Replayed>(r#"{"replayed":7}"#).unwrap().replayed, 7);
    }
}
