//! `Prefer: wait=N` in all its outcomes: a waiting caller gets the true outcome, and other callers lose nothing.

use serde_json::json;

use crate::harness::{Answer, App, Durable, Raw, at_last, eventually, head};

const BODY: &str = r#"{"userId":"c-1","traits":{"plan":"pro"}}"#;

/// Posts with `Prefer: wait=N`, and with a key if one is given.
async fn post(durable: &Durable, wait: &str, key: Option<&str>) -> Answer {
    let prefer = format!("wait={wait}");
    let mut headers = vec![("prefer", &*prefer)];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    durable.post_with(&headers, BODY).await
}

#[track_caller]
fn assert_applied(answer: &Answer, wait: &str) {
    assert_eq!(answer.header("preference-applied"), Some(&*format!("wait={wait}")), "{answer:?}");
}

#[tokio::test]
async fn a_waiting_caller_is_told_that_segment_accepted_the_call() {
    let durable = Durable::start().await;
    let answer = post(&durable, "10", None).await;
    assert!(answer.is_accepted(), "{answer:?}");
    assert_eq!(answer.body, json!({"success": true, "messageId": answer.message_id()}));
    assert_applied(&answer, "10");
    // The call has arrived before the answer.
    let received = durable.segment().received().await;
    assert_eq!(received.len(), 1);
    assert_eq!(received[0]["messageId"], answer.message_id());
}

#[tokio::test]
async fn a_waiting_caller_gets_segments_refusal_and_the_call_is_a_dead_letter() {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"status": 400, "body": r#"{"success":false,"message":"traits are wrong"}"#})).await;
    let answer = post(&durable, "10", None).await;
    answer.assert_failed(422, "segment_rejected");
    assert!(answer.message().contains("traits are wrong"), "{answer:?}");
    assert_applied(&answer, "10");
    let letters = durable.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert!(letters[0]["reason"].as_str().is_some_and(|reason| reason.contains("traits are wrong")), "{letters:?}");
}

#[tokio::test]
async fn a_wait_that_times_out_is_answered_stored() {
    for faults in [json!({"status": 503}), json!({"latency": "3s"}), json!({"hang": true}), json!({"status": 401})] {
        let durable = Durable::start().await;
        durable.segment().fail(faults.clone()).await;
        let answer = post(&durable, "1", None).await;
        assert!(answer.is_stored(), "{faults}: {answer:?}");
        assert_applied(&answer, "1");
    }
}

#[tokio::test]
async fn a_wait_of_zero_is_answered_when_the_call_is_stored() {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"hang": true})).await;
    let answer = post(&durable, "0", None).await;
    assert!(answer.is_stored(), "{answer:?}");
    assert_applied(&answer, "0");
    let answer = durable.post_with(&[], BODY).await;
    assert!(answer.is_stored() && answer.header("preference-applied").is_none(), "{answer:?}");
}

#[tokio::test]
async fn a_wait_is_limited_by_the_request_timeout() {
    let durable = Durable::with(&[("RELAY_REQUEST_TIMEOUT", "1s")]).await;
    durable.segment().fail(json!({"hang": true})).await;
    // Longer than the harness waits for an answer.
    let answer = post(&durable, "3600", None).await;
    assert!(answer.is_stored(), "{answer:?}");
    assert_applied(&answer, "3600");
}

#[tokio::test]
async fn a_repeat_that_waits_gets_the_known_outcome() {
    let durable = Durable::start().await;
    let first = post(&durable, "10", Some("k-1")).await;
    assert!(first.is_accepted(), "{first:?}");
    let again = post(&durable, "10", Some("k-1")).await;
    assert!(again.is_accepted(), "{again:?}");
    assert_eq!(again.message_id(), first.message_id());
    assert_applied(&again, "10");

    durable.segment().fail(json!({"status": 400, "count": 1})).await;
    post(&durable, "10", Some("k-2")).await.assert_failed(422, "segment_rejected");
    post(&durable, "10", Some("k-2")).await.assert_failed(422, "segment_rejected");
    assert_eq!(durable.segment().received().await.len(), 1);
    assert_eq!(durable.dead_letters().await.len(), 1);
    // A caller that does not wait gets it too.
    let unhurried = durable.post_with(&[("idempotency-key", "k-2")], BODY).await;
    unhurried.assert_failed(422, "segment_rejected");
    assert!(unhurried.is_replayed(), "{unhurried:?}");
}

#[tokio::test]
async fn repeats_of_a_waiting_call_get_its_outcome_together() {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"status": 503, "retryAfter": "1", "count": 1})).await;
    let stored = durable.post_with(&[("idempotency-key", "k-1")], BODY).await;
    assert!(stored.is_stored(), "{stored:?}");
    let (first, second) = tokio::join!(post(&durable, "10", Some("k-1")), post(&durable, "10", Some("k-1")));
    for answer in [first, second] {
        assert!(answer.is_accepted(), "{answer:?}");
        assert_eq!(answer.message_id(), stored.message_id());
    }
    assert_eq!(durable.segment().received().await.len(), 1);
}

