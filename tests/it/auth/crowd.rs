//! Many senders at once, half of what they send being forged: just the other half arrives, in order.

use futures_util::future::join_all;
use reqwest::Client;
use serde_json::json;

use super::{SCHEMES, borrowed, credentials, guarded, h2_client, post_by, refused, secret};
use crate::harness::{App, client};

const SENDERS: usize = 200;

/// Calls of one sender, for one user, one after the other.
const CALLS: usize = 4;

/// Whether this call of this sender is right: each forges every other call, and half of them the first.
fn is_right(sender: usize, call: usize) -> bool {
    (sender + call).is_multiple_of(2)
}

/// One sender's calls.
async fn send(app: &App, client: &Client, scheme: &str, sender: usize) {
    for call in 0..CALLS {
        let body = json!({"userId": format!("c-{sender}"), "traits": {"call": call}}).to_string();
        let id = format!("msg_{sender}_{call}");
        let signed = match (is_right(sender, call), (sender / 2 + call) % 3) {
            (true, _) => credentials(scheme, &secret(scheme, "a"), &id, &body),
            (false, 0) => credentials(scheme, &secret(scheme, "forged"), &id, &body),
            // Of another body, which tokens are as good for.
            (false, 1) if scheme == "standard-webhooks" || scheme == "hmac" => {
                credentials(scheme, &secret(scheme, "a"), &id, &format!("{body} "))
            }
            (false, _) => Vec::new(),
        };
        let answer = post_by(client, app.relay(), &borrowed(&signed), body).await;
        if is_right(sender, call) {
            assert!(answer.is_accepted(), "{scheme} {sender} {call}: {answer:?}");
        } else {
            refused(&answer);
        }
    }
}

async fn crowd(scheme: &str, client: Client) {
    let app = guarded(scheme, &format!("{},{}", secret(scheme, "b"), secret(scheme, "a"))).await;
    join_all((0..SENDERS).map(|sender| send(&app, &client, scheme, sender))).await;
    let received = app.segment().received().await;
    assert_eq!(received.len(), SENDERS * CALLS / 2);
    for sender in 0..SENDERS {
        let user = format!("c-{sender}");
        let arrived: Vec<_> =
            received.iter().filter(|call| call["userId"] == *user).map(|call| call["traits"]["call"].clone()).collect();
        let right: Vec<_> = (0..CALLS).filter(|call| is_right(sender, *call)).map(serde_json::Value::from).collect();
        assert_eq!(arrived, right, "{scheme} {user}");
    }
}

#[tokio::test]
async fn of_many_senders_half_of_whom_forge_just_the_others_arrive_in_order() {
    for scheme in SCHEMES {
        crowd(scheme, client()).await;
    }
}

#[tokio::test]
async fn it_is_the_same_on_one_connection_over_http_2() {
    // One that signs, and one that does not.
    for scheme in ["standard-webhooks", "bearer"] {
        crowd(scheme, h2_client()).await;
    }
}
