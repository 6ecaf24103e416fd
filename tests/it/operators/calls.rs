//! `GET /calls/{messageId}` and `segment-relay call`: what became of a call, with a key and without one, through a kill.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, App, Durable, Process, TOKEN, customer, eventually};

async fn find(durable: &Durable, message_id: &str) -> Answer {
    durable.operate(Method::GET, &format!("/calls/{message_id}")).await
}

async fn outcome(durable: &Durable, message_id: &str) -> Value {
    find(durable, message_id).await.body["outcome"].clone()
}

/// Stores a call of this user, and returns its `messageId`.
async fn store(durable: &Durable, user: &str, key: Option<&str>) -> String {
    let headers: Vec<_> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
    let answer = durable.post_with(&headers, customer(user).to_string()).await;
    assert!(answer.is_stored(), "{answer:?}");
    answer.body["messageId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_call_is_found_while_it_waits_when_it_is_refused_and_after_a_kill() {
    let mut durable = Durable::start().await;
    durable.segment().fail(json!({"hang": true})).await;
    let ids = [store(&durable, "c-1", None).await, store(&durable, "c-2", Some("k-1")).await];
    for (message_id, user) in ids.iter().zip(["c-1", "c-2"]) {
        let waiting = find(&durable, message_id).await;
        assert_eq!(waiting.status, 200);
        let expected = json!({
            "messageId": message_id, "userId": user, "outcome": "waiting", "storedAt": waiting.body["storedAt"],
            "attempts": null, "status": null, "reason": null,
        });
        assert_eq!(waiting.body, expected);
    }
    durable.kill().await;
    durable.segment().fail(json!({"poisonUserIds": ["c-1", "c-2"]})).await;
    durable.start_relay().await;
    eventually(async || durable.dead_letters().await.len() == 2).await;
    for message_id in &ids {
        let refused = find(&durable, message_id).await.body;
        assert_eq!((&refused["outcome"], &refused["status"]), (&json!("refused"), &json!(400)), "{refused}");
        assert!(refused["attempts"].as_u64() >= Some(1), "{refused}");
        assert!(refused["reason"].as_str().unwrap().contains("poisoned user"), "{refused}");
    }
    durable.segment().heal().await;
    assert_eq!(durable.operate(Method::POST, "/dead-letters/replay").await.body, json!({"replayed": 2}));
    // Without a key nothing is kept of an accepted call.
    eventually(async || find(&durable, &ids[0]).await.status == 404).await;
    eventually(async || outcome(&durable, &ids[1]).await == "accepted").await;
    durable.kill().await;
    durable.start_relay().await;
    assert_eq!(find(&durable, &ids[1]).await.body, json!({"messageId": ids[1], "outcome": "accepted"}));
    let line = |line: &Value| line["route"] == "/calls/{messageId}" && line["method"] == "GET";
    eventually(async || durable.relay().log().iter().any(line)).await;
    assert!(!durable.relay().process().stdout().concat().contains(&ids[1]), "no id is logged");
}

#[tokio::test]
async fn a_message_id_of_the_callers_own_may_have_any_characters() {
    let durable = Durable::start().await;
    let message_id = "order 7/ä?%2F\"\\\u{1f}#";
    let mut body = customer("c-1");
    body["messageId"] = message_id.into();
    assert!(durable.post(&body).await.is_stored());
    let encoded: String = message_id.bytes().map(|byte| format!("%{byte:02x}")).collect();
    eventually(async || outcome(&durable, &encoded).await == "accepted").await;
    for unknown in ["order%207", "order%207%2Fz", "%ff", "-", &"m".repeat(5000)] {
        find(&durable, unknown).await.assert_failed(404, "not_found");
    }
    durable.operate(Method::POST, "/calls/m-1").await.assert_failed(405, "method_not_allowed");
    find(&durable, "m-1?userId=c-1").await.assert_failed(422, "invalid_payload");
    let stranger = durable.relay().request(Method::GET, "/calls/m-1").send().await.unwrap();
    assert_eq!(stranger.status(), 401);
    let app = App::with(&[("RELAY_ADMIN_TOKEN", TOKEN)]).await;
    let request = app.relay().request(Method::GET, "/calls/m-1").bearer_auth(TOKEN);
    let answer = Answer::of(request.send().await.unwrap()).await.unwrap();
    answer.assert_failed(404, "not_found");
    assert!(answer.message().contains("RELAY_OUTBOX_URL"), "{answer:?}");
}

#[tokio::test]
async fn the_command_prints_a_line_for_each_field_or_the_json() {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"poisonUserIds": ["c-1"]})).await;
    let refused = store(&durable, "c-1", None).await;
    let accepted = store(&durable, "c-2", Some("k/1")).await;
    eventually(async || outcome(&durable, &refused).await == "refused").await;
    eventually(async || outcome(&durable, &accepted).await == "accepted").await;
    let (code, stdout, _) = command(&durable, &[&refused]).await;
    let lines = [format!("message id  {refused}"), "outcome     refused".to_owned(), "user id     c-1".to_owned()];
    assert_eq!((code, &stdout[..3]), (Some(0), &lines[..]));
    assert_eq!(stdout.len(), 7, "{stdout:?}");
    let (code, stdout, _) = command(&durable, &[&accepted, "--json"]).await;
    let json: Value = serde_json::from_str(&stdout.concat()).unwrap();
    assert_eq!((code, json), (Some(0), json!({"messageId": accepted, "outcome": "accepted"})));
    let (code, stdout, stderr) = command(&durable, &["no such/id"]).await;
    assert_eq!((code, stdout.len(), stderr.len()), (Some(1), 0, 1), "{stderr:?}");
    assert!(stderr[0].contains("nothing is known of a call"), "{stderr:?}");
    assert_eq!(command(&durable, &[]).await.0, Some(2));
}

/// Runs `call` against this relay. Returns the exit code, stdout and stderr.
async fn command(durable: &Durable, arguments: &[&str]) -> (Option<i32>, Vec<String>, Vec<String>) {
    let address = durable.relay().address().to_string();
    let settings = [("RELAY_LISTEN", &*address), ("RELAY_ADMIN_TOKEN", TOKEN)];
    let mut process = Process::start(&[&["call"], arguments].concat(), &settings);
    let code = process.exit_code().await;
    (code, process.stdout(), process.stderr())
}
