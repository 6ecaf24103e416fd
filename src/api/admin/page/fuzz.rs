//! Fuzz target `dead-letters-query`: any text behind the question mark.

use super::Asked;
use crate::fuzz::hold;

const TOKENS: &[&str] = &[
    "limit",
    "before",
    "=",
    "&",
    "%",
    "+",
    ";",
    "limit=5",
    "before=7",
    "0",
    "1000",
    "1001",
    "-1",
    "9223372036854775807",
    "9223372036854775808",
    "%31",
    "%00",
    "%ff",
    "canary",
    "é",
];

#[test]
fn a_page_has_bounds_and_what_is_wrong_with_a_query_is_said_without_repeating_it() {
    hold("dead-letters-query", TOKENS, |input| {
        let query = String::from_utf8_lossy(input);
        let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let value = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        match Asked::of(&query) {
            Ok(asked) => {
                assert!((1..=1000).contains(&asked.limit) && asked.before.is_none_or(|id| id > 0), "{asked:?}");
                assert_eq!(asked.limit, value("limit").map_or(100, |limit| limit.parse().unwrap()));
                assert_eq!(asked.before, value("before").map(|id| id.parse().unwrap()));
                assert_eq!(pairs.len(), [value("limit"), value("before")].iter().flatten().count(), "all was read");
            }
            Err(fault) => {
                assert!(!fault.is_empty() && !fault.contains("canary"), "{fault}");
                assert!(fault.is_ascii() && !fault.chars().any(char::is_control), "{fault}");
            }
        }
    });
}
