//! `/openapi.json` and what is answered say the same, and `/docs` shows it.

mod document;

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, App, Durable, Raw, Relay, TOKEN, ada, customer, eventually, head};
use document::Document;

const CUSTOMERS: &str = "/customers";

/// An operation's path with something in place of its parameters that is there, or could be.
fn filled(path: &str) -> String {
    path.replace("{id}", "1").replace("{file}", "start.js")
}

async fn ask(relay: &Relay, method: Method, path: &str) -> Answer {
    Answer::of(relay.request(method, path).bearer_auth(TOKEN).send().await.unwrap()).await.unwrap()
}

/// A relay with everything, and one with as little as can be.
async fn both() -> (Durable, App) {
    tokio::join!(Durable::start(), App::start())
}

#[tokio::test]
async fn every_path_of_the_document_takes_its_methods_and_no_others() {
    let (durable, app) = both().await;
    for relay in [durable.relay(), app.relay()] {
        for (path, mut methods) in Document::of(relay).await.paths() {
            if methods.contains(&Method::GET) {
                methods.insert(Method::HEAD);
            }
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                let answer = ask(relay, method.clone(), &filled(path)).await;
                if methods.contains(&method) {
                    assert_ne!(answer.status, 405, "{method} {path}");
                    assert_ne!(answer.message(), "there is nothing at this path", "{method} {path}");
                    continue;
                }
                assert_eq!(answer.status, 405, "{method} {path}");
                let allowed = answer.header("allow").unwrap_or_default().split(',');
                let allowed: BTreeSet<_> =
                    allowed.map(|name| Method::from_bytes(name.trim().as_bytes()).unwrap()).collect();
                assert_eq!(allowed, methods, "{path}");
                // A HEAD has no body.
                if method != Method::HEAD {
                    answer.assert_failed(405, "method_not_allowed");
                }
                assert!(answer.header("x-request-id").is_some(), "{path}");
            }
        }
    }
}

#[tokio::test]
async fn the_endpoints_of_operators_are_in_the_document_of_a_relay_that_has_them() {
    let (durable, app) = both().await;
    let paths = |document: &Document| document.paths().iter().map(|(path, _)| (*path).to_owned()).collect::<Vec<_>>();
    let (all, few) = (Document::of(durable.relay()).await, Document::of(app.relay()).await);
    let open = ["/customers", "/docs", "/docs/{file}", "/healthz", "/metrics", "/openapi.json", "/readyz"];
    let operators =
        ["/dead-letters", "/dead-letters/replay", "/dead-letters/{id}", "/dead-letters/{id}/replay", "/status"];
    assert_eq!(paths(&few), open);
    let mut expected = [&open[..], &operators].concat();
    expected.sort_unstable();
    assert_eq!(paths(&all), expected);
    assert_eq!(few.0["components"]["securitySchemes"], json!({}));
    assert!(!few.0.to_string().contains("operator"), "nothing betrays that there could be more");
    for path in operators {
        for operation in all.0["paths"][path].as_object().unwrap().values().filter(|item| item.is_object()) {
            assert_eq!(operation["security"], json!([{"operator": []}]));
        }
    }
}

