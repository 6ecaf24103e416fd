//! The admin token: asked for, kept by the tab alone, sent in no URL, asked for again.

use crate::harness::{Browser, Durable, TOKEN};

use super::{sign_in, signed_in};

/// Waits for the form. Nothing of the relay is shown beside it.
async fn asks(browser: &Browser) {
    browser.sees("labelled('Admin token')").await;
    assert_eq!(browser.texts("#summary, #letters-table, #tile-stored").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_the_right_one_stays_in_the_tab_until_the_operator_signs_out() {
    let durable = Durable::start().await;
    let browser = Browser::start().await;
    browser.open(&durable.relay().url("/")).await;
    asks(&browser).await;
    assert_eq!(browser.run("return labelled('Admin token').type").await, "password");
    sign_in(&browser, "t0ken-of-nobody-at-all").await;
    // It says so, and keeps nothing.
    browser.sees("all('[role=alert], :invalid, [aria-invalid=true]').some(text)").await;
    asks(&browser).await;
    assert_eq!(browser.run("return {...sessionStorage}").await, serde_json::json!({}));
    sign_in(&browser, TOKEN).await;
    browser.sees("text(all('#summary')[0])").await;
    let kept = browser.run("return [Object.values(sessionStorage), {...localStorage}, document.cookie]").await;
    assert_eq!(kept, serde_json::json!([[TOKEN], {}, ""]));
    // The tab remembers it.
    browser.reload().await;
    browser.reads("#connection", "Live").await;
    browser.press_button("body", "Sign out").await;
    asks(&browser).await;
    assert_eq!(browser.run("return {...sessionStorage}").await, serde_json::json!({}));
    browser.reload().await;
    asks(&browser).await;
    for request in browser.requests().await {
        assert!(!request["url"].to_string().contains("t0ken"), "{request}");
        assert!(request["headers"]["Referer"].as_str().is_none_or(|referer| !referer.contains("t0ken")), "{request}");
    }
    assert!(!browser.run("return location.href").await.to_string().contains("t0ken"));
}

#[tokio::test]
async fn a_token_that_is_no_longer_valid_is_asked_for_again() {
    let (mut durable, file) = Durable::with_token_file().await;
    durable.start_relay().await;
    let browser = signed_in(durable.relay()).await;
    std::fs::write(&file, "t0ken-of-the-next-operator").unwrap();
    durable.relay().process().signal("HUP");
    asks(&browser).await;
    sign_in(&browser, "t0ken-of-the-next-operator").await;
    browser.reads("#connection", "Live").await;
}
