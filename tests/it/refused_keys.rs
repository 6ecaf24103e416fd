//! What a repeat of a refused call is answered: while its dead letter is there, and when it is gone.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, Durable, at_last};

/// Where a key can be: in the body, or in a header.
const KEY_SOURCES: [&str; 3] = ["messageId", "webhook-id", "idempotency-key"];

/// Posts a call of user c-1 under the key k-1, with `Prefer: wait=10` or without.
async fn post(durable: &Durable, source: &str, plan: &str, waits: bool) -> Answer {
    let mut body = json!({"userId": "c-1", "traits": {"plan": plan}});
    let mut headers = Vec::new();
    if source == "messageId" {
        body["messageId"] = "k-1".into();
    } else {
        headers.push((source, "k-1"));
    }
    if waits {
        headers.push(("prefer", "wait=10"));
    }
    durable.post_with(&headers, body.to_string()).await
}

/// A relay whose call under k-1 was refused.
async fn refused(source: &str) -> Durable {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"poisonUserIds": ["c-1"]})).await;
    let first = post(&durable, source, "pro", true).await;
    assert_refused(&first);
    assert!(!first.is_replayed(), "{first:?}");
    durable
}

#[track_caller]
fn assert_refused(answer: &Answer) {
    answer.assert_failed(422, "segment_rejected");
    assert!(answer.message().contains("poisoned user"), "Segment's words: {answer:?}");
}

async fn assert_repeats_are_refused(durable: &Durable, source: &str) {
    for waits in [true, false] {
        let again = post(durable, source, "pro", waits).await;
        assert_refused(&again);
        assert!(again.is_replayed(), "{again:?}");
        assert_eq!(again.header("preference-applied"), waits.then_some("wait=10"), "{again:?}");
    }
}

async fn only_letter(durable: &Durable) -> String {
    let letters = durable.dead_letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    letters[0]["id"].to_string()
}

#[tokio::test]
async fn a_repeat_of_a_refused_call_is_refused_with_segments_words() {
    for source in KEY_SOURCES {
        let mut durable = refused(source).await;
        assert_repeats_are_refused(&durable, source).await;
        post(&durable, source, "free", false).await.assert_failed(422, "idempotency_key_reused");
        durable.kill().await;
        durable.start_relay().await;
        assert_repeats_are_refused(&durable, source).await;
        only_letter(&durable).await;
    }
}

#[tokio::test]
async fn a_repeat_after_the_dead_letter_was_discarded_is_a_new_call() {
    for source in KEY_SOURCES {
        let durable = refused(source).await;
        let letter = only_letter(&durable).await;
        assert_eq!(durable.operate(Method::DELETE, &format!("/dead-letters/{letter}")).await.status, 204);
        durable.segment().heal().await;
        // With another payload, too.
        let again = post(&durable, source, "free", false).await;
        assert!(again.is_stored() && !again.is_replayed(), "{again:?}");
        at_last(async || durable.segment().received().await.len() == 1).await;
        assert_eq!(durable.segment().received().await[0]["traits"]["plan"], "free");
        let repeat = post(&durable, source, "free", true).await;
        assert!(repeat.is_accepted() && repeat.is_replayed(), "{repeat:?}");
        assert_eq!(repeat.message_id(), again.message_id());
    }
}

#[tokio::test]
async fn a_repeat_after_the_dead_letter_was_replayed_is_the_waiting_call() {
    for source in KEY_SOURCES {
        let durable = refused(source).await;
        let letter = only_letter(&durable).await;
        durable.segment().fail(json!({"status": 503})).await;
        assert_eq!(durable.operate(Method::POST, &format!("/dead-letters/{letter}/replay")).await.status, 202);
        let again = post(&durable, source, "pro", false).await;
        assert!(again.is_stored() && again.is_replayed(), "{again:?}");
        post(&durable, source, "free", false).await.assert_failed(422, "idempotency_key_reused");
        durable.segment().heal().await;
        let again = post(&durable, source, "pro", true).await;
        assert!(again.is_replayed() && (again.is_accepted() || again.is_stored()), "{again:?}");
        at_last(async || durable.segment().received().await.len() == 1).await;
        assert!(durable.dead_letters().await.is_empty());
    }
}

#[tokio::test]
async fn a_caller_who_waits_for_a_repeat_gets_the_refusal_although_the_dead_letter_is_discarded_at_once() {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"status": 503})).await;
    assert!(post(&durable, "webhook-id", "pro", false).await.is_stored());
    let discard = async {
        durable.segment().fail(json!({"poisonUserIds": ["c-1"]})).await;
        at_last(async || durable.dead_letters().await.len() == 1).await;
        let letter = only_letter(&durable).await;
        assert_eq!(durable.operate(Method::DELETE, &format!("/dead-letters/{letter}")).await.status, 204);
    };
    let (again, ()) = tokio::join!(post(&durable, "webhook-id", "pro", true), discard);
    assert!(again.is_replayed(), "{again:?}");
    // Unless the caller's time is over before the refusal.
    if !again.is_stored() {
        assert_refused(&again);
    }
    durable.segment().heal().await;
    let next = post(&durable, "webhook-id", "pro", true).await;
    assert!(next.is_accepted() && !next.is_replayed(), "{next:?}");
}

/// Makes the waiting call of a stopped relay a dead letter without Segment's refusal.
pub(crate) fn give_up(durable: &Durable, why: &str) {
    let file = rusqlite::Connection::open(durable.file()).expect("the outbox");
    let sql = format!(
        "INSERT INTO dead_letters (user_id, stored_at, refused_at, status, attempts, key, body, reason, call, why)
             SELECT user_id, stored_at, stored_at, 503, 5, calls.key, keys.body, 'Segment failed (503)', call, '{why}'
             FROM calls JOIN keys ON keys.key = calls.key;
         UPDATE keys SET dead_letter_id = (SELECT id FROM dead_letters);
         DELETE FROM calls;
         UPDATE counters SET waiting = 0, dead_letters = 1;"
    );
    file.execute_batch(&sql).expect("a dead letter");
}

#[tokio::test]
async fn a_repeat_of_a_call_that_was_given_up_says_so_in_the_relays_words() {
    for why in ["gave_up", "operator"] {
        let mut durable = Durable::start().await;
        durable.segment().fail(json!({"hang": true})).await;
        let stored = post(&durable, "idempotency-key", "pro", false).await;
        assert!(stored.is_stored() && !stored.is_replayed(), "{stored:?}");
        durable.kill().await;
        give_up(&durable, why);
        durable.start_relay().await;
        for waits in [true, false] {
            let again = post(&durable, "idempotency-key", "pro", waits).await;
            again.assert_failed(422, "gave_up");
            assert!(again.message().starts_with("the relay gave this call up"), "{again:?}");
            assert!(again.message().ends_with(": Segment failed (503)"), "{again:?}");
            assert!(again.is_replayed(), "{again:?}");
            assert_eq!(again.header("preference-applied"), waits.then_some("wait=10"), "{again:?}");
        }
        let counted = durable.relay().metric(r#"segment_relay_requests_total{code="gave_up",result="refused"}"#).await;
        assert_eq!(counted, 2.0);
        // The key is forgotten with the dead letter.
        let discarded =
            durable.operate(Method::DELETE, &format!("/dead-letters/{}", only_letter(&durable).await)).await;
        assert_eq!(discarded.status, 204, "{discarded:?}");
        let new = post(&durable, "idempotency-key", "pro", false).await;
        assert!(new.is_stored() && !new.is_replayed(), "{new:?}");
    }
}
