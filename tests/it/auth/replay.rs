//! With an outbox a signed webhook makes one call, however often and by whomever it is sent again.

use futures_util::future::join_all;
use serde_json::Value;

use super::{BODY, h2_client, post_by, refused};
use crate::harness::sign::{Webhook, hmac_hex, now, webhook_secret};
use crate::harness::{Answer, App, Durable, eventually};

fn secret() -> String {
    webhook_secret(b"s3cret-of-the-sender-24b")
}

async fn durable() -> Durable {
    Durable::with(&[("RELAY_AUTH", "standard-webhooks"), ("RELAY_AUTH_SECRETS", &secret())]).await
}

#[track_caller]
fn is_new(answer: &Answer) {
    assert!(answer.is_stored() && !answer.is_replayed(), "{answer:?}");
}

#[track_caller]
fn is_repeat_of(answer: &Answer, first: &Answer) {
    assert!(answer.is_stored() && answer.is_replayed(), "{answer:?}");
    assert_eq!(answer.message_id(), first.message_id());
}

/// The calls that arrived before one that is posted now.
async fn arrived(durable: &Durable) -> Vec<Value> {
    let body = r#"{"userId":"last","traits":{}}"#;
    let id = format!("last-{}", fastrand::u64(..));
    let last = durable.post_with(&Webhook::sign(&secret(), &id, body).headers(), body).await;
    is_new(&last);
    let received = || durable.segment().received();
    eventually(async || {
        let received = received().await;
        let all_settled = durable.relay().metric("segment_relay_outbox_calls").await == 0.0;
        all_settled && received.iter().any(|call| call["messageId"] == last.message_id())
    })
    .await;
    received().await.into_iter().filter(|call| call["userId"] != "last").collect()
}

#[tokio::test]
async fn the_same_request_again_is_the_idempotent_answer_and_arrives_once() {
    let mut durable = durable().await;
    let webhook = Webhook::sign(&secret(), "msg_1", BODY);
    let first = durable.post_with(&webhook.headers(), BODY).await;
    is_new(&first);
    is_repeat_of(&durable.post_with(&webhook.headers(), BODY).await, &first);
    assert_eq!(arrived(&durable).await.len(), 1);
    // A sender who tries again signs again, and may use the other names.
    let again = Webhook::sign_at(&secret(), "msg_1", &(now() + 7).to_string(), BODY);
    is_repeat_of(&durable.post_with(&again.headers(), BODY).await, &first);
    is_repeat_of(&durable.post_with(&again.svix_headers(), BODY).await, &first);
    assert_eq!(durable.stop().await, Some(0));
    durable.start_relay().await;
    is_repeat_of(&durable.post_with(&webhook.headers(), BODY).await, &first);
    assert_eq!(arrived(&durable).await.len(), 1);
}

#[tokio::test]
async fn the_same_request_many_times_at_one_instant_is_one_call() {
    let durable = durable().await;
    let webhook = Webhook::sign(&secret(), "msg_1", BODY);
    let (headers, of_svix) = (webhook.headers(), webhook.svix_headers());
    let posts = (0..40).map(|number| durable.post_with(if number % 2 == 0 { &headers } else { &of_svix }, BODY));
    let answers = join_all(posts).await;
    let new: Vec<_> = answers.iter().filter(|answer| !answer.is_replayed()).collect();
    assert_eq!(new.len(), 1, "{new:?}");
    assert!(answers.iter().all(|answer| answer.is_stored() && answer.message_id() == new[0].message_id()));
    assert_eq!(arrived(&durable).await.len(), 1);
}

#[tokio::test]
async fn the_same_id_with_another_signed_body_is_a_mistake() {
    let durable = durable().await;
    let first = durable.post_with(&Webhook::sign(&secret(), "msg_1", BODY).headers(), BODY).await;
    is_new(&first);
    let other = BODY.replace("pro", "free");
    let reused = Webhook::sign(&secret(), "msg_1", &other);
    for headers in [reused.headers(), reused.svix_headers()] {
        durable.post_with(&headers, other.clone()).await.assert_failed(422, "idempotency_key_reused");
    }
    let received = arrived(&durable).await;
    assert!(received.len() == 1 && received[0]["traits"]["plan"] == "pro", "{received:?}");
}

#[tokio::test]
async fn a_captured_request_with_headers_that_nobody_signed_is_no_second_call() {
    let durable = durable().await;
    let webhook = Webhook::sign(&secret(), "msg_1", BODY);
    let first = durable.post_with(&webhook.svix_headers(), BODY).await;
    is_new(&first);
    let unsigned = [
        vec![("webhook-id", "forged")],
        vec![("webhook-id", "forged"), ("webhook-timestamp", &*webhook.timestamp)],
        vec![("webhook-id", "forged"), ("webhook-signature", &*webhook.signature)],
        vec![("idempotency-key", "forged")],
        vec![("webhook-id", "forged"), ("idempotency-key", "forged")],
        vec![("webhook-id", "")],
    ];
    for forged in &unsigned {
        for headers in [[forged, &webhook.svix_headers()[..]].concat(), [&webhook.svix_headers()[..], forged].concat()]
        {
            is_repeat_of(&durable.post_with(&headers, BODY).await, &first);
        }
    }
    for forged in ["svix-id", "idempotency-key"] {
        let headers = [&webhook.headers()[..], &[(forged, "forged")]].concat();
        is_repeat_of(&durable.post_with(&headers, BODY).await, &first);
    }
    // A second id of the same name decides nothing: it is refused.
    for headers in [webhook.headers(), webhook.svix_headers()] {
        let twice = [&[(headers[0].0, "forged")], &headers[..]].concat();
        refused(&durable.post_with(&twice, BODY).await);
    }
    assert_eq!(arrived(&durable).await.len(), 1);
}

