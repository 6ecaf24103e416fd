//! `/openapi.json` describes the router and its answers, and `/docs` shows it.

mod document;
mod routes;

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;

use crate::harness::sign::{Webhook, basic, hmac_hex};
use crate::harness::{Answer, App, Durable, Raw, Relay, TOKEN, ada, customer, eventually, head};
use crate::refused_keys::give_up;
use document::Document;

const CUSTOMERS: &str = "/customers";

/// A path whose parameters have values that exist, or could exist.
fn filled(path: &str) -> String {
    let path = path.replace("/page/{file}", "/page/main.js");
    path.replace("{id}", "1").replace("{messageId}", "m-1").replace("{file}", "start.js").replace("{name}", "shop")
}

async fn ask(relay: &Relay, method: Method, path: &str) -> Answer {
    let response = relay.request(method, path).bearer_auth(TOKEN).send().await.unwrap();
    match response.headers().get("content-type").is_some_and(|media_type| media_type == "text/event-stream") {
        // It has no end.
        true => Answer::new(response.status().as_u16(), response.headers().clone(), ""),
        false => Answer::of(response).await.unwrap(),
    }
}

/// A relay with an outbox and operators, and a relay without both.
async fn both() -> (Durable, App) {
    tokio::join!(Durable::start(), App::start())
}

#[tokio::test]
async fn every_relay_serves_the_same_document() {
    let (durable, app) = both().await;
    assert_eq!(Document::of(durable.relay()).await.0, Document::of(app.relay()).await.0);
    let operators: BTreeSet<_> =
        ["/dead-letters", "/dead-letters/replay", "/dead-letters/{id}", "/dead-letters/{id}/replay"]
            .into_iter()
            .chain(["/parked", "/parked/retry", "/parked/give-up", "/parked/{id}/retry", "/parked/{id}/give-up"])
            .chain(["/forget", "/backup", "/calls/{messageId}", "/dead-letters/{id}/preview"])
            .chain(["/status", "/status/events"])
            .collect();
    let document = Document::of(app.relay()).await;
    let described: BTreeSet<_> =
        document.paths().into_iter().map(|(path, _)| path).filter(|path| document.is_for_operators(path)).collect();
    assert_eq!(described, operators);
}

#[tokio::test]
async fn each_way_to_authenticate_in_the_document_lets_a_sender_in() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let body = ada().to_string();
    let webhook = Webhook::sign(secret, "msg-1", &body);
    let of_webhook = [webhook.id.clone(), webhook.timestamp.clone(), webhook.signature.clone()];
    let settings = [
        ("none", None, vec![]),
        ("bearer", Some("t0ken-of-a-caller"), vec!["Bearer t0ken-of-a-caller".to_owned()]),
        ("basic", Some("user:pass-word-of-1"), vec![basic("user:pass-word-of-1")]),
        ("hmac", Some("key-of-the-sender"), vec![hmac_hex("key-of-the-sender", &body)]),
        ("standard-webhooks", Some(secret), of_webhook.to_vec()),
        ("standard-webhooks", Some(secret), of_webhook.to_vec()),
    ];
    let app = App::start().await;
    let alternatives = Document::of(app.relay()).await.0["paths"][CUSTOMERS]["post"]["security"].clone();
    assert_eq!(alternatives.as_array().unwrap().len(), settings.len());
    for ((scheme, secret, values), alternative) in settings.iter().zip(alternatives.as_array().unwrap()) {
        let secrets = secret.map(|secret| ("RELAY_AUTH_SECRETS", secret));
        let app = App::with(&[("RELAY_AUTH", *scheme)].into_iter().chain(secrets).collect::<Vec<_>>()).await;
        let document = Document::of(app.relay()).await;
        let header = |name: &String| {
            let scheme = &document.0["components"]["securitySchemes"][name];
            match scheme["type"].as_str().unwrap() {
                "http" => {
                    assert_eq!(&scheme["scheme"], name);
                    "authorization".to_owned()
                }
                _ => scheme["name"].as_str().unwrap().to_owned(),
            }
        };
        // Members are in alphabetical order; the values are id, timestamp, signature.
        let mut names: Vec<_> = alternative.as_object().unwrap().keys().map(header).collect();
        names.sort_by_key(|name| name.ends_with("-signature"));
        names.sort_by_key(|name| !name.ends_with("-id"));
        let headers: Vec<_> = names.iter().map(|name| &**name).zip(values.iter().map(|value| &**value)).collect();
        assert_eq!(headers.len(), values.len());
        let accepted = app.post_with(&headers, body.clone()).await;
        assert!(accepted.is_accepted(), "{scheme} {headers:?} {accepted:?}");
        document.check("post", CUSTOMERS, &accepted);
        if secret.is_some() {
            let refused = app.post(&ada()).await;
            refused.assert_failed(401, "unauthorized");
            document.check("post", CUSTOMERS, &refused);
            let challenge = refused.header("www-authenticate").map(|challenge| challenge.split(' ').next().unwrap());
            let expected = [("bearer", "Bearer"), ("basic", "Basic")].into_iter().find(|(name, _)| name == scheme);
            assert_eq!(challenge, expected.map(|(_, challenge)| challenge), "{scheme}");
        }
    }
}

