//! Which dead letters a command means, and the query that says it. The relay checks the values.

use clap::Args;
use url::form_urlencoded::Serializer;

#[derive(Args)]
pub(super) struct Filter {
    /// Only those that became dead letters for this reason: refused, gave_up, operator or unmapped
    #[arg(long)]
    why: Option<String>,
    /// Only those that came by this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only those of this user
    #[arg(long, value_name = "ID")]
    user_id: Option<String>,
    /// Only those whose last answer had this status; null for those without an answer
    #[arg(long)]
    status: Option<String>,
    /// Only those refused at this time or later, such as 2026-01-31T09:30:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only those refused before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Filter {
    fn values(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("why", &self.why),
            ("source", &self.source),
            ("userId", &self.user_id),
            ("status", &self.status),
            ("since", &self.since),
            ("until", &self.until),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values().next().is_none()
    }
}

/// The query of a filter and these numbers, with its question mark; empty if there is nothing to say.
pub(super) fn query(filter: &Filter, numbers: &[(&str, Option<i64>)]) -> String {
    let mut query = Serializer::new(String::new());
    for (name, number) in numbers.iter().filter_map(|(name, number)| Some((name, (*number)?))) {
        query.append_pair(name, &number.to_string());
    }
    let query = query.extend_pairs(filter.values()).finish();
    if query.is_empty() { query } else { format!("?{query}") }
}

#[cfg(test)]
mod tests {
    use super::{Filter, query};

    #[test]
    fn values_are_escaped() {
        let text = |text: &str| Some(text.to_owned());
        let user_id = text("a&b=ü +");
        let mut filter = Filter { why: None, source: None, user_id, status: None, since: None, until: None };
        assert_eq!(query(&filter, &[("limit", Some(5)), ("before", None)]), "?limit=5&userId=a%26b%3D%C3%BC+%2B");
        filter = Filter { user_id: None, since: text("2026-01-31T09:30:00+01:00"), ..filter };
        assert_eq!(query(&filter, &[]), "?since=2026-01-31T09%3A30%3A00%2B01%3A00");
        filter = Filter { why: text("unmapped"), source: text("shop"), since: None, ..filter };
        assert_eq!(query(&filter, &[]), "?why=unmapped&source=shop");
        assert_eq!(query(&Filter { why: None, source: None, ..filter }, &[]), "");
    }
}
