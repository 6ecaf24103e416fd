//! Fuzz target `dead-letters-query`: any query string.

use super::tests::range;
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
fn a_page_has_limits_and_the_error_for_a_query_does_not_repeat_it() {
    hold("dead-letters-query", TOKENS, |input| {
        // Only what a URL can hold reaches the parser.
        let query = String::from_utf8_lossy(input);
        if format!("/dead-letters?{query}").parse::<axum::http::Uri>().is_err() {
            return;
        }
        let end = query.find('#').unwrap_or(query.len());
        let pairs: Vec<_> = url::form_urlencoded::parse(query[..end].as_bytes()).into_owned().collect();
        let value = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        match range(&query) {
            Ok(page) => {
                assert!((1..=1000).contains(&page.limit) && page.before.is_none_or(|id| id > 0), "{page:?}");
                assert_eq!(page.limit, value("limit").map_or(100, |limit| limit.parse().unwrap()));
                assert_eq!(page.before, value("before").map(|id| id.parse().unwrap()));
                assert_eq!(pairs.len(), [value("limit"), value("before")].iter().flatten().count(), "all was read");
            }
            Err(error) => assert!(!format!("{error:?}").contains("canary"), "{error:?}"),
        }
    });
}