/// The failures of `POST /customers` that were seen, each as the document describes it.
struct Seen {
    document: Document,
    failures: BTreeSet<(u16, String)>,
}

impl Seen {
    #[track_caller]
    fn failed(&mut self, answer: &Answer, status: u16, code: &str) {
        answer.assert_failed(status, code);
        self.document.check("post", CUSTOMERS, answer);
        self.failures.insert((status, code.to_owned()));
    }
}

#[tokio::test]
async fn every_described_answer_for_a_customer_is_given_as_the_document_says() {
    let app = App::start().await;
    let mut seen = Seen { document: Document::of(app.relay()).await, failures: BTreeSet::new() };
    let accepted = app.post(&ada()).await;
    assert!(accepted.is_accepted());
    seen.document.check("post", CUSTOMERS, &accepted);
    seen.failed(&app.post_with(&[], "{").await, 400, "invalid_json");
    let mut nameless = app.relay().connect().await;
    nameless.send("POST /customers HTTP/1.1\r\ncontent-length: 0\r\n\r\n").await;
    seen.failed(&nameless.answer().await, 400, "bad_request");
    seen.failed(&app.post_with(&[], " ".repeat(70_000)).await, 413, "message_too_large");
    seen.failed(&app.post_with(&[("content-type", "text/plain")], "{}").await, 415, "unsupported_media_type");
    let many: serde_json::Map<_, _> = (0..100).map(|number| (format!("x{number}"), json!(1))).collect();
    seen.failed(&app.post(&many.into()).await, 422, "invalid_payload");
    let guarded = App::with(&[("RELAY_AUTH", "bearer"), ("RELAY_AUTH_SECRETS", "t0ken")]).await;
    seen.failed(&guarded.post(&ada()).await, 401, "unauthorized");
    failures_of_segment(&mut seen).await;
    with_an_outbox(&mut seen).await;
    without_time_or_room(&mut seen).await;
    let mut described = seen.document.failures("post", CUSTOMERS);
    // This one needs a disk that hangs; `outbox/client/tests.rs` has one.
    assert!(described.remove(&(504, "outbox_timeout".to_owned())));
    // This one needs a fault of the relay.
    assert!(described.remove(&(500, "internal_error".to_owned())));
    assert_eq!(seen.failures, described);
}

async fn failures_of_segment(seen: &mut Seen) {
    for (fault, status, code) in [
        (json!({"poisonUserIds": ["c-1042"]}), 422, "segment_rejected"),
        (json!({"status": 401}), 502, "segment_unauthorized"),
        (json!({"status": 404}), 502, "segment_misconfigured"),
        (json!({"status": 503, "retryAfter": "120"}), 502, "segment_unavailable"),
        (json!({"status": 429, "retryAfter": "120"}), 503, "segment_rate_limited"),
    ] {
        // Each has a relay of its own, since some shut the gate.
        let app = App::start().await;
        app.segment().fail(fault).await;
        seen.failed(&app.post(&ada()).await, status, code);
    }
}

