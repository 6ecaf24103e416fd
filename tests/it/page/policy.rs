//! What a page may do: its content security policy, as the browser enforces it.

use crate::harness::{App, Browser};

/// Checks that the browser asked this origin alone, and had nothing to complain about.
async fn check(browser: &Browser, origin: &str) {
    let asked: Vec<String> =
        browser.requests().await.iter().map(|request| request["url"].as_str().unwrap().to_owned()).collect();
    let strangers: Vec<_> = asked.iter().filter(|url| !url.starts_with(origin) && !url.starts_with("data:")).collect();
    assert!(!asked.is_empty() && strangers.is_empty(), "{asked:?}");
    assert_eq!(browser.console().await, Vec::<String>::new());
}

#[tokio::test]
async fn the_documents_are_shown_without_a_breach_of_their_policy() {
    let app = App::start().await;
    let browser = Browser::start().await;
    browser.open(&app.relay().url("/docs")).await;
    browser.reads("body", "/customers").await;
    check(&browser, &app.relay().url("/")).await;
}
