//! The running relay, asked with the admin token.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;

use super::table::harmless;
use crate::api::NO_ROUTE;
use crate::cli::reachable;
use crate::config::{self, AdminToken};

/// A relay that lives takes a connection at once.
const CONNECT: Duration = Duration::from_secs(5);

/// Replaying a million calls takes minutes, and the relay says how many these were when it is done.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Where to ask, and as whom.
pub(super) struct Relay {
    base: String,
    token: AdminToken,
    client: Client,
}

/// There is no dead letter with this id: the others may be there. The relay's own words.
#[derive(Debug)]
pub(super) struct NotFound(String);

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotFound {}

/// What the relay says when it does not do something.
#[derive(Deserialize)]
struct Failed {
    error: Failure,
}

#[derive(Deserialize)]
struct Failure {
    message: String,
    code: String,
}

impl Relay {
    /// The relay at `base`, else the one on this machine.
    pub(super) fn of(base: Option<&str>) -> anyhow::Result<Self> {
        let token = config::admin_token_from_environment()?;
        let base = match base {
            Some(base) => base.trim_end_matches('/').to_owned(),
            None => format!("http://{}", reachable(config::listen_from_environment()?)),
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        // The token is for this address alone: no proxy and no redirect gets to see it.
        let builder = Client::builder().no_proxy().redirect(Policy::none()).connect_timeout(CONNECT).timeout(PATIENCE);
        Ok(Self { base, token, client: builder.build().context("cannot set up HTTP")? })
    }

    /// The body of the answer, if it is a success.
    pub(super) async fn ask(&self, method: Method, path: &str) -> anyhow::Result<String> {
        let Self { base, token, client } = self;
        let request = client.request(method, format!("{base}{path}")).bearer_auth(token.reveal());
        let answer = request.send().await.with_context(|| format!("{base} does not answer"))?;
        let status = answer.status();
        let body = answer.text().await.with_context(|| format!("the answer of {base} broke off"))?;
        if status.is_success() { Ok(body) } else { Err(refusal(status, &body, base)) }
    }
}

/// The relay's own words, if it is the relay that answers.
fn refusal(status: StatusCode, body: &str, base: &str) -> anyhow::Error {
    let Ok(Failed { error: Failure { message, code } }) = serde_json::from_str(body) else {
        return anyhow::anyhow!("{base} answers {status}, and not as a relay does");
    };
    if message == NO_ROUTE {
        return anyhow::anyhow!("{message}: was the relay at {base} started with RELAY_ADMIN_TOKEN?");
    }
    let words = format!("{} ({})", harmless(&message), harmless(&code));
    if status == StatusCode::NOT_FOUND { NotFound(words).into() } else { anyhow::anyhow!(words) }
}

#[cfg(test)]
mod tests {
    use super::{NotFound, StatusCode, refusal};

    #[test]
    fn the_relays_own_words_are_told_harmlessly() {
        let body = r#"{"success":false,"error":{"message":"no \u001b[31mroom","code":"overloaded"}}"#;
        let error = refusal(StatusCode::SERVICE_UNAVAILABLE, body, "http://relay");
        assert_eq!(error.to_string(), r"no \u{1b}[31mroom (overloaded)");
        assert!(!error.is::<NotFound>());
    }

    #[test]
    fn a_letter_that_is_not_there_is_told_from_a_relay_without_operators() {
        let body = |message| format!(r#"{{"success":false,"error":{{"message":"{message}","code":"not_found"}}}}"#);
        assert!(refusal(StatusCode::NOT_FOUND, &body("no such letter"), "http://relay").is::<NotFound>());
        let off = refusal(StatusCode::NOT_FOUND, &body(crate::api::NO_ROUTE), "http://relay");
        assert!(off.to_string().contains("RELAY_ADMIN_TOKEN") && !off.is::<NotFound>());
    }

    #[test]
    fn what_is_no_relay_is_said_to_be_none() {
        let error = refusal(StatusCode::BAD_GATEWAY, "<html>", "http://relay");
        assert!(error.to_string().contains("502 Bad Gateway"), "{error}");
    }
}
