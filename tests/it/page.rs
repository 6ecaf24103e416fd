//! Pages of the relay in a headless Chromium: what an operator sees and does on them.

mod everybody;
mod fits;
mod hostile;
mod keyboard;
mod letters;
mod live;
mod parked;
mod policy;
mod search;
mod token;

use serde_json::{Value, json};

use crate::harness::{Browser, Durable, Peer, Relay, Reply, TOKEN, answer, customer, eventually, key};

/// A browser in which an operator has signed in at this relay.
async fn signed_in(relay: &Relay) -> Browser {
    let browser = Browser::start().await;
    browser.open(&relay.url("/")).await;
    sign_in(&browser, TOKEN).await;
    browser.reads("#connection", "Live").await;
    browser
}

/// Types this token into the form, and sends it.
async fn sign_in(browser: &Browser, token: &str) {
    browser.fill("Admin token", token).await;
    browser.type_keys(key::ENTER).await;
}

/// Lets the system prefer `light` or `dark`.
async fn prefer_colours(browser: &Browser, colours: &str) {
    let features = json!({"features": [{"name": "prefers-color-scheme", "value": colours}]});
    browser.devtools("Emulation.setEmulatedMedia", features).await;
}

/// The row of a table that is about this letter or parked user.
fn row(table: &str, of: &Value) -> String {
    format!("#{table} [data-id=\"{}\"]", of["id"])
}

/// How many rows a table has.
async fn rows(browser: &Browser, table: &str) -> u64 {
    let count = browser.run_with("return all(arguments[0]).length", &[&format!("#{table} [data-id]")]).await;
    count.as_u64().expect("a number")
}

/// Waits until a table has so many rows.
async fn has_rows(browser: &Browser, table: &str, count: usize) {
    browser.sees(&format!("all('#{table} [data-id]').length === {count}")).await;
}

/// Presses a button, and waits for the question that it opens. Returns the question.
async fn question(browser: &Browser, within: &str, name: &str) -> String {
    browser.press_button(within, name).await;
    browser.sees("all('#confirm')[0]?.open").await;
    browser.text("#confirm").await
}

/// Answers the question with this button.
async fn answer_with(browser: &Browser, name: &str) {
    browser.press_button("#confirm", name).await;
    browser.sees("!document.querySelector('#confirm').open").await;
}

/// A relay whose Segment refuses every call with these words.
async fn refused_with(words: &'static str) -> (Durable, Peer) {
    let segment = Peer::replying(move |_, _| Reply::Answer(answer("400 Bad Request", &[], words)));
    let mut durable = Durable::sending_to(&segment.url(), &[]);
    durable.start_relay().await;
    (durable, segment)
}

/// A relay with one refused call of each of these users, which Segment would accept by now.
async fn with_letters(users: &[&str]) -> Durable {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"poisonUserIds": users})).await;
    post_all(&durable, users).await;
    eventually(async || durable.dead_letters().await.len() == users.len()).await;
    durable.segment().heal().await;
    durable
}

async fn post_all(durable: &Durable, users: &[&str]) {
    for user in users {
        assert!(durable.post(&customer(user)).await.is_stored());
    }
}

/// The letter or parked user of this user.
fn of_user<'a>(all: &'a [Value], user: &str) -> &'a Value {
    all.iter().find(|one| one["userId"] == user).unwrap_or_else(|| panic!("{user}: {all:?}"))
}
