//! The sources that are shipped in `config/sources`: each takes its examples with a signature, and Segment gets what the file
//! says.

use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use sha1::Sha1;
use toml::{Table, Value as Toml};

use crate::harness::sign::{Webhook, basic, hmac_base64, hmac_hex, now, webhook_secret};
use crate::harness::{Answer, App};

/// The key of those who sign with a text.
const SECRET: &str = "the-s3cret-of-a-product";

/// The user and the password of Chargebee's.
const USER_PASSWORD: &str = "chargebee:the-s3cret-of-a-product";

type Headers = Vec<(String, String)>;

pub(super) fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/sources/sources.toml")
}

/// The tables of the shipped file.
fn sources() -> Table {
    std::fs::read_to_string(shipped()).expect("the file").parse().expect("TOML")
}

/// The secret of a source, as the file names its variable.
fn secret(source: &str) -> String {
    match source {
        "clerk" => webhook_secret(b"a key of twenty-four byt"),
        "chargebee" => USER_PASSWORD.to_owned(),
        _ => SECRET.to_owned(),
    }
}

/// What proves an event's sender.
fn signed(source: &str, table: &Table, body: &str) -> Headers {
    let (secret, time) = (secret(source), now());
    let one = |name: &str, value: String| vec![(name.to_owned(), value)];
    match source {
        "shopify" => one("x-shopify-hmac-sha256", hmac_base64(&secret, body)),
        "woocommerce" => one("x-wc-webhook-signature", hmac_base64(&secret, body)),
        "stripe" => {
            let signature = hmac_hex(&secret, format!("{time}.{body}"));
            one("stripe-signature", format!("t={time},v1={signature}"))
        }
        "paddle" => {
            let signature = hmac_hex(&secret, format!("{time}:{body}"));
            one("paddle-signature", format!("ts={time};h1={signature}"))
        }
        "hubspot" => {
            let (url, time) = (table["url"].as_str().expect("the address"), format!("{time}007"));
            let signature = hmac_base64(&secret, format!("POST{url}{body}{time}"));
            [one("x-hubspot-signature-v3", signature), one("x-hubspot-request-timestamp", time)].concat()
        }
        "zendesk" => {
            let time = Timestamp::now().to_string();
            let signature = hmac_base64(&secret, format!("{time}{body}"));
            [one("x-zendesk-webhook-signature", signature), one("x-zendesk-webhook-signature-timestamp", time)].concat()
        }
        "clerk" => {
            let webhook = Webhook::sign(&secret, "msg_2invented0001", body);
            webhook.svix_headers().map(|(name, value)| (name.to_owned(), value.to_owned())).into()
        }
        "intercom" => {
            let hmac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("a key").chain_update(body).finalize();
            let digits: String = hmac.into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            one("x-hub-signature", format!("sha1={digits}"))
        }
        "chargebee" => one("authorization", basic(&secret)),
        "auth0" => one("authorization", format!("Bearer {secret}")),
        "okta" | "supabase" => one("authorization", secret),
        other => panic!("how does {other} sign?"),
    }
}

/// A relay with the shipped sources.
async fn app() -> App {
    let variables = sources().into_iter().map(|(name, table)| {
        let variable = table["secrets"][0].as_str().expect("a secret").trim_start_matches("env:").to_owned();
        (variable, secret(&name))
    });
    let variables: Headers = variables.collect();
    let path = shipped();
    let mut settings = vec![("RELAY_SOURCES", path.to_str().expect("a path"))];
    settings.extend(variables.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    App::with(&settings).await
}

async fn post(app: &App, source: &str, headers: &Headers, body: &str) -> Answer {
    let mut request = app.relay().request(Method::POST, &format!("/sources/{source}")).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(name, value);
    }
    Answer::of(request.send().await.expect("an answer")).await.expect("a whole answer")
}

#[tokio::test]
async fn every_shipped_source_takes_its_examples_with_a_signature_and_refuses_them_without() {
    let app = app().await;
    let (mut examples, mut customers) = (0, 0);
    for (source, table) in sources() {
        let table = table.as_table().expect("a table");
        for example in table["example"].as_array().expect("examples") {
            let body = example["body"].as_str().expect("a body");
            let expected: Vec<Value> =
                serde_json::from_str(example["expect"].as_str().expect("JSON")).expect("an array");
            let own = example.get("headers").and_then(Toml::as_table).into_iter().flatten();
            let own: Headers =
                own.map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned())).collect();
            let answer = post(&app, &source, &own, body).await;
            assert_eq!(answer.status, 401, "{source} without a signature: {answer:?}");
            let of_another_body = signed(&source, table, "{}");
            let answer = post(&app, &source, &[of_another_body, own.clone()].concat(), body).await;
            let has_signature = !matches!(&*source, "chargebee" | "auth0" | "okta" | "supabase");
            assert_eq!(answer.status == 401, has_signature, "{source} with another body's signature: {answer:?}");

            app.segment().reset().await;
            let answer = post(&app, &source, &[signed(&source, table, body), own].concat(), body).await;
            assert_eq!((answer.status, &answer.body["success"]), (200, &true.into()), "{source}: {answer:?}");
            if expected.is_empty() {
                assert_eq!(answer.body, json!({"success": true, "customers": 0}), "{source}");
            }
            let received = app.segment().received().await;
            assert_eq!(received.len(), expected.len(), "{source}: {received:?}");
            for customer in &expected {
                // Those of one user arrive in their order, those of several in any.
                let is_it = |call: &&Value| {
                    let fields = ["userId", "traits", "messageId"];
                    fields.iter().all(|field| customer.get(field).is_none_or(|value| call[field] == *value))
                };
                let call =
                    received.iter().find(is_it).unwrap_or_else(|| panic!("{source}: {customer} in {received:?}"));
                if let Some(time) = customer["timestamp"].as_str() {
                    let sent: Timestamp = call["timestamp"].as_str().expect("a time").parse().expect("a time");
                    let of_event: Timestamp = time.parse().expect("a time");
                    assert_eq!(sent.as_millisecond(), of_event.as_millisecond(), "{source}");
                }
            }
            (examples, customers) = (examples + 1, customers + expected.len());
        }
    }
    assert!(examples >= 36 && customers >= 26, "{examples} examples made {customers} customers");
}