async fn with_an_outbox(seen: &mut Seen) {
    let durable = Durable::start().await;
    let keyed = [("idempotency-key", "order-7")];
    let stored = durable.post_with(&keyed, ada().to_string()).await;
    assert!(stored.is_stored());
    let replayed = durable.post_with(&keyed, ada().to_string()).await;
    assert!(replayed.is_replayed());
    let waited = durable.post_with(&[("prefer", "wait=9")], ada().to_string()).await;
    assert_eq!((waited.is_accepted(), waited.header("preference-applied")), (true, Some("wait=9")));
    for answer in [stored, replayed, waited] {
        seen.document.check("post", CUSTOMERS, &answer);
    }
    seen.failed(&durable.post_with(&keyed, ada().to_string() + " ").await, 422, "idempotency_key_reused");
    durable.segment().fail(json!({"poisonUserIds": ["c-1042"]})).await;
    let refused = durable.post_with(&[("prefer", "wait=9")], ada().to_string()).await;
    assert_eq!(refused.header("preference-applied"), Some("wait=9"));
    seen.failed(&refused, 422, "segment_rejected");

    let mut durable = Durable::start().await;
    durable.segment().fail(json!({"hang": true})).await;
    assert!(durable.post_with(&keyed, ada().to_string()).await.is_stored());
    durable.kill().await;
    give_up(&durable, "gave_up");
    durable.start_relay().await;
    seen.failed(&durable.post_with(&keyed, ada().to_string()).await, 422, "gave_up");
}

async fn without_time_or_room(seen: &mut Seen) {
    let settings = [("RELAY_REQUEST_TIMEOUT", "1s"), ("RELAY_MAX_IN_FLIGHT", "1"), ("RELAY_SHUTDOWN_DELAY", "0s")];
    let app = App::with(&settings).await;
    let mut slow: Raw = app.relay().connect().await;
    slow.send(head("content-length: 100\r\n") + "{").await;
    seen.failed(&slow.answer().await, 408, "request_timeout");
    app.segment().fail(json!({"hang": true})).await;
    let (ada, other) = (ada(), customer("c-2"));
    let crowded = async {
        eventually(async || app.relay().metric("segment_relay_slots_busy").await == 1.0).await;
        app.post(&other).await
    };
    let (hanging, crowded) = tokio::join!(app.post(&ada), crowded);
    seen.failed(&hanging, 504, "segment_timeout");
    seen.failed(&crowded, 503, "overloaded");
    let app = App::with(&[("RELAY_SHUTDOWN_DELAY", "0s"), ("RELAY_SHUTDOWN_GRACE", "500ms")]).await;
    app.segment().fail(json!({"status": 503, "retryAfter": "5"})).await;
    let told_to_stop = async {
        eventually(async || app.segment().stats().await["faultedRequests"] == 1).await;
        app.relay().process().signal("TERM");
    };
    let (stopped, ()) = tokio::join!(app.post(&ada), told_to_stop);
    seen.failed(&stopped, 503, "shutting_down");
}

#[tokio::test]
async fn the_codes_in_the_document_are_those_that_the_relay_counts() {
    let app = App::start().await;
    let described = Document::of(app.relay()).await.failures("post", CUSTOMERS);
    let mut described: BTreeSet<_> = described.into_iter().map(|(_, code)| code).collect();
    // These are not failures of the operation: the successes, and the answer to another method.
    described.extend(["", "method_not_allowed"].map(str::to_owned));
    let metrics = app.get("/metrics").await;
    let series =
        |line: &str| Some(line.strip_prefix("segment_relay_requests_total{code=\"")?.split('"').next()?.to_owned());
    let counted: BTreeSet<_> = metrics.body.as_str().unwrap().lines().filter_map(series).collect();
    assert_eq!(described, counted);
}

