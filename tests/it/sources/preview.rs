//! `GET /dead-letters/{id}/preview` of the built binary: what the filter makes of a kept event now, and that it changes nothing.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Durable, customer, eventually};

/// The file of one source, whose filter this is.
fn source(filter: &str) -> String {
    format!("[shop]\nverify = \"none\"\nmap = '{filter}'\n")
}

async fn preview(durable: &Durable, id: &Value) -> Answer {
    durable.operate(Method::GET, &format!("/dead-letters/{id}/preview")).await
}

#[tokio::test]
async fn an_event_is_shown_with_what_its_filter_makes_of_it_now() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sources.toml");
    fs::write(&path, source(".users[] | {userId: .id, traits: {email: .mail}}")).unwrap();
    let durable = Durable::with(&[("RELAY_SOURCES", path.to_str().unwrap())]).await;
    for body in [r#"{"users":[{"id":"c-1","mail":7},{"id":"c-2"}]}"#, r#"{"users":7}"#, "no json"] {
        let request = durable.relay().request(Method::POST, "/sources/shop").body(body);
        assert_eq!(request.send().await.unwrap().status(), 202);
    }
    let letters = durable.dead_letters().await;
    let [no_json, seven, users] = [0, 1, 2].map(|place| &letters[place]["id"]);
    let made = json!([{"userId": "c-1", "traits": {"email": 7}}, {"userId": "c-2", "traits": {"email": null}}]);
    let answer = preview(&durable, users).await;
    assert_eq!((answer.status, &answer.body["customers"]), (200, &made));
    let problems = answer.body["problems"].as_array().unwrap();
    assert_eq!((problems.len(), &problems[0]["field"]), (1, &json!("/0/traits/email")), "{problems:?}");
    assert!(problems[0]["message"].as_str().unwrap().starts_with("must be a string"), "{problems:?}");
    for (id, words) in [(seven, "iterable"), (no_json, "not JSON")] {
        let answer = preview(&durable, id).await.body;
        assert_eq!((&answer["customers"], answer["problems"].as_array().unwrap().len()), (&json!([]), 1), "{answer}");
        let problem = &answer["problems"][0];
        assert!(problem["message"].as_str().unwrap().contains(words) && problem.get("field").is_none(), "{answer}");
    }
    let read_again = async |text: &str| {
        let heard = |line: &Value| line["message"].as_str().is_some_and(|message| message.contains("read again"));
        let count = || durable.relay().log().iter().filter(|line| heard(line)).count();
        let before = count();
        fs::write(&path, text).unwrap();
        durable.relay().process().signal("HUP");
        eventually(async || count() > before).await;
    };
    read_again(&source(".users[] | {userId: .id, traits: {}}")).await;
    let answer = preview(&durable, users).await.body;
    assert_eq!(
        answer,
        json!({"customers": [{"userId": "c-1", "traits": {}}, {"userId": "c-2", "traits": {}}], "problems": []})
    );
    read_again("# There is none.\n").await;
    let answer = preview(&durable, users).await.body;
    assert!(answer["problems"][0]["message"].as_str().unwrap().contains("not configured"), "{answer}");
    assert_eq!(durable.dead_letters().await, letters, "a look changes nothing");
    assert!(durable.segment().received().await.is_empty());
    for line in durable.relay().log() {
        assert!(!line.to_string().contains("c-1") && !line.to_string().contains("must be a string"), "{line}");
    }
}

#[tokio::test]
async fn a_call_and_an_unknown_letter_have_no_preview() {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"poisonUserIds": ["c-1"]})).await;
    durable.post(&customer("c-1")).await;
    eventually(async || durable.dead_letters().await.len() == 1).await;
    let call = preview(&durable, &durable.dead_letters().await[0]["id"]).await;
    call.assert_failed(404, "not_found");
    assert!(call.message().contains("a call and not an event"), "{call:?}");
    for unknown in [json!(0), json!(77), json!("x")] {
        let answer = preview(&durable, &unknown).await;
        answer.assert_failed(404, "not_found");
        assert!(answer.message().contains("no dead letter with this id"), "{answer:?}");
    }
}
