//! What is refused, and what one user posts, takes only its share of the outbox: others are stored.

use serde_json::json;

use crate::harness::{Durable, eventually};
use crate::ledger::{body, heavy_body};

#[tokio::test]
async fn refused_calls_never_fill_the_outbox() {
    let durable = Durable::with(&[("RELAY_OUTBOX_MAX_SIZE", "4MiB")]).await;
    let poison: Vec<String> = (0..400).map(|n| format!("bad-{n}")).collect();
    durable.segment().fail(json!({"poisonUserIds": poison})).await;
    for (number, user) in (0..).zip(&poison) {
        let answer = durable.post(&heavy_body(user, number)).await;
        assert!(answer.is_stored(), "{user}: {answer:?}");
    }
    // The oldest dead letters went.
    eventually(async || durable.relay().metric("segment_relay_outbox_calls").await == 0.0).await;
    let left = durable.relay().metric("segment_relay_dead_letters").await;
    let pushed_out = durable.relay().metric("segment_relay_dead_letters_pushed_out_total").await;
    assert!(left > 100.0 && pushed_out > 100.0 && left + pushed_out == 400.0, "{left} {pushed_out}");
    let sound = durable.post(&heavy_body("sound", 0)).await;
    assert!(sound.is_stored(), "{sound:?}");
    assert_eq!(durable.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn one_user_cannot_fill_the_outbox() {
    let durable = Durable::with(&[("RELAY_OUTBOX_MAX_SIZE", "4MiB")]).await;
    durable.segment().fail(json!({"hang": true})).await;
    let mut number = 0;
    let answer = loop {
        let answer = durable.post(&heavy_body("hot", number)).await;
        if !answer.is_stored() {
            break answer;
        }
        number += 1;
        assert!(number < 200, "one user filled half of the outbox");
    };
    answer.assert_failed(503, "overloaded");
    assert!(answer.message().contains("share of one user"), "{answer:?}");
    assert!(number > 30, "{number}");
    for number in 0..20 {
        let other = durable.post(&body(&format!("other-{number}"), 0)).await;
        assert!(other.is_stored(), "{other:?}");
    }
}
