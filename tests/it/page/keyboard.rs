//! Everything by keyboard alone.

use crate::harness::{Browser, eventually, key};

use super::{has_rows, with_letters};
use crate::harness::TOKEN;

/// Presses Tab until what has the focus fits, and can be seen to have it.
async fn tab_to(browser: &Browser, css: &str) {
    let mut passed = Vec::new();
    for _ in 0..60 {
        browser.type_keys(key::TAB).await;
        let focused = "const element = document.activeElement;
            const style = getComputedStyle(element);
            const isMarked = style.outlineStyle !== 'none' || style.boxShadow !== 'none';
            return [element.matches(arguments[0]), isMarked || element === document.body, element.outerHTML.slice(0, 120)]";
        let focused = browser.run_with(focused, &[css]).await;
        assert_eq!(focused[1], true, "the focus cannot be seen: {focused}");
        if focused[0] == true {
            return;
        }
        passed.push(focused[2].to_string());
    }
    panic!("Tab does not lead to {css}, but to {passed:#?}");
}

/// The text of the element that has the focus.
async fn focused(browser: &Browser) -> String {
    browser.run("return text(document.activeElement)").await.as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_operator_signs_in_and_discards_a_letter_by_keyboard_alone() {
    let durable = with_letters(&["c-1", "c-2"]).await;
    let browser = Browser::start().await;
    browser.open(&durable.relay().url("/")).await;
    browser.sees("labelled('Admin token')").await;
    if browser.run("return document.activeElement.type").await != "password" {
        tab_to(&browser, "input[type=password]").await;
    }
    browser.type_keys(TOKEN).await;
    browser.type_keys(key::ENTER).await;
    has_rows(&browser, "letters-table", 2).await;
    // The first stop of a fresh page leads past all that is above.
    browser.reload().await;
    has_rows(&browser, "letters-table", 2).await;
    tab_to(&browser, "a[href^='#']").await;
    browser.type_keys(key::ENTER).await;
    browser.sees("document.activeElement.closest('main') || document.activeElement === document.body").await;
    let id = durable.dead_letters().await[0]["id"].to_string();
    let row = format!("#letters-table [data-id='{id}']");
    tab_to(&browser, &format!("{row} button")).await;
    while !focused(&browser).await.starts_with("Discard") {
        tab_to(&browser, &format!("{row} button")).await;
    }
    let opened_by = focused(&browser).await;
    browser.type_keys(key::ENTER).await;
    browser.sees("all('#confirm')[0]?.open").await;
    assert_eq!(focused(&browser).await, "Cancel");
    browser.type_keys(key::ESCAPE).await;
    browser.sees("!document.querySelector('#confirm').open").await;
    // The focus is where it was.
    assert_eq!(focused(&browser).await, opened_by);
    browser.type_keys(key::SPACE).await;
    browser.sees("all('#confirm')[0]?.open").await;
    // The focus stays in the dialog, whose buttons are the only stops.
    browser.type_keys(key::TAB).await;
    assert!(focused(&browser).await.starts_with("Discard"));
    browser.type_keys(key::ENTER).await;
    eventually(async || durable.dead_letters().await.len() == 1).await;
    has_rows(&browser, "letters-table", 1).await;
    // The button is gone. The next Tab goes on from near it, not from the top of the page.
    browser.sees("document.activeElement !== document.body").await;
}
