//! Dead letters on the page: read, replayed and discarded, one or all that fit the filters.

use serde_json::json;

use crate::harness::{Durable, TOKEN, eventually};

use super::{answer_with, has_rows, of_user, question, row, rows, signed_in, with_letters};

#[tokio::test]
async fn one_letter_is_replayed_and_one_is_discarded_after_a_question() {
    let durable = with_letters(&["c-1", "c-2", "c-3"]).await;
    let letters = durable.dead_letters().await;
    let [first, second] = ["c-1", "c-2"].map(|user| row("letters-table", of_user(&letters, user)));
    let browser = signed_in(durable.relay()).await;
    has_rows(&browser, "letters-table", 3).await;
    browser.reads(&first, "the batch holds a call of a poisoned user").await;
    let asked = question(&browser, &first, "Replay").await;
    assert!(asked.contains("c-1"), "{asked}");
    answer_with(&browser, "Cancel").await;
    assert_eq!(durable.dead_letters().await.len(), 3);
    question(&browser, &first, "Replay").await;
    answer_with(&browser, "Replay").await;
    eventually(async || durable.segment().received().await.iter().any(|call| call["userId"] == "c-1")).await;
    has_rows(&browser, "letters-table", 2).await;
    browser.sees("all('#notice').some(text)").await;
    let asked = question(&browser, &second, "Discard").await;
    assert!(asked.contains("c-2"), "{asked}");
    answer_with(&browser, "Discard").await;
    has_rows(&browser, "letters-table", 1).await;
    let left = durable.dead_letters().await;
    assert_eq!((left.len(), &left[0]["userId"]), (1, &json!("c-3")));
}

#[tokio::test]
async fn all_that_fit_the_filters_are_discarded_after_a_question_that_names_them() {
    let durable = with_letters(&["c-1", "c-2", "c-3"]).await;
    let browser = signed_in(durable.relay()).await;
    has_rows(&browser, "letters-table", 3).await;
    browser.choose("Why", "gave_up").await;
    has_rows(&browser, "letters-table", 0).await;
    browser.choose("Why", "refused").await;
    has_rows(&browser, "letters-table", 3).await;
    browser.fill("User ID", "c-2").await;
    browser.type_keys(crate::harness::key::ENTER).await;
    has_rows(&browser, "letters-table", 1).await;
    let asked = question(&browser, "section", "Discard all").await;
    assert!(asked.contains("c-2"), "the filter is named: {asked}");
    answer_with(&browser, "Cancel").await;
    assert_eq!(durable.dead_letters().await.len(), 3);
    question(&browser, "section", "Discard all").await;
    answer_with(&browser, "Discard").await;
    has_rows(&browser, "letters-table", 0).await;
    let left = durable.dead_letters().await;
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|letter| letter["userId"] != "c-2"), "{left:?}");
}

#[tokio::test]
async fn many_letters_are_shown_a_page_at_a_time_and_replayed_at_a_pace() {
    let users: Vec<String> = (0..120).map(|number| format!("c-{number}")).collect();
    let durable = with_letters(&users.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let browser = signed_in(durable.relay()).await;
    has_rows(&browser, "letters-table", 100).await;
    browser.press_button("section", "More").await;
    has_rows(&browser, "letters-table", 120).await;
    browser.press_button("section", "Replay all").await;
    browser.fill("At most a second", "500").await;
    let asked = browser.text("#confirm").await;
    assert!(asked.contains("120"), "the number is known: {asked}");
    answer_with(&browser, "Replay").await;
    eventually(async || durable.segment().received().await.len() == 120).await;
    has_rows(&browser, "letters-table", 0).await;
    assert_eq!(rows(&browser, "letters-table").await, 0);
}

#[tokio::test]
async fn an_unmapped_event_is_shown_beside_what_the_filter_makes_of_it_now() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sources.toml");
    let sources = |filter: &str| format!("[shop]\nverify = \"none\"\nmap = '{filter}'\n");
    std::fs::write(&file, sources("error(\"no plan yet\")")).unwrap();
    let durable = Durable::with(&[("RELAY_SOURCES", &file.display().to_string())]).await;
    let event = json!({"shopper": "c-7", "plan": "gold"}).to_string();
    let request = durable.relay().request(reqwest::Method::POST, "/sources/shop").bearer_auth(TOKEN);
    assert_eq!(request.body(event).send().await.unwrap().status(), 202);
    let letter = row("letters-table", &durable.dead_letters().await[0]);
    let browser = signed_in(durable.relay()).await;
    browser.press_button(&letter, "Preview").await;
    browser.reads("section", "\"shopper\"").await;
    browser.reads("section", "no plan yet").await;
    std::fs::write(&file, sources("{userId: .shopper, traits: {plan: .plan}}")).unwrap();
    durable.relay().process().signal("HUP");
    let is_read = |line: &serde_json::Value| line["message"].as_str().is_some_and(|words| words.contains("read again"));
    eventually(async || durable.relay().log().iter().any(is_read)).await;
    browser.press_button(&letter, "Preview").await;
    browser.reads("section", "\"userId\"").await;
    question(&browser, &letter, "Replay").await;
    answer_with(&browser, "Replay").await;
    eventually(async || durable.segment().received().await.iter().any(|call| call["traits"]["plan"] == "gold")).await;
    has_rows(&browser, "letters-table", 0).await;
}