#[tokio::test]
async fn what_a_caller_has_to_show_is_what_relay_auth_says() {
    let header = |name: &str| json!({name: {"type": "apiKey", "in": "header", "name": name}});
    let webhooks = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let svix = ["svix-id", "svix-timestamp", "svix-signature"];
    let all =
        |names: [&str; 3]| names.iter().map(|name| ((*name).to_owned(), json!([]))).collect::<serde_json::Map<_, _>>();
    let merged = webhooks.iter().chain(&svix).map(|name| header(name)[name].clone()).collect::<Vec<_>>();
    let named: Value = merged
        .iter()
        .map(|s| (s["name"].as_str().unwrap().to_owned(), s.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let cases = [
        ("bearer", "t0ken", json!({"caller": {"type": "http", "scheme": "bearer"}}), json!([{"caller": []}])),
        ("basic", "u:p", json!({"caller": {"type": "http", "scheme": "basic"}}), json!([{"caller": []}])),
        ("hmac", "k", header("x-signature-256"), json!([{"x-signature-256": []}])),
        ("standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", named, json!([all(webhooks), all(svix)])),
    ];
    for (scheme, secret, schemes, needed) in cases {
        let app = App::with(&[("RELAY_AUTH", scheme), ("RELAY_AUTH_SECRETS", secret)]).await;
        let mut document = Document::of(app.relay()).await;
        let answer = app.post(&ada()).await;
        answer.assert_failed(401, "unauthorized");
        document.check("post", CUSTOMERS, &answer);
        assert_eq!(document.0["paths"][CUSTOMERS]["post"]["security"], needed);
        let described = document.0["components"]["securitySchemes"].as_object_mut().unwrap();
        described.values_mut().for_each(|scheme| drop(scheme.as_object_mut().unwrap().remove("description")));
        assert_eq!(document.0["components"]["securitySchemes"], schemes, "{scheme}");
    }
    let app = App::start().await;
    let document = Document::of(app.relay()).await;
    assert_eq!(document.0["paths"][CUSTOMERS]["post"]["security"], json!([]));
    assert!(document.0["paths"][CUSTOMERS]["post"]["responses"].get("401").is_none());
}

/// What was seen of the answers of `POST /customers`, each as the document has it.
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
async fn every_answer_for_a_customer_is_as_the_document_says_and_all_it_says_are_given() {
    let app = App::start().await;
    let mut seen = Seen { document: Document::of(app.relay()).await, failures: BTreeSet::new() };
    let accepted = app.post(&ada()).await;
    assert!(accepted.is_accepted());
    seen.document.check("post", CUSTOMERS, &accepted);
    seen.failed(&app.post_with(&[], "{").await, 400, "invalid_json");
    seen.failed(&app.post_with(&[], " ".repeat(70_000)).await, 413, "message_too_large");
    seen.failed(&app.post_with(&[("content-type", "text/plain")], "{}").await, 415, "unsupported_media_type");
    let many: serde_json::Map<_, _> = (0..100).map(|number| (format!("x{number}"), json!(1))).collect();
    seen.failed(&app.post(&many.into()).await, 422, "invalid_payload");
    failures_of_segment(&mut seen).await;
    with_an_outbox(&mut seen).await;
    without_time_or_room(&mut seen).await;
    let mut described = seen.document.failures("post", CUSTOMERS);
    // This one needs a disk that hangs; `outbox/client/tests.rs` has one.
    assert!(described.remove(&(504, "outbox_timeout".to_owned())));
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
    let app = App::with(&[("RELAY_AUTH", "bearer"), ("RELAY_AUTH_SECRETS", "t0ken")]).await;
    let described = Document::of(app.relay()).await.failures("post", CUSTOMERS);
    let mut described: BTreeSet<_> = described.into_iter().map(|(_, code)| code).collect();
    // These are no failures of the operation: successes (no code), what another method gets, what stops the start, and a
    // fault of the relay.
    described.extend(["", "method_not_allowed", "not_configured", "internal_error"].map(str::to_owned));
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
    let letters = durable.dead_letters().await;
    let id = letters[0]["id"].to_string();
    for (method, path, filled, status) in [
        ("get", "/dead-letters", "/dead-letters?limit=2", 200),
        ("get", "/dead-letters", "/dead-letters?limit=1001", 422),
        ("delete", "/dead-letters/{id}", &format!("/dead-letters/{id}"), 204),
        ("delete", "/dead-letters/{id}", &format!("/dead-letters/{id}"), 404),
        ("post", "/dead-letters/{id}/replay", &format!("/dead-letters/{}/replay", letters[1]["id"]), 202),
        ("post", "/dead-letters/{id}/replay", "/dead-letters/0/replay", 404),
        ("post", "/dead-letters/replay", "/dead-letters/replay", 202),
        ("get", "/status", "/status", 200),
        ("get", "/healthz", "/healthz", 200),
        ("get", "/readyz", "/readyz", 200),
        ("get", "/metrics", "/metrics", 200),
    ] {
        let answer = ask(durable.relay(), Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(), filled).await;
        assert_eq!(answer.status, status, "{method} {filled} {answer:?}");
        document.check(method, path, &answer);
    }
    for (path, methods) in document.paths() {
        for method in methods.iter().filter(|_| path.starts_with("/dead-letters") || path == "/status") {
            let stranger = durable.relay().request(method.clone(), &filled(path)).send().await.unwrap();
            let answer = Answer::of(stranger).await.unwrap();
            answer.assert_failed(401, "unauthorized");
            document.check(&method.as_str().to_lowercase(), path, &answer);
        }
    }
    let stopping = App::with(&[("RELAY_SHUTDOWN_DELAY", "1m")]).await;
    stopping.relay().process().signal("TERM");
    eventually(async || stopping.get("/readyz").await.status == 503).await;
    document.check("get", "/readyz", &stopping.get("/readyz").await);
}

#[tokio::test]
async fn the_example_is_accepted() {
    let app = App::start().await;
    let document = Document::of(app.relay()).await;
    let content = &document.0["paths"][CUSTOMERS]["post"]["requestBody"]["content"]["application/json"];
    assert!(app.post(&content["examples"]["ada"]["value"]).await.is_accepted());
    let schema = document.0.pointer(&content["schema"]["$ref"].as_str().unwrap()[1..]).unwrap();
    assert!(app.post(&schema["examples"][0]).await.is_accepted());
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
    assert!(start.body.as_str().unwrap().contains("\"openapi.json\""));
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe") && !policy.contains("http"),
        "{policy}"
    );
    app.get("/docs/docs.rs").await.assert_failed(404, "not_found");
    app.get("/docs/%ff").await.assert_failed(404, "not_found");
}