#[tokio::test]
async fn every_other_answer_is_as_the_document_says() {
    let durable = Durable::start().await;
    let document = Document::of(durable.relay()).await;
    durable.segment().fail(json!({"poisonUserIds": ["c-1042"]})).await;
    for _ in 0..3 {
        durable.post_with(&[("prefer", "wait=9")], ada().to_string()).await.assert_failed(422, "segment_rejected");
    }
    let keyed = [("prefer", "wait=9"), ("idempotency-key", "k-1")];
    let accepted = durable.post_with(&keyed, customer("c-2").to_string()).await;
    let accepted = format!("/calls/{}", accepted.body["messageId"].as_str().unwrap());
    let letters = durable.dead_letters().await;
    let id = letters[0]["id"].to_string();
    let refused = format!("/calls/{}", letters[0]["messageId"].as_str().unwrap());
    for (method, path, filled, status) in [
        ("get", "/dead-letters", "/dead-letters?limit=2", 200),
        ("get", "/dead-letters", "/dead-letters?limit=1001", 422),
        ("post", "/dead-letters/replay", "/dead-letters/replay?sources=shop", 422),
        ("delete", "/dead-letters", "/dead-letters?status=0", 422),
        ("delete", "/dead-letters", "/dead-letters", 400),
        ("get", "/calls/{messageId}", &accepted, 200),
        ("get", "/calls/{messageId}", &refused, 200),
        ("get", "/calls/{messageId}", "/calls/m-1", 404),
        ("get", "/calls/{messageId}", "/calls/m-1?limit=1", 422),
        ("get", "/dead-letters/{id}/preview", &format!("/dead-letters/{id}/preview"), 404),
        ("get", "/dead-letters/{id}/preview", &format!("/dead-letters/{id}/preview?limit=1"), 422),
        ("delete", "/dead-letters/{id}", &format!("/dead-letters/{id}"), 204),
        ("delete", "/dead-letters/{id}", &format!("/dead-letters/{id}"), 404),
        ("post", "/dead-letters/{id}/replay", &format!("/dead-letters/{}/replay", letters[1]["id"]), 202),
        ("post", "/dead-letters/{id}/replay", "/dead-letters/0/replay", 404),
        ("post", "/dead-letters/replay", "/dead-letters/replay", 202),
        ("get", "/parked", "/parked?limit=2", 200),
        ("get", "/parked", "/parked?limit=2&userId=c-1", 200),
        ("get", "/parked", "/parked?limit=1001", 422),
        ("post", "/parked/retry", "/parked/retry", 202),
        ("post", "/parked/retry", "/parked/retry?status=x", 422),
        ("post", "/parked/give-up", "/parked/give-up?status=403", 202),
        ("post", "/parked/give-up", "/parked/give-up?all", 422),
        ("post", "/parked/{id}/retry", "/parked/1/retry", 404),
        ("post", "/parked/{id}/retry", "/parked/1/retry?status=500", 422),
        ("post", "/parked/{id}/give-up", "/parked/1/give-up?status=500", 422),
        ("post", "/dead-letters/{id}/replay", "/dead-letters/1/replay?perSecond=1", 422),
        ("delete", "/dead-letters/{id}", "/dead-letters/1?userId=c-2", 422),
        ("post", "/parked/{id}/give-up", "/parked/1/give-up", 404),
        ("delete", "/dead-letters", "/dead-letters?all", 200),
        ("get", "/backup", "/backup", 200),
        ("get", "/status", "/status", 200),
        ("get", "/status/events", "/status/events", 200),
        ("get", "/", "/", 200),
        ("get", "/page/{file}", "/page/main.js", 200),
        ("get", "/page/{file}", "/page/page.css", 200),
        ("get", "/page/{file}", "/page/icon.svg", 200),
        ("get", "/page/{file}", "/page/page.rs", 404),
        ("get", "/healthz", "/healthz", 200),
        ("get", "/readyz", "/readyz", 200),
        ("get", "/metrics", "/metrics", 200),
    ] {
        let answer = ask(durable.relay(), Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(), filled).await;
        assert_eq!(answer.status, status, "{method} {filled} {answer:?}");
        document.check(method, path, &answer);
    }
    for (path, methods) in document.paths() {
        for method in methods.iter().filter(|_| document.is_for_operators(path)) {
            let stranger = durable.relay().request(method.clone(), &filled(path)).send().await.unwrap();
            let answer = Answer::of(stranger).await.unwrap();
            answer.assert_failed(401, "unauthorized");
            document.check(&method.as_str().to_lowercase(), path, &answer);
        }
    }
    let unknown = durable.get("/nothing-here").await;
    unknown.assert_failed(404, "not_found");
    document.check_component("NotFound", &unknown);
    without_an_outbox(&document).await;
    let stopping = App::with(&[("RELAY_SHUTDOWN_DELAY", "1m")]).await;
    stopping.relay().process().signal("TERM");
    eventually(async || stopping.get("/readyz").await.status == 503).await;
    document.check("get", "/readyz", &stopping.get("/readyz").await);
}

