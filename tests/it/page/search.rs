//! The search: what became of a call, and what waits of a user.

use serde_json::json;

use crate::harness::{Browser, Durable, key};

use super::signed_in;

async fn search(browser: &Browser, what: &str, found: &str) {
    browser.fill("User ID or messageId", what).await;
    browser.type_keys(key::ENTER).await;
    browser.reads("#search-result", found).await;
}

#[tokio::test]
async fn a_call_is_found_by_its_message_id_and_a_user_by_its_id() {
    let durable = Durable::start().await;
    let browser = signed_in(durable.relay()).await;
    for (user, faults, status) in [("c-1", json!({}), 200), ("c-2", json!({"poisonUserIds": ["c-2"]}), 422)] {
        durable.segment().fail(faults).await;
        let call = json!({"userId": user, "messageId": format!("m/{user}?#"), "traits": {"plan": "pro"}});
        let answer = durable.post_with(&[("prefer", "wait=10")], call.to_string()).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    search(&browser, "m/c-1?#", "accepted").await;
    search(&browser, "m/c-2?#", "refused").await;
    search(&browser, "nobody & nothing", "Nothing is known of it").await;
    search(&browser, "c-2", "poisoned user").await;
    browser.fill("User ID or messageId", "m/c-1?#").await;
    browser.press_button("#search", "Search").await;
    browser.reads("#search-result", "accepted").await;
}
