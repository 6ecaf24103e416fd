//! Fuzz target `dead-letters-query`: any query string.

use super::tests::{asked, list};
use super::{LetterFilter, LetterQuery};
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
    "all",
    "all=true",
    "why=refused",
    "why=gave_up",
    "why=unmapped",
    "source=shop",
    "userId=c-1",
    "status=400",
    "status=null",
    "since=2026-01-31T09:30:00Z",
    "until=2026-01-31T09:30:00+01:00",
    "perSecond=5",
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
        let count = |fields: &[bool]| fields.iter().filter(|is_set| **is_set).count();
        let filters = |filter: &LetterFilter| {
            let LetterFilter { before, why, user_id, source, status, since, until } = filter;
            let times = [since.is_some(), until.is_some(), source.is_some()];
            count(&[before.is_some(), why.is_some(), user_id.is_some(), status.is_some()]) + count(&times)
        };
        match list(&query) {
            Ok((limit, filter)) => {
                assert!((1..=1000).contains(&limit) && filter.before.is_none_or(|id| id > 0), "{filter:?}");
                assert_eq!(limit, value("limit").map_or(100, |limit| limit.parse().unwrap()));
                assert_eq!(filter.before, value("before").map(|id| id.parse().unwrap()));
                assert_eq!(filter.user_id.as_ref(), value("userId"));
                assert_eq!(filter.source.as_ref(), value("source"));
                assert_eq!(pairs.len(), filters(&filter) + count(&[value("limit").is_some()]), "all was read");
            }
            Err(error) => assert!(!format!("{error:?}").contains("canary"), "{error:?}"),
        }
        // Whatever was not read might have been a filter.
        if let Ok((filter, pace)) = LetterQuery::replay(asked(&query)) {
            assert_eq!(pairs.len(), filters(&filter) + count(&[pace.is_some()]), "all was read");
        }
        if let Ok(filter) = LetterQuery::discard(asked(&query)) {
            assert_eq!(pairs.len(), filters(&filter) + count(&[value("all").is_some()]), "all was read");
            assert!(filter != LetterFilter::default() || value("all").is_some());
        }
    });
}
