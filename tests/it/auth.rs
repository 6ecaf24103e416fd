//! Who may send customers: every scheme as its senders, their attackers and the operator see it.
//!
//! One file a scheme; what is the same in all of them is in the others.

mod basic;
mod bearer;
mod crowd;
mod hmac;
mod order;
mod replay;
mod rotation;
mod seen;
mod settings;
mod vectors;
mod webhooks;

use reqwest::{Body, Client};

use crate::harness::sign::{Webhook, basic as basic_credentials, hmac_hex, webhook_secret};
use crate::harness::{Answer, App, Relay, client_builder};

/// A good customer, as bytes that can be signed.
const BODY: &str = r#"{"userId":"c-1042","traits":{"plan":"pro"}}"#;

const SCHEMES: [&str; 4] = ["standard-webhooks", "hmac", "bearer", "basic"];

/// A relay that wants this scheme with these secrets.
async fn guarded(scheme: &str, secrets: &str) -> App {
    App::with(&[("RELAY_AUTH", scheme), ("RELAY_AUTH_SECRETS", secrets)]).await
}

/// A secret that fits the scheme: another one for each `seed`.
fn secret(scheme: &str, seed: &str) -> String {
    match scheme {
        "standard-webhooks" => webhook_secret(format!("s3cret-{seed}-of-24-bytes").as_bytes()),
        "basic" => format!("sender:s3cret-{seed}"),
        _ => format!("s3cret-{seed}"),
    }
}

/// The headers with which somebody who has this secret sends this body now.
fn credentials(scheme: &str, secret: &str, id: &str, body: &str) -> Vec<(String, String)> {
    let one = |name: &str, value: String| vec![(name.to_owned(), value)];
    match scheme {
        "standard-webhooks" => owned(&Webhook::sign(secret, id, body).headers()),
        "hmac" => one("x-signature-256", hmac_hex(secret, body)),
        "bearer" => one("authorization", format!("Bearer {secret}")),
        "basic" => one("authorization", basic_credentials(secret)),
        _ => panic!("no such scheme: {scheme}"),
    }
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (&**name, &**value)).collect()
}

/// A client that speaks HTTP/2 without TLS.
fn h2_client() -> Client {
    client_builder().http2_prior_knowledge().build().expect("a client")
}

/// `POST /customers` of JSON with this client.
async fn post_by(client: &Client, relay: &Relay, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let mut request = client.post(relay.url("/customers")).header("content-type", "application/json").body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.send().await.expect("an answer")).await.expect("a whole answer")
}

/// That this is a 401 and says nothing but its code and a message; the message, in lower case.
#[track_caller]
fn refused(answer: &Answer) -> String {
    answer.assert_failed(401, "unauthorized");
    assert_eq!(answer.body["error"].as_object().map(serde_json::Map::len), Some(2), "{answer:?}");
    assert_eq!(answer.retry_after(), None, "{answer:?}");
    answer.message().to_lowercase()
}

/// That this is a 401 which names this header.
#[track_caller]
fn refused_for(answer: &Answer, header: &str) {
    let message = refused(answer);
    assert!(message.contains(header), "it does not name {header}: {message}");
}
