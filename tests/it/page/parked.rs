//! Parked customers on the page: tried again and given up, one or all.

use reqwest::Method;
use serde_json::Value;

use crate::harness::{Durable, Fault, ScriptedSegment, at_last, customer};

use super::{answer_with, has_rows, of_user, post_all, question, row, signed_in};

async fn parked(durable: &Durable) -> Vec<Value> {
    let answer = durable.operate(Method::GET, "/parked").await;
    answer.body["parked"].as_array().expect("parked users").clone()
}

/// A relay at which these users are parked, because Segment fails at each of their calls.
async fn with_parked(users: &[&str]) -> (Durable, ScriptedSegment) {
    let segment = ScriptedSegment::start();
    let mut durable = Durable::sending_to(&segment.url(), &[]);
    durable.start_relay().await;
    users.iter().for_each(|user| segment.fail(&format!("\"{user}\""), Fault::Status(500)));
    post_all(&durable, users).await;
    // Their calls are at fault only while others are accepted.
    let sound = customer("sound");
    at_last(async || {
        assert!(durable.post(&sound).await.is_stored());
        parked(&durable).await.len() == users.len()
    })
    .await;
    (durable, segment)
}

fn requests_of(segment: &ScriptedSegment, user: &str) -> usize {
    segment.requests().iter().filter(|request| request.users.contains(user)).count()
}

#[tokio::test]
async fn parked_customers_are_tried_again_or_given_up_after_a_question() {
    let (durable, segment) = with_parked(&["stuck-1", "stuck-2", "stuck-3"]).await;
    let listed = parked(&durable).await;
    let [first, second] = ["stuck-1", "stuck-2"].map(|user| row("parked-table", of_user(&listed, user)));
    let browser = signed_in(durable.relay()).await;
    has_rows(&browser, "parked-table", 3).await;
    browser.reads(&first, "500").await;
    let before = requests_of(&segment, "stuck-1");
    let asked = question(&browser, &first, "Retry").await;
    assert!(asked.contains("stuck-1"), "{asked}");
    answer_with(&browser, "Retry").await;
    at_last(async || requests_of(&segment, "stuck-1") > before).await;
    let asked = question(&browser, &second, "Give up").await;
    assert!(asked.contains("stuck-2"), "{asked}");
    answer_with(&browser, "Give up").await;
    // It is a dead letter now, without a reload.
    has_rows(&browser, "parked-table", 2).await;
    browser.reads("#letters-table", "stuck-2").await;
    assert_eq!(durable.dead_letters().await[0]["why"], "operator");
    let asked = question(&browser, "section", "Give up all").await;
    assert!(asked.contains('2'), "the number is known: {asked}");
    answer_with(&browser, "Give up").await;
    has_rows(&browser, "parked-table", 0).await;
    has_rows(&browser, "letters-table", 3).await;
}

#[tokio::test]
async fn all_parked_customers_are_tried_again_when_their_trouble_is_over() {
    let (durable, segment) = with_parked(&["stuck-1", "stuck-2"]).await;
    let browser = signed_in(durable.relay()).await;
    has_rows(&browser, "parked-table", 2).await;
    question(&browser, "section", "Retry all").await;
    segment.heal();
    answer_with(&browser, "Retry").await;
    has_rows(&browser, "parked-table", 0).await;
    at_last(async || segment.users_arrived("stuck-") == 2).await;
}
