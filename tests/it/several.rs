//! Several customers in one request: each has its outcome, whatever becomes of the others, and each 202 is owed.

use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, App, Durable, Relay, at_last, eventually, head};
use crate::ledger::{self, Ledger};

const LINES: (&str, &str) = ("content-type", "application/x-ndjson");

/// The most customers of a request.
const MOST: usize = 1_000;

fn lines(customers: &[Value]) -> String {
    customers.iter().map(|customer| format!("{customer}\n")).collect()
}

/// Customers of ten users, numbered.
fn numbered(count: usize) -> Vec<Value> {
    (0..count).map(|n| json!({"userId": format!("c-{}", n % 10), "traits": {"n": n}})).collect()
}

fn results(answer: &Answer) -> &Vec<Value> {
    answer.body["results"].as_array().unwrap_or_else(|| panic!("{answer:?}"))
}

fn statuses(answer: &Answer) -> Vec<u64> {
    results(answer).iter().map(|result| result["status"].as_u64().expect("a status")).collect()
}

#[tokio::test]
async fn a_thousand_customers_arrive_once_in_order_each_under_the_id_of_its_outcome() {
    let (durable, app) = tokio::join!(Durable::start(), App::start());
    let customers = numbered(MOST);
    let stored = durable.post_with(&[LINES], lines(&customers)).await;
    let sent = app.post_with(&[], Value::from(customers).to_string()).await;
    assert_eq!((stored.status, sent.status), (202, 200), "{stored:?} {sent:?}");
    eventually(async || durable.segment().received().await.len() == MOST).await;
    for (answer, received) in [(stored, durable.segment().received().await), (sent, app.segment().received().await)] {
        assert_eq!((&answer.body["success"], received.len()), (&json!(true), MOST));
        for user in 0..10 {
            let user_id = format!("c-{user}");
            let calls: Vec<&Value> = received.iter().filter(|call| call["userId"] == user_id).collect();
            let numbers: Vec<usize> = (user..MOST).step_by(10).collect();
            assert!(calls.iter().map(|call| call["traits"]["n"].as_u64()).eq(numbers.iter().map(|n| Some(*n as u64))));
            assert!(calls.iter().zip(numbers).all(|(call, n)| call["messageId"] == results(&answer)[n]["messageId"]));
        }
    }
}

#[tokio::test]
async fn a_customer_whom_segment_refuses_fails_no_other() {
    let app = App::start().await;
    app.segment().fail(json!({"poisonUserIds": ["bad"]})).await;
    let mut customers = numbered(50);
    customers[20]["userId"] = "bad".into();
    let answer = app.post_with(&[LINES], lines(&customers)).await;
    assert_eq!((answer.status, &answer.body["success"], answer.retry_after()), (422, &json!(false), None));
    let result = &results(&answer)[20];
    assert_eq!((&result["status"], &result["code"]), (&json!(422), &json!("segment_rejected")));
    assert_eq!(statuses(&answer).iter().filter(|status| **status == 200).count(), 49);
    assert_eq!(app.segment().received().await.len(), 49);
    let metrics = app.get("/metrics").await;
    let counted = |labels: &str| metrics.metric(&format!("segment_relay_requests_total{{{labels}}}"));
    assert_eq!(counted("code=\"\",result=\"accepted\""), Some(49.0));
    assert_eq!(counted("code=\"segment_rejected\",result=\"refused\""), Some(1.0));
    let lines = || app.relay().log().into_iter().filter(|line| line["code"] == "segment_rejected").collect::<Vec<_>>();
    eventually(async || !lines().is_empty()).await;
    assert_eq!((lines().len(), &lines()[0]["failed"]), (1, &json!(1)));
}

#[tokio::test]
async fn a_failing_segment_is_the_status_of_the_whole_answer_with_a_pause() {
    let app = App::with(&[("RELAY_REQUEST_TIMEOUT", "2s")]).await;
    app.segment().fail(json!({"status": 503})).await;
    let answer = app.post_with(&[LINES], lines(&numbered(20)) + "{}\n").await;
    let failed = results(&answer).iter().position(|result| result["status"].as_u64() >= Some(500)).expect("a failure");
    assert_eq!(u64::from(answer.status), statuses(&answer)[failed], "{answer:?}");
    assert!(answer.retry_after() >= Some(1), "{answer:?}");
    assert_eq!(statuses(&answer)[20], 422);
}

#[tokio::test]
async fn a_repeated_request_stores_nothing_and_a_changed_customer_is_refused_alone() {
    let durable = Durable::start().await;
    let keyed = [LINES, ("webhook-id", "w-1")];
    let mut customers = vec![json!({"userId": "c-1", "traits": {"plan": "pro"}}); 3];
    let first = durable.post_with(&keyed, lines(&customers)).await;
    assert_eq!((first.status, first.is_replayed()), (202, false));
    let ids = |answer: &Answer| results(answer).iter().map(|result| result["messageId"].clone()).collect::<Vec<_>>();
    assert!(ids(&first)[0] != ids(&first)[1] && ids(&first)[1] != ids(&first)[2], "the same customer in three places");
    // The same customers as an array.
    let again = durable.post_with(&keyed[1..], Value::from(customers.clone()).to_string()).await;
    assert_eq!((again.status, again.is_replayed(), ids(&again)), (202, true, ids(&first)));
    assert!(results(&again).iter().all(|result| result["replayed"] == true));
    customers[1]["traits"]["plan"] = "free".into();
    let changed = durable.post_with(&keyed, lines(&customers)).await;
    assert_eq!((changed.status, statuses(&changed)), (422, vec![202, 422, 202]));
    assert_eq!(results(&changed)[1]["code"], "idempotency_key_reused");
    let last = durable.post(&json!({"userId": "c-1", "traits": {}})).await;
    eventually(async || durable.segment().received().await.iter().any(|call| call["messageId"] == last.message_id()))
        .await;
    assert_eq!(durable.segment().received().await.len(), 4);
}

