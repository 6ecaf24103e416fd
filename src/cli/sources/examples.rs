//! The examples of a source: whether its filter makes of them what the file says.

use std::fmt::Write;

use serde_json::Value;

use crate::sources::event::{EventError, Filters, check_customers, make_customers};
use crate::sources::mapping::Event;
use crate::sources::settings::{Example, SourceSettings};

/// `received_at` in examples, so that a filter that uses it always makes the same: 2026-01-31T10:30:00.000Z.
const RECEIVED_AT: i64 = 1_769_855_400_000;

/// What is wrong with the examples of a source: a text of one or more lines for each.
pub(in crate::cli) async fn problems(filters: &dyn Filters, source: &SourceSettings) -> Vec<String> {
    let mut problems = Vec::new();
    for (place, example) in source.examples.iter().enumerate() {
        if let Err(problem) = check(filters, source, example).await {
            problems.push(format!("{}, example {}: {problem}", source.name, place + 1));
        }
    }
    problems
}

async fn check(filters: &dyn Filters, source: &SourceSettings, example: &Example) -> Result<(), String> {
    let event = Event { headers: example.headers.clone(), body: example.body.clone(), received_at: RECEIVED_AT };
    let texts = make_customers(filters, source, event).await.map_err(|error| match error {
        EventError::Unmapped(why) => why.to_string(),
        EventError::Overloaded => "too many events wait for the filter".to_owned(),
    })?;
    check_customers(source, &texts).map_err(|why| why.to_string())?;
    let Some(expect) = &example.expect else { return Ok(()) };
    let expected: Vec<Value> = serde_json::from_str(expect).map_err(|error| error.to_string())?;
    let got: Vec<Value> = texts.iter().map(|text| serde_json::from_slice(text).unwrap_or_default()).collect();
    difference(&expected, &got).map_or(Ok(()), Err)
}

/// The first customer that differs.
fn difference(expected: &[Value], got: &[Value]) -> Option<String> {
    let place = (0..expected.len().max(got.len())).find(|place| expected.get(*place) != got.get(*place))?;
    let mut text = format!("customer {place} differs");
    for (name, customers) in [("expected", expected), ("got", got)] {
        let customer = customers.get(place).map_or("none".to_owned(), Value::to_string);
        // Writing to a String does not fail.
        let _ = write!(text, "\n  {name:8}  {customer}");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::difference;

    #[test]
    fn the_first_customer_that_differs_is_shown() {
        let (ada, bob) = (json!({"userId": "ada"}), json!({"userId": "bob"}));
        let both = [ada.clone(), bob.clone()];
        assert_eq!(difference(&both, &both), None);
        let two = "customer 1 differs\n  expected  {\"userId\":\"bob\"}\n  got       {\"userId\":\"ada\"}";
        assert_eq!(difference(&both, &[ada.clone(), ada.clone()]).as_deref(), Some(two));
        let missing = "customer 1 differs\n  expected  {\"userId\":\"bob\"}\n  got       none";
        assert_eq!(difference(&both, &both[..1]).as_deref(), Some(missing));
        let more = "customer 0 differs\n  expected  none\n  got       {\"userId\":\"ada\"}";
        assert_eq!(difference(&[], &[ada]).as_deref(), Some(more));
    }

    #[test]
    fn the_order_of_keys_does_not_count_and_the_digits_of_a_decimal_do_not() {
        let text = |text: &str| vec![serde_json::from_str(text).unwrap()];
        let expected = text(r#"{"userId":"a","traits":{"x":1.50,"y":7345678901234567890}}"#);
        assert_eq!(difference(&expected, &text(r#"{"traits":{"y":7345678901234567890,"x":1.5},"userId":"a"}"#)), None);
        assert!(difference(&expected, &text(r#"{"userId":"a","traits":{"x":1.5,"y":7345678901234567891}}"#)).is_some());
    }
}