/// The answers to operators of a relay without an outbox, and to anybody of a relay without operators.
async fn without_an_outbox(document: &Document) {
    let operated = App::with(&[("RELAY_ADMIN_TOKEN", TOKEN)]).await;
    operated.segment().fail(json!({"status": 401})).await;
    // The third failure in a row is an outage.
    for _ in 0..3 {
        operated.post(&ada()).await.assert_failed(502, "segment_unauthorized");
    }
    let status = ask(operated.relay(), Method::GET, "/status").await;
    assert_eq!(
        (status.status, &status.body["outbox"], &status.body["segment"]["gate"]["shut"]),
        (200, &json!(null), &json!(true))
    );
    document.check("get", "/status", &status);
    let plain = App::start().await;
    for (path, methods) in document.paths().into_iter().filter(|(path, _)| document.is_for_operators(path)) {
        for method in methods {
            let answer = ask(plain.relay(), method.clone(), &filled(path)).await;
            answer.assert_failed(404, "not_found");
            document.check(&method.as_str().to_lowercase(), path, &answer);
            if !path.starts_with("/status") {
                let answer = ask(operated.relay(), method.clone(), &filled(path)).await;
                answer.assert_failed(404, "not_found");
                document.check(&method.as_str().to_lowercase(), path, &answer);
            }
        }
    }
}

#[tokio::test]
async fn the_examples_of_a_customer_are_accepted_or_stored() {
    let (durable, app) = both().await;
    let document = Document::of(app.relay()).await;
    let content = &document.0["paths"][CUSTOMERS]["post"]["requestBody"]["content"]["application/json"];
    let schema = document.0.pointer(&content["schema"]["anyOf"][0]["$ref"].as_str().unwrap()[1..]).unwrap();
    for example in [&content["examples"]["ada"]["value"], &schema["examples"][0]] {
        assert!(app.post(example).await.is_accepted());
        assert!(durable.post(example).await.is_stored());
    }
}

#[tokio::test]
async fn the_page_is_made_of_what_the_relay_serves_and_nothing_else() {
    let app = App::start().await;
    let document = Document::of(app.relay()).await;
    let page = app.get("/docs").await;
    document.check("get", "/docs", &page);
    let html = page.body.as_str().unwrap();
    assert!(!html.contains("//") && !html.contains("<style") && !html.contains("style="), "{html}");
    let linked: Vec<_> = ["href=\"", "src=\""].iter().flat_map(|attribute| html.split(attribute).skip(1)).collect();
    let linked: Vec<_> = linked.into_iter().map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(html.matches("<script").count() == html.matches("<script src=").count(), "no script on the page: {html}");
    let mut files = BTreeSet::new();
    for link in linked.into_iter().filter(|link| *link != "data:,") {
        // Relative to the page, so that a proxy may put a path before both.
        assert!(!link.starts_with('/'), "{link}");
        let answer = app.get(&format!("/{link}")).await;
        assert_eq!(answer.status, 200, "{link}");
        if link.starts_with("docs/") {
            document.check("get", "/docs/{file}", &answer);
        }
        if let Some(file) = link.strip_prefix("docs/") {
            assert_eq!(answer.header("content-security-policy"), page.header("content-security-policy"));
            files.insert(file.to_owned());
        }
    }
    let described = &document.0["paths"]["/docs/{file}"]["get"]["parameters"][0]["schema"]["enum"];
    let described: BTreeSet<_> =
        described.as_array().unwrap().iter().map(|file| file.as_str().unwrap().to_owned()).collect();
    assert_eq!(files, described, "and none is there for nothing");
    let start = app.get("/docs/start.js").await;
    document.check("get", "/docs/{file}", &start);
    assert!(start.body.as_str().unwrap().contains("\"../openapi.json\""));
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe") && !policy.contains("http"),
        "{policy}"
    );
    // With a slash at the end the page is the same, and its links lead to the same files.
    let slashed = app.get("/docs/").await;
    assert_eq!(slashed.status, 200);
    let slashed = slashed.body.as_str().unwrap();
    for file in &files {
        assert!(slashed.contains(&format!("\"{file}\"")) && html.contains(&format!("\"docs/{file}\"")), "{slashed}");
    }
    assert!(slashed.contains("\"../openapi.json\""), "{slashed}");
    app.get("/docs/docs.rs").await.assert_failed(404, "not_found");
    app.get("/docs/%ff").await.assert_failed(404, "not_found");
}