#[tokio::test]
async fn who_waits_hears_the_outcome_of_each() {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"poisonUserIds": ["bad"]})).await;
    let waiting = [LINES, ("prefer", "wait=8")];
    let mut customers = numbered(200);
    let answer = durable.post_with(&waiting, lines(&customers)).await;
    assert_eq!((answer.status, answer.header("preference-applied")), (200, Some("wait=8")), "{answer:?}");
    customers[7]["userId"] = "bad".into();
    let answer = durable.post_with(&waiting, lines(&customers)).await;
    assert_eq!((answer.status, answer.header("preference-applied")), (422, Some("wait=8")), "{answer:?}");
    assert_eq!(results(&answer)[7]["code"], "segment_rejected");
    assert_eq!(statuses(&answer).iter().filter(|status| **status == 200).count(), 199);
}

#[tokio::test]
async fn the_wait_for_all_ends_for_all_and_what_is_stored_is_202() {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"hang": true})).await;
    let answer = durable.post_with(&[LINES, ("prefer", "wait=1")], lines(&numbered(MOST))).await;
    assert_eq!((answer.status, answer.header("preference-applied")), (202, Some("wait=1")));
    assert_eq!(statuses(&answer), vec![202; MOST]);
}

/// Posts a request with these numbers of each user, and notes what was promised.
async fn post_batch(relay: &Relay, ledger: &mut Ledger, users: &[String], number: u64) -> Option<()> {
    let customers: Vec<Value> = users.iter().map(|user| ledger::body(user, number)).collect();
    users.iter().for_each(|user| ledger.posting(user, number));
    let request = relay.request(Method::POST, "/customers").header(LINES.0, LINES.1).body(lines(&customers));
    let answer = Answer::of(request.send().await.ok()?).await.ok()?;
    for (user, result) in users.iter().zip(results(&answer)) {
        assert_eq!(result["status"], 202, "{result}");
        let body = json!({"success": true, "status": "stored", "messageId": result["messageId"]});
        ledger.promised(user, number, &Answer::new(202, answer.headers.clone(), &body.to_string()));
    }
    Some(())
}

#[tokio::test]
async fn every_202_of_several_customers_survives_kills() {
    let mut random = Rng::with_seed(11);
    let mut durable = Durable::prepared(&[]).await;
    let mut ledger = Ledger::default();
    for round in 0..8 {
        durable.start_relay().await;
        let posts = async |caller: u64| {
            let users: Vec<String> = (0..100).map(|user| format!("user-{round}-{caller}-{user}")).collect();
            let mut own = Ledger::default();
            for number in 0.. {
                if post_batch(durable.relay(), &mut own, &users, number).await.is_none() {
                    break;
                }
            }
            own
        };
        // The random moment of the kill; it waits for no condition.
        let moment = Duration::from_millis(random.u64(50..600));
        let kill = async {
            tokio::time::sleep(moment).await;
            durable.relay().process().signal("KILL");
        };
        let (ledgers, ()) = tokio::join!(join_all((0..4).map(posts)), kill);
        ledgers.into_iter().for_each(|own| ledger.join(own));
        durable.kill().await;
    }
    durable.start_relay().await;
    assert!(ledger.owed() >= 100, "{} calls are owed", ledger.owed());
    ledger.settle(&durable).await;
}

#[tokio::test]
async fn large_bodies_that_stop_are_503_beyond_their_room_and_leave_small_ones_theirs() {
    // Their room is 16 MiB.
    const SLOW: usize = 60;
    let app = App::with(&[("RELAY_REQUEST_TIMEOUT", "8s")]).await;
    let before = app.relay().process().memory();
    let stopped = "[".to_owned() + &" ".repeat(1_000_000);
    let slow = join_all((0..SLOW).map(async |_| {
        let mut caller = app.relay().connect().await;
        caller.send(head("content-length: 1048576\r\n")).await;
        // Whoever finds no room is told, perhaps before all is sent.
        let _ = caller.try_send(&stopped).await;
        let answer = caller.answer().await;
        assert!(caller.is_closed().await);
        answer
    }));
    let honest = async {
        let mut accepted = 0;
        for _ in 0..20 {
            accepted += usize::from(app.post(&json!({"userId": "c-1", "traits": {}})).await.is_accepted());
        }
        (accepted, app.relay().process().memory())
    };
    let (answers, (accepted, memory)) = tokio::join!(slow, honest);
    let of = |status: u16| answers.iter().filter(|answer| answer.status == status).collect::<Vec<_>>();
    assert_eq!(of(503).len() + of(408).len(), SLOW, "{answers:?}");
    assert!(of(503).len() >= SLOW - 16 && !of(408).is_empty(), "{} {}", of(503).len(), of(408).len());
    for answer in of(503) {
        answer.assert_failed(503, "overloaded");
        assert!(answer.retry_after() >= Some(1));
    }
    assert_eq!(accepted, 20);
    assert!(memory < before + 64 * 1024 * 1024, "{before} {memory}");
    // The room is free again.
    at_last(async || app.post_with(&[], format!("{stopped}{}]", customer_text())).await.status == 200).await;
}

fn customer_text() -> String {
    json!({"userId": "c-2", "traits": {}}).to_string()
}