#[tokio::test]
async fn spaces_that_http_2_does_not_trim_make_no_other_key() {
    let (durable, client) = (durable().await, h2_client());
    let webhook = Webhook::sign(&secret(), "msg_1", BODY);
    let first = post_by(&client, durable.relay(), &webhook.svix_headers(), BODY).await;
    is_new(&first);
    for headers in [webhook.headers(), webhook.svix_headers()] {
        for place in 0..3 {
            for (before, after) in [(" ", ""), ("", " "), ("\t", ""), ("", "\t")] {
                let (mut spaced, value) = (headers, format!("{before}{}{after}", headers[place].1));
                spaced[place].1 = &value;
                let answer = post_by(&client, durable.relay(), &spaced, BODY).await;
                // Whether it still fits or not: it is no other call.
                if answer.status == 401 {
                    refused(&answer);
                } else {
                    is_repeat_of(&answer, &first);
                }
            }
        }
    }
    assert_eq!(arrived(&durable).await.len(), 1);
}

#[tokio::test]
async fn whoever_cannot_sign_cannot_take_anothers_key() {
    let durable = durable().await;
    let webhook = Webhook::sign(&secret(), "msg_1", BODY);
    let other = BODY.replace("pro", "free");
    for headers in [webhook.headers(), webhook.svix_headers()] {
        refused(&durable.post_with(&headers, other.clone()).await);
    }
    refused(&durable.post_with(&[("webhook-id", "msg_1")], other).await);
    is_new(&durable.post_with(&webhook.headers(), BODY).await);
    let received = arrived(&durable).await;
    assert!(received.len() == 1 && received[0]["traits"]["plan"] == "pro", "{received:?}");
}

#[tokio::test]
async fn the_bodys_own_message_id_goes_before_the_signed_one() {
    let durable = durable().await;
    let body = r#"{"userId":"c-1042","messageId":"m-1","traits":{}}"#;
    let first = durable.post_with(&Webhook::sign(&secret(), "msg_1", body).headers(), body).await;
    is_new(&first);
    assert_eq!(first.message_id(), "m-1");
    is_repeat_of(&durable.post_with(&Webhook::sign(&secret(), "msg_2", body).headers(), body).await, &first);
    assert_eq!(arrived(&durable).await.len(), 1);
}

#[tokio::test]
async fn two_customers_under_one_signed_id_stay_two() {
    let durable = durable().await;
    for user in ["c-1", "c-2"] {
        let body = BODY.replace("c-1042", user);
        is_new(&durable.post_with(&Webhook::sign(&secret(), "msg_1", &body).headers(), body).await);
    }
    assert_eq!(arrived(&durable).await.len(), 2);
}

#[tokio::test]
async fn without_an_outbox_the_same_message_id_goes_to_segment_again() {
    let app = App::with(&[("RELAY_AUTH", "standard-webhooks"), ("RELAY_AUTH_SECRETS", &secret())]).await;
    let webhook = Webhook::sign(&secret(), "msg_1", BODY);
    let headers = [webhook.headers().to_vec(), webhook.svix_headers().to_vec()];
    let beside = [&webhook.svix_headers()[..], &[("webhook-id", "forged")]].concat();
    let mut ids = Vec::new();
    for headers in [&headers[0], &headers[0], &headers[1], &beside] {
        let answer = app.post_with(headers, BODY).await;
        assert!(answer.is_accepted() && !answer.is_replayed(), "{answer:?}");
        ids.push(answer.message_id().to_owned());
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let received = app.segment().received().await;
    assert!(received.len() == 4 && received.iter().all(|call| call["messageId"] == *ids[0]), "{received:?}");
}

#[tokio::test]
async fn under_the_other_schemes_the_headers_are_keys_as_ever() {
    let settings = [("RELAY_AUTH", "hmac"), ("RELAY_AUTH_SECRETS", "s3cret")];
    let durable = Durable::with(&settings).await;
    let signature = hmac_hex("s3cret", BODY);
    for key in ["webhook-id", "idempotency-key"] {
        let headers = [("x-signature-256", &*signature), (key, "k-1")];
        let first = durable.post_with(&headers, BODY).await;
        is_new(&first);
        is_repeat_of(&durable.post_with(&headers, BODY).await, &first);
    }
}
