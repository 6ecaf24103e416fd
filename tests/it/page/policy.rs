//! What a page may do: its content security policy, as the browser enforces it.

use crate::harness::{App, Browser, Durable, Peer, answer, eventually};

use super::{has_rows, signed_in, with_letters};

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

#[tokio::test]
async fn the_operators_page_asks_its_own_origin_alone_and_breaks_no_rule_of_its_policy() {
    let durable = with_letters(&["c-1"]).await;
    let browser = signed_in(durable.relay()).await;
    has_rows(&browser, "letters-table", 1).await;
    check(&browser, &durable.relay().url("/")).await;
}

#[tokio::test]
async fn the_policy_stops_foreign_scripts_requests_and_frames() {
    let durable = Durable::start().await;
    let elsewhere = Peer::start(|_| answer("200 OK", &["access-control-allow-origin: *"], "elsewhere"));
    let browser = signed_in(durable.relay()).await;
    let injected = "try { document.body.innerHTML = '<b>'; return 'taken' } catch (error) { return error.name }";
    assert_eq!(browser.run(injected).await, "TypeError");
    let inline = "const script = document.createElement('script');
        try { script.textContent = 'window.isPwned = 1' } catch (error) { return 'refused' }
        document.body.append(script);
        return window.isPwned ?? 'refused'";
    assert_eq!(browser.run(inline).await, "refused");
    let fetched = "return fetch(arguments[0]).then(() => 'sent', () => 'refused')";
    assert_eq!(browser.run_with(fetched, &[&elsewhere.url()]).await, "refused");
    let image = "const image = new Image();
        return new Promise(done => {
            image.onload = () => done('sent');
            image.onerror = () => done('refused');
            image.src = arguments[0];
        })";
    assert_eq!(browser.run_with(image, &[&elsewhere.url()]).await, "refused");
    assert!(elsewhere.heads().is_empty(), "{:?}", elsewhere.heads());
    // No other page may show it in a frame.
    let url = durable.relay().url("/");
    let around = format!("<iframe src=\"{url}\"></iframe>");
    let framing = Peer::start(move |_| answer("200 OK", &["content-type: text/html"], &around));
    browser.console().await;
    browser.open(&framing.url()).await;
    eventually(async || browser.console().await.iter().any(|line| line.contains("frame-ancestors"))).await;
}
