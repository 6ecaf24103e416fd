//! What changes at the relay changes on the page, without a reload.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Durable, customer};

use super::{post_all, signed_in};

/// Awaits this while customers are posted.
async fn while_posting(durable: &Durable, seen: impl Future<Output = ()>) {
    let posting = async {
        for number in 0.. {
            durable.post(&customer(&format!("c-{number}"))).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = seen => {}
        () = posting => {}
    }
}

#[tokio::test]
async fn numbers_follow_the_calls_without_a_reload() {
    let durable = Durable::start().await;
    let browser = signed_in(durable.relay()).await;
    browser.sees("document.querySelector('#summary').dataset.level === 'well'").await;
    browser.run("window.isTheSame = true").await;
    let rises = |tile: &str| format!("/[1-9]/.test(text(document.querySelector('#{tile} .number')))");
    let numbers = [rises("tile-stored"), rises("tile-delivered"), rises("tile-segment")].join(" && ");
    while_posting(&durable, browser.sees(&numbers)).await;
    // And back, when nothing comes any more.
    browser.sees("text(document.querySelector('#tile-stored .number')).startsWith('0')").await;
    browser.sees("window.isTheSame === true").await;
}

#[tokio::test]
async fn an_outage_appears_and_heals() {
    let durable = Durable::start().await;
    let browser = signed_in(durable.relay()).await;
    durable.segment().fail(json!({"status": 503})).await;
    let users: Vec<String> = (0..12).map(|number| format!("c-{number}")).collect();
    post_all(&durable, &users.iter().map(String::as_str).collect::<Vec<_>>()).await;
    browser.reads("#summary[data-level=trouble]", "503").await;
    browser.reads("#summary", "12 customers wait").await;
    browser.reads("section", "503").await;
    browser.sees("/[1-9]/.test(text(document.querySelector('#tile-oldest .number')))").await;
    durable.segment().heal().await;
    browser.reads("#summary:not([data-level=trouble])", "").await;
    browser.sees("text(document.querySelector('#tile-oldest .number')).startsWith('0')").await;
}

#[tokio::test]
async fn a_lost_connection_is_said_and_comes_back_by_itself() {
    // No other test listens on this address, so that the port stays free between the two starts.
    let mut durable = Durable::with(&[("RELAY_LISTEN", "127.0.0.77:0")]).await;
    let address = durable.relay().address().to_string();
    durable.set("RELAY_LISTEN", &address);
    let browser = signed_in(durable.relay()).await;
    durable.segment().fail(json!({"poisonUserIds": ["c-1"]})).await;
    post_all(&durable, &["c-1"]).await;
    browser.sees("all('#letters-table [data-id]').length === 1").await;
    durable.kill().await;
    browser.reads("#connection", "Connection lost").await;
    // What was there is still there to read.
    browser.sees("all('#letters-table [data-id]').length === 1").await;
    durable.start_relay().await;
    browser.reads("#connection", "Live").await;
    durable.segment().fail(json!({"poisonUserIds": ["c-2"]})).await;
    post_all(&durable, &["c-2"]).await;
    browser.sees("all('#letters-table [data-id]').length === 2").await;
    // A relay that stops ends the stream itself.
    assert_eq!(durable.stop().await, Some(0));
    browser.reads("#connection", "Connection lost").await;
}
