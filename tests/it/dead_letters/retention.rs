//! How long dead letters are kept.

use serde_json::json;

use super::refuse;
use crate::harness::{Durable, eventually};

#[tokio::test]
async fn old_letters_are_deleted_with_their_keys_and_counted() {
    let durable = Durable::with(&[("RELAY_DEAD_LETTER_RETENTION", "1s")]).await;
    refuse(&durable, &["c-1", "c-2"]).await;
    eventually(async || durable.dead_letters().await.is_empty()).await;
    eventually(async || durable.relay().metric("segment_relay_dead_letters_expired_total").await == 2.0).await;
    assert_eq!(durable.relay().metric("segment_relay_dead_letters_discarded_total").await, 0.0);
    // Their keys are forgotten: a repeat is a new call.
    durable.segment().heal().await;
    let repeat = json!({"userId": "c-1", "messageId": "m-c-1", "traits": {"plan": "pro"}});
    let repeat = durable.post_with(&[("prefer", "wait=10")], repeat.to_string()).await;
    assert!(repeat.is_accepted(), "{repeat:?}");
    let lines = durable.relay().process().stdout();
    let said: Vec<_> = lines.iter().filter(|line| line.contains("dead letters were deleted")).collect();
    assert!(!said.is_empty() && said.len() <= 2, "{lines:?}");
}

#[tokio::test]
async fn with_never_and_by_default_a_letter_stays() {
    for setting in [&[][..], &[("RELAY_DEAD_LETTER_RETENTION", "never")]] {
        let mut durable = Durable::with(setting).await;
        refuse(&durable, &["c-1"]).await;
        assert_eq!(durable.stop().await, Some(0));
        durable.start_relay().await;
        assert_eq!(durable.dead_letters().await.len(), 1);
    }
}
