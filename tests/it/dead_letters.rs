//! Dead letters: operators read, replay and discard them over HTTP and on the command line.

mod command;
mod many;
mod retention;

use std::collections::HashSet;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, App, Durable, Process, TOKEN, at_last, eventually};

/// A relay to which one call of each of these users was posted in order, and refused by Segment.
async fn with_refused(users: &[&str]) -> Durable {
    let durable = Durable::start().await;
    refuse(&durable, users).await;
    durable
}

async fn refuse(durable: &Durable, users: &[&str]) {
    durable.segment().fail(json!({"poisonUserIds": users})).await;
    for user in users {
        let body = json!({"userId": user, "messageId": format!("m-{user}"), "traits": {"plan": "pro"}}).to_string();
        durable.post_with(&[("prefer", "wait=10")], body).await.assert_failed(422, "segment_rejected");
    }
}

async fn page(durable: &Durable, query: &str) -> Value {
    let answer = durable.operate(Method::GET, &format!("/dead-letters{query}")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{answer:?}");
    answer.body
}

fn users(page: &Value) -> Vec<&str> {
    page["deadLetters"].as_array().unwrap().iter().map(|letter| letter["userId"].as_str().unwrap()).collect()
}

fn keys(value: &Value) -> HashSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_dead_letter_has_every_documented_field() {
    let durable = with_refused(&["c-1"]).await;
    let page = page(&durable, "").await;
    assert_eq!(keys(&page), HashSet::from(["deadLetters", "next"]));
    assert_eq!(page["next"], Value::Null);
    let [letter] = &page["deadLetters"].as_array().unwrap()[..] else { panic!("one: {page}") };
    let fields =
        ["id", "messageId", "userId", "why", "source", "call", "status", "reason", "attempts", "storedAt", "refusedAt"];
    assert_eq!(keys(letter), HashSet::from(fields));
    assert_eq!((&letter["why"], &letter["source"]), (&json!("refused"), &Value::Null));
    assert_eq!((&letter["messageId"], &letter["userId"]), (&json!("m-c-1"), &json!("c-1")));
    assert_eq!(letter["status"], 400);
    assert_eq!(letter["attempts"], 1);
    let reason = letter["reason"].as_str().unwrap();
    assert!(reason.contains("the batch holds a call of a poisoned user"), "Segment's words: {reason}");
    assert_eq!(letter["call"]["traits"], json!({"plan": "pro"}));
    assert_eq!((&letter["call"]["type"], &letter["call"]["messageId"]), (&json!("identify"), &json!("m-c-1")));
    let [stored, refused]: [Timestamp; 2] =
        ["storedAt", "refusedAt"].map(|field| letter[field].as_str().unwrap().parse().unwrap());
    assert!(stored <= refused && letter["refusedAt"].as_str().unwrap().ends_with('Z'), "{letter}");
    durable.segment().heal().await;
}

#[tokio::test]
async fn dead_letters_are_listed_newest_first_in_pages() {
    let names: Vec<String> = (0..7).map(|number| format!("c-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let durable = with_refused(&names).await;
    let newest_first: Vec<&str> = names.iter().rev().copied().collect();
    assert_eq!(users(&page(&durable, "").await), newest_first);
    let mut listed = Vec::new();
    let mut query = "?limit=3".to_owned();
    for length in [3, 3, 1] {
        let page = page(&durable, &query).await;
        assert_eq!(users(&page).len(), length);
        listed.extend(users(&page).iter().map(|user| (*user).to_owned()));
        query = format!("?limit=3&before={}", page["next"]);
        assert_eq!(page["next"] == Value::Null, length == 1, "{page}");
    }
    assert_eq!(listed, newest_first);
    // A page that ends with the last dead letter has no next page.
    assert_eq!(page(&durable, "?limit=7").await["next"], Value::Null);
    for wrong in ["?limit=0", "?limit=1001", "?limit=many", "?before=x"] {
        let answer = durable.operate(Method::GET, &format!("/dead-letters{wrong}")).await;
        assert!(matches!(answer.status, 400 | 422), "{wrong}: {answer:?}");
        assert_eq!(answer.body["success"], false, "{wrong}: {answer:?}");
    }
}

#[tokio::test]
async fn only_operators_can_use_dead_letters_and_status() {
    let durable = with_refused(&["c-1"]).await;
    let paths = ["/dead-letters", "/status"];
    for path in paths {
        for token in [None, Some("Bearer wrong"), Some("Basic dDprZW4="), Some("Bearer"), Some("Bearer  ")] {
            let mut request = durable.relay().request(Method::GET, path);
            if let Some(token) = token {
                request = request.header("authorization", token);
            }
            let answer = Answer::of(request.send().await.unwrap()).await.unwrap();
            answer.assert_failed(401, "unauthorized");
            assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")), "{answer:?}");
        }
        assert_eq!(durable.operate(Method::GET, path).await.status, 200);
    }
    for (method, path) in [
        (Method::POST, "/dead-letters/replay"),
        (Method::POST, "/dead-letters/1/replay"),
        (Method::DELETE, "/dead-letters/1"),
    ] {
        let answer = durable.relay().request(method, path).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
    }
    assert_eq!(durable.dead_letters().await.len(), 1);
    // Without a token in the settings the routes do not exist.
    let mut closed = Durable::prepared(&[]).await;
    closed.unset("RELAY_ADMIN_TOKEN");
    closed.start_relay().await;
    for path in paths {
        closed.operate(Method::GET, path).await.assert_failed(404, "not_found");
    }
    closed.operate(Method::POST, "/dead-letters/replay").await.assert_failed(404, "not_found");
}

#[tokio::test]
async fn without_an_outbox_there_are_no_dead_letters_and_the_status_works() {
    let app = App::with(&[("RELAY_ADMIN_TOKEN", TOKEN)]).await;
    let status = app.relay().request(Method::GET, "/status").bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(status.status(), 200);
    let letters = app.relay().request(Method::GET, "/dead-letters").bearer_auth(TOKEN).send().await.unwrap();
    assert!(matches!(letters.status().as_u16(), 200 | 404), "{letters:?}");
}

#[tokio::test]
async fn a_replayed_dead_letter_is_delivered_with_its_message_id() {
    let durable = with_refused(&["c-1", "c-2"]).await;
    durable.segment().heal().await;
    let letters = durable.dead_letters().await;
    let answer = durable.operate(Method::POST, &format!("/dead-letters/{}/replay", letters[1]["id"])).await;
    assert_eq!((answer.status, &answer.body), (202, &json!({"replayed": 1})), "{answer:?}");
    eventually(async || durable.segment().received().await.len() == 1).await;
    // The call is unchanged, including its timestamp.
    assert_eq!(durable.segment().received().await[0], letters[1]["call"]);
    assert_eq!(users(&page(&durable, "").await), ["c-2"]);
    for path in [format!("/dead-letters/{}/replay", letters[1]["id"]), "/dead-letters/987654/replay".into()] {
        durable.operate(Method::POST, &path).await.assert_failed(404, "not_found");
    }
    let answer = durable.operate(Method::GET, &format!("/dead-letters/{}/replay", letters[0]["id"])).await;
    assert_eq!(answer.status, 405, "{answer:?}");
}

#[tokio::test]
async fn all_dead_letters_are_replayed_while_new_calls_arrive() {
    let names: Vec<String> = (0..20).map(|number| format!("c-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let durable = with_refused(&names).await;
    durable.segment().heal().await;
    let bodies: Vec<Value> = (0..30).map(|number| json!({"userId": format!("new-{number}"), "traits": {}})).collect();
    let posts = futures_util::future::join_all(bodies.iter().map(|body| durable.post(body)));
    let (answer, posted) = tokio::join!(durable.operate(Method::POST, "/dead-letters/replay"), posts);
    assert_eq!((answer.status, &answer.body), (202, &json!({"replayed": 20})), "{answer:?}");
    assert!(posted.iter().all(|answer| answer.is_stored()), "{posted:?}");
    eventually(async || durable.segment().received().await.len() == 50).await;
    let received = durable.segment().received().await;
    let there: HashSet<&str> = received.iter().map(|call| call["userId"].as_str().unwrap()).collect();
    assert!(names.iter().all(|name| there.contains(name)));
    assert!(durable.dead_letters().await.is_empty());
    let none = durable.operate(Method::POST, "/dead-letters/replay").await;
    assert_eq!((none.status, &none.body), (202, &json!({"replayed": 0})), "{none:?}");
}

#[tokio::test]
async fn a_replayed_dead_letter_arrives_behind_its_users_waiting_calls() {
    let durable = with_refused(&["c-1"]).await;
    durable.segment().fail(json!({"status": 503, "retryAfter": "2", "count": 1})).await;
    for number in 0..5 {
        let call = json!({"userId": "c-1", "messageId": format!("m-{number}"), "traits": {}});
        assert!(durable.post(&call).await.is_stored());
    }
    let replayed = durable.operate(Method::POST, "/dead-letters/replay").await;
    assert_eq!(replayed.body, json!({"replayed": 1}));
    let later = json!({"userId": "c-1", "messageId": "m-later", "traits": {}});
    assert!(durable.post(&later).await.is_stored());
    eventually(async || durable.segment().received().await.len() == 7).await;
    let received = durable.segment().received().await;
    let ids: Vec<&str> = received.iter().map(|call| call["messageId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["m-0", "m-1", "m-2", "m-3", "m-4", "m-c-1", "m-later"]);
}

#[tokio::test]
async fn a_call_that_is_refused_again_is_a_new_dead_letter() {
    let durable = with_refused(&["c-1"]).await;
    let first = durable.dead_letters().await[0].clone();
    assert_eq!(durable.operate(Method::POST, "/dead-letters/replay").await.body, json!({"replayed": 1}));
    eventually(async || durable.dead_letters().await.first().is_some_and(|letter| letter["id"] != first["id"])).await;
    let again = durable.dead_letters().await;
    assert_eq!(again.len(), 1);
    assert!(again[0]["id"].as_i64() > first["id"].as_i64());
    assert_eq!((&again[0]["messageId"], &again[0]["call"]), (&first["messageId"], &first["call"]));
}

#[tokio::test]
async fn a_replayed_dead_letter_survives_a_kill() {
    let mut durable = with_refused(&["c-1", "c-2"]).await;
    durable.segment().fail(json!({"status": 503})).await;
    assert_eq!(durable.operate(Method::POST, "/dead-letters/replay").await.body, json!({"replayed": 2}));
    durable.kill().await;
    durable.segment().heal().await;
    durable.start_relay().await;
    at_last(async || durable.segment().received().await.len() >= 2).await;
    assert!(durable.dead_letters().await.is_empty());
}

#[tokio::test]
async fn a_discarded_dead_letter_stays_deleted() {
    let mut durable = with_refused(&["c-1", "c-2"]).await;
    durable.segment().heal().await;
    let letters = durable.dead_letters().await;
    let path = format!("/dead-letters/{}", letters[0]["id"]);
    let answer = durable.operate(Method::DELETE, &path).await;
    assert_eq!((answer.status, &answer.body), (204, &json!("")), "{answer:?}");
    durable.operate(Method::DELETE, &path).await.assert_failed(404, "not_found");
    durable.operate(Method::DELETE, "/dead-letters/987654").await.assert_failed(404, "not_found");
    assert_eq!(durable.operate(Method::DELETE, "/dead-letters/x").await.status, 404);
    assert_eq!(users(&page(&durable, "").await), ["c-1"]);
    durable.kill().await;
    durable.start_relay().await;
    assert_eq!(users(&page(&durable, "").await), ["c-1"]);
}

#[tokio::test]
async fn a_refused_call_does_not_stop_later_calls_of_its_user_or_its_neighbours() {
    let durable = Durable::start().await;
    let faults = json!({"status": 503, "retryAfter": "1", "count": 1, "poisonUserIds": ["c-2"]});
    durable.segment().fail(faults).await;
    for user in ["c-1", "c-2", "c-3"] {
        for number in 0..4 {
            let call = json!({"userId": user, "messageId": format!("{user}/{number}"), "traits": {}});
            assert!(durable.post(&call).await.is_stored());
        }
    }
    eventually(async || durable.dead_letters().await.len() == 4).await;
    durable.segment().heal().await;
    assert!(durable.post(&json!({"userId": "c-2", "messageId": "c-2/4", "traits": {}})).await.is_stored());
    eventually(async || durable.segment().received().await.len() == 9).await;
    let letters = durable.dead_letters().await;
    let ids: Vec<&str> = letters.iter().rev().map(|letter| letter["messageId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["c-2/0", "c-2/1", "c-2/2", "c-2/3"]);
}

/// Runs `dead-letters` against this relay. Returns the exit code, stdout and stderr.
async fn command(durable: &Durable, arguments: &[&str]) -> (Option<i32>, Vec<String>, Vec<String>) {
    let address = durable.relay().address().to_string();
    let settings = [("RELAY_LISTEN", &*address), ("RELAY_ADMIN_TOKEN", TOKEN)];
    let mut process = Process::start(&[&["dead-letters"], arguments].concat(), &settings);
    let code = process.exit_code().await;
    (code, process.stdout(), process.stderr())
}

#[tokio::test]
async fn the_command_line_lists_replays_and_discards() {
    let durable = with_refused(&["c-1", "c-2", "c-3"]).await;
    durable.segment().heal().await;
    let letters = durable.dead_letters().await;
    let (code, table, errors) = command(&durable, &["list"]).await;
    assert_eq!(code, Some(0), "{errors:?}");
    for letter in &letters {
        let is_there =
            |line: &&String| ["userId", "messageId"].iter().all(|f| line.contains(letter[f].as_str().unwrap()));
        assert_eq!(table.iter().filter(is_there).count(), 1, "{table:?}");
    }
    let (code, lines, _) = command(&durable, &["list", "--json"]).await;
    assert_eq!(code, Some(0));
    let shown: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(shown, letters);
    let (_, lines, errors) = command(&durable, &["list", "--json", "--limit", "1"]).await;
    assert_eq!((lines.len(), errors.len()), (1, 1), "{lines:?} {errors:?}");

    let id = letters[0]["id"].to_string();
    assert_eq!(command(&durable, &["discard", &id]).await.0, Some(0));
    let (code, _, errors) = command(&durable, &["discard", &id]).await;
    assert_eq!((code, errors.len()), (Some(1), 1), "{errors:?}");
    let id = letters[1]["id"].to_string();
    assert_eq!(command(&durable, &["replay", &id]).await.0, Some(0));
    eventually(async || durable.segment().received().await.len() == 1).await;
    assert_eq!(durable.segment().received().await[0]["userId"], "c-2");
    assert_eq!(users(&page(&durable, "").await), ["c-1"]);
}

#[tokio::test]
async fn the_command_line_reports_a_wrong_token_and_an_unreachable_relay() {
    let mut durable = with_refused(&["c-1"]).await;
    let address = durable.relay().address().to_string();
    let run = async |token: &str| {
        let settings = [("RELAY_LISTEN", &*address), ("RELAY_ADMIN_TOKEN", token)];
        let mut process = Process::start(&["dead-letters", "list"], &settings);
        (process.exit_code().await, process.stdout(), process.stderr())
    };
    let (code, _, errors) = run("wrong-token-of-24-bytes").await;
    assert_eq!((code, errors.len()), (Some(1), 1), "{errors:?}");
    assert!(!errors[0].contains("wrong-token"), "{errors:?}");
    durable.kill().await;
    let (code, _, errors) = run(TOKEN).await;
    assert_eq!((code, errors.len()), (Some(1), 1), "{errors:?}");
}
