//! axe-core finds nothing on the page that would keep somebody out: names, contrast, landmarks, order.

use std::path::Path;

use serde_json::json;

use crate::harness::Browser;

use super::{has_rows, prefer_colours, question, row, signed_in, with_letters};

/// Loads axe-core into the page. Its security policy does not hold for what the browser's own tools run.
async fn load_axe(browser: &Browser) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the folder of what is built");
    let file = target.join("tools/page/node_modules/axe-core/axe.min.js");
    let source = std::fs::read_to_string(file).expect("axe-core is missing: run tests/tools/chromium");
    browser.run(&source).await;
}

/// Checks the rules of WCAG 2.2, levels A and AA, and what is good practice.
async fn check(browser: &Browser, situation: &str) {
    let script = "return axe.run(document, {resultTypes: ['violations']}).then(({violations}) =>
        violations.map(({id, help, nodes}) => [id, help, nodes.map(({html, failureSummary}) => [html, failureSummary])]))";
    let violations = browser.run(script).await;
    assert_eq!(violations, json!([]), "{situation}: {violations:#}");
}

#[tokio::test]
async fn axe_finds_no_fault_in_light_and_dark_with_and_without_a_question() {
    let durable = with_letters(&["c-1", "c-2"]).await;
    let letter = row("letters-table", &durable.dead_letters().await[0]);
    let browser = Browser::start().await;
    browser.open(&durable.relay().url("/")).await;
    browser.sees("labelled('Admin token')").await;
    load_axe(&browser).await;
    check(&browser, "the form").await;
    drop(browser);
    let browser = signed_in(durable.relay()).await;
    has_rows(&browser, "letters-table", 2).await;
    load_axe(&browser).await;
    for colours in ["light", "dark"] {
        prefer_colours(&browser, colours).await;
        check(&browser, colours).await;
    }
    question(&browser, &letter, "Discard").await;
    check(&browser, "a question in the dark").await;
}
