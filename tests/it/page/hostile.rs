//! userIds and reasons that would be markup, or turn the text around them, or be too long.

use serde_json::json;

use crate::harness::{eventually, key};

use super::{has_rows, refused_with, signed_in};

const REASON: &str = "<script>window.isPwned = 1</script><img src=x onerror=\"window.isPwned = 2\">";

const USERS: [&str; 7] = [
    "filler\u{3164}and\u{e0041}tag",
    "<script>window.isPwned = 3</script>",
    "\"><img src=x onerror=window.isPwned=4>",
    "javascript:window.isPwned=5",
    "right\u{202e}to\u{2066}left",
    "a\u{0}b\r\n\tc\u{1b}[31m",
    "${window.isPwned = 6} {{7*7}} &lt;b&gt;",
];

#[tokio::test]
async fn hostile_user_ids_and_reasons_are_shown_as_text_and_run_nothing() {
    let (durable, _segment) = refused_with(REASON).await;
    let long = "x".repeat(10_000);
    for user in USERS.into_iter().chain([&*long]) {
        let call = json!({"userId": user, "traits": {"name": REASON}});
        assert!(durable.post(&call).await.is_stored());
    }
    eventually(async || durable.dead_letters().await.len() == USERS.len() + 1).await;
    let browser = signed_in(durable.relay()).await;
    has_rows(&browser, "letters-table", USERS.len() + 1).await;
    for user in [USERS[1], USERS[2], USERS[3], USERS[6], "<script>window.isPwned = 1</script>"] {
        browser.reads("#letters-table", user).await;
    }
    // What turns text around, and what is no character, is made visible.
    let raw = "/[\\u0000-\\u0008\\u000e-\\u001f\\u202a-\\u202e\\u2066-\\u2069\\u3164]/.test(document.body.textContent)";
    browser.sees(&format!("!{raw}")).await;
    for user in [USERS[1], USERS[4]] {
        browser.fill("User ID or messageId", user).await;
        browser.type_keys(key::ENTER).await;
        browser.reads("#search-result", "400").await;
    }
    browser.sees("document.querySelectorAll('script:not([src])').length === 0").await;
    browser.sees("document.querySelectorAll('img[onerror], [src=x]').length === 0").await;
    browser.sees("window.isPwned === undefined").await;
    let wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
    browser.sees(wide).await;
    // A search that finds no call is a 404, of which the browser makes a line.
    let mut console = browser.console().await;
    console.retain(|line| !line.contains("/calls/") || !line.contains("404"));
    assert_eq!(console, Vec::<String>::new());
}