#[tokio::test]
async fn an_outcome_is_known_after_a_restart() {
    let mut durable = Durable::start().await;
    let accepted = post(&durable, "10", Some("k-1")).await;
    assert!(accepted.is_accepted(), "{accepted:?}");
    durable.segment().fail(json!({"status": 400})).await;
    post(&durable, "10", Some("k-2")).await.assert_failed(422, "segment_rejected");
    durable.kill().await;
    durable.start_relay().await;
    // If the refusal were forgotten, Segment would accept the call now.
    durable.segment().heal().await;
    assert!(post(&durable, "10", Some("k-1")).await.is_accepted());
    let refused = post(&durable, "10", Some("k-2")).await;
    refused.assert_failed(422, "segment_rejected");
}

#[tokio::test]
async fn the_call_of_a_caller_that_disconnects_while_waiting_is_delivered() {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"status": 503, "retryAfter": "1", "count": 1})).await;
    let mut caller = durable.relay().connect().await;
    let length = BODY.len();
    let head = head(&format!("prefer: wait=10\r\ncontent-length: {length}\r\n"));
    caller.send(head + BODY).await;
    eventually(async || durable.segment().stats().await["faultedRequests"] == 1).await;
    drop(caller);
    at_last(async || durable.segment().received().await.len() == 1).await;
}

#[tokio::test]
async fn an_invalid_wait_is_ignored() {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"hang": true})).await;
    for prefer in ["respond-async", "wait", "wait=", "wait=soon", "wait=-1", "wait=1.5", ""] {
        let answer = durable.post_with(&[("prefer", prefer)], BODY).await;
        assert!(answer.is_stored() && answer.header("preference-applied").is_none(), "{prefer}: {answer:?}");
    }
}

#[tokio::test]
async fn a_wait_among_other_preferences_is_found() {
    let durable = Durable::start().await;
    for prefer in ["respond-async, wait=10", "handling=lenient; wait=99, Wait=10", "wait=\"10\""] {
        let answer = durable.post_with(&[("prefer", prefer)], BODY).await;
        assert!(answer.is_accepted(), "{prefer}: {answer:?}");
        assert!(answer.header("preference-applied").is_some(), "{prefer}: {answer:?}");
    }
    // Two headers count as one list.
    let answer = durable.post_with(&[("prefer", "respond-async"), ("prefer", "wait=10")], BODY).await;
    assert!(answer.is_accepted(), "{answer:?}");
}

#[tokio::test]
async fn without_an_outbox_the_preference_changes_nothing() {
    let app = App::start().await;
    let answer = app.post_with(&[("prefer", "wait=0")], BODY).await;
    assert!(answer.is_accepted() && answer.header("preference-applied").is_none(), "{answer:?}");
    app.segment().fail(json!({"poisonUserIds": ["c-1"]})).await;
    app.post_with(&[("prefer", "wait=5")], BODY).await.assert_failed(422, "segment_rejected");
}

/// Sends a customer on a connection of its own, and asks to wait.
async fn wait_on_a_connection(durable: &Durable) -> Raw {
    let mut caller = durable.relay().connect().await;
    caller.send(head(&format!("prefer: wait=240\r\ncontent-length: {}\r\n", BODY.len())) + BODY).await;
    caller
}

#[tokio::test]
async fn callers_who_wait_take_at_most_half_of_the_places() {
    let settings = [("RELAY_MAX_IN_FLIGHT", "20"), ("RELAY_REQUEST_TIMEOUT", "300s"), ("SEGMENT_TIMEOUT", "1s")];
    let durable = Durable::with(&settings).await;
    durable.segment().fail(json!({"hang": true})).await;
    let mut callers = Vec::new();
    for _ in 0..20 {
        callers.push(wait_on_a_connection(&durable).await);
    }
    let waiting = async || durable.relay().metric("segment_relay_requests_in_flight").await;
    let stored = async || durable.relay().metric(r#"segment_relay_requests_total{code="",result="stored"}"#).await;
    eventually(async || stored().await == 10.0 && waiting().await == 10.0).await;
    let plain = durable.post_with(&[], BODY).await;
    assert!(plain.is_stored(), "{plain:?}");

    // Who comes now is stored and does not wait, unless there is nothing to wait for.
    let crowded = post(&durable, "240", Some("k-1")).await;
    assert!(crowded.is_stored() && crowded.header("preference-applied").is_none(), "{crowded:?}");
    let again = post(&durable, "240", Some("k-1")).await;
    assert!(again.is_stored() && again.is_replayed(), "{again:?}");
    assert_eq!(again.header("preference-applied"), None, "{again:?}");
    let instant = post(&durable, "0", Some("k-1")).await;
    assert!(instant.is_stored() && instant.is_replayed(), "{instant:?}");
    assert_applied(&instant, "0");

    // Who hears the outcome gives the place back.
    durable.segment().heal().await;
    at_last(async || waiting().await == 0.0).await;
    let waited = post(&durable, "240", None).await;
    assert!(waited.is_accepted(), "{waited:?}");
    assert_applied(&waited, "240");
}
