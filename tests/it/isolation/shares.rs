//! What is refused, stuck or one user's takes a share of the outbox, and never all of it.

use serde_json::json;

use super::{heavy, parked, start};
use crate::harness::{Fault, at_last, customer};

const SMALL: (&str, &str) = ("RELAY_OUTBOX_MAX_SIZE", "4MiB");

/// Bytes of a call: 201 of them take as much as the small outbox holds.
const CALL: usize = 20_000;

#[tokio::test]
async fn an_outbox_full_of_refusals_stores_sound_calls() {
    let (durable, segment) = start(&[SMALL]).await;
    segment.fail("refused-", Fault::Status(400));
    for number in 0..300 {
        let body = heavy(&format!("refused-{number}"), 0, CALL).to_string();
        let answer = durable.post_with(&[("prefer", "wait=20")], body).await;
        assert_eq!(answer.status, 422, "{number}: {answer:?}");
    }
    for number in 0..50 {
        let answer = durable.post(&heavy(&format!("c-{number}"), 0, CALL)).await;
        assert!(answer.is_stored(), "{number}: {answer:?}");
    }
    at_last(async || segment.users_arrived("c-") == 50).await;
    // At most half of the outbox; the newest are still there.
    let letters = durable.dead_letters().await;
    assert!((50..110).contains(&letters.len()), "{}", letters.len());
    assert_eq!(letters[0]["userId"], "refused-299");
}

#[tokio::test]
async fn an_outbox_full_of_stuck_calls_stores_sound_calls() {
    let (durable, segment) = start(&[SMALL]).await;
    segment.fail("stuck-", Fault::Status(500));
    let mut stuck = 0;
    // Until the share of the stuck is used up, or far beyond.
    for number in 0..400 {
        let sound = durable.post(&heavy(&format!("c-{number}"), 0, CALL)).await;
        assert!(sound.is_stored(), "{number}, {stuck} stuck: {sound:?}");
        if number % 20 == 0 {
            at_last(async || segment.users_arrived("c-") == number + 1).await;
        }
        let answer = durable.post(&heavy(&format!("stuck-{}", number % 40), number as u64, CALL)).await;
        match answer.status {
            202 => stuck += 1,
            _ => answer.assert_failed(503, "overloaded"),
        }
    }
    assert!((60..150).contains(&stuck), "{stuck} of 400 stuck calls were stored");
    assert!(!parked(&durable).await.is_empty());
    assert!(durable.dead_letters().await.is_empty());
}

#[tokio::test]
async fn one_user_takes_a_share_of_the_outbox_and_is_told_so() {
    let (durable, segment) = start(&[SMALL]).await;
    segment.fail_all(Some(Fault::Status(503)));
    let (mut stored, mut refused) = (0, None);
    for number in 0..195 {
        let answer = durable.post(&heavy("greedy", number, CALL)).await;
        match answer.status {
            202 => stored += 1,
            _ => refused = Some(answer),
        }
    }
    let refused = refused.unwrap_or_else(|| panic!("one user filled the outbox with {stored} calls"));
    refused.assert_failed(503, "overloaded");
    assert!(refused.message().contains("user"), "{refused:?}");
    assert!(refused.retry_after() >= Some(1), "{refused:?}");
    assert!(stored < 105, "one user has {stored} calls of {CALL} bytes in an outbox of 4 MiB");
    for number in 0..50 {
        let answer = durable.post(&customer(&format!("c-{number}"))).await;
        assert!(answer.is_stored(), "{number}: {answer:?}");
    }
    segment.heal();
    at_last(async || segment.arrivals().len() == stored + 50).await;
    assert!(durable.post(&json!({"userId": "greedy", "traits": {}})).await.is_stored());
}
