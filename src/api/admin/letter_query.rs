//! The queries of `/dead-letters`: which letters are meant, and what else is asked for.
//!
//! Whoever misspells a filter must not replay or discard all letters, so every parameter is known, is there once, and has a
//! meaning for what is asked.

use std::num::NonZeroU32;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use serde::Deserialize;

use super::page::{MAX_LIMIT, PageQuery};
use crate::api::error::{ApiError, ApiErrorCode};
use crate::customer::read_timestamp;
use crate::outbox::{LetterFilter, LetterWhy};
use crate::segment::ErrorCode;

/// What the handlers get: the parameters, or what axum says of them.
pub(super) type Asked = Result<Query<LetterQuery>, QueryRejection>;

/// Every parameter that any of the routes has.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct LetterQuery {
    limit: Option<usize>,
    before: Option<i64>,
    all: Option<String>,
    why: Option<String>,
    user_id: Option<String>,
    source: Option<String>,
    status: Option<String>,
    since: Option<String>,
    until: Option<String>,
    per_second: Option<NonZeroU32>,
}

impl LetterQuery {
    /// Of `GET`: how many letters, and which.
    pub(super) fn list(asked: Asked) -> Result<(usize, LetterFilter), ApiError> {
        let query = Self::known(asked)?;
        if query.all.is_some() || query.per_second.is_some() {
            return Err(invalid_query());
        }
        let range = PageQuery { limit: query.limit, before: query.before }.range().ok_or_else(invalid_query)?;
        Ok((range.limit, query.filter()?))
    }

    /// Of `POST`: which letters, and how many of them a second.
    pub(super) fn replay(asked: Asked) -> Result<(LetterFilter, Option<NonZeroU32>), ApiError> {
        let query = Self::known(asked)?;
        if query.limit.is_some() || query.before.is_some() || query.all.is_some() {
            return Err(invalid_query());
        }
        Ok((query.filter()?, query.per_second))
    }

    /// Of `DELETE`: which letters. All of them are meant only if the query says so.
    pub(super) fn discard(asked: Asked) -> Result<LetterFilter, ApiError> {
        let query = Self::known(asked)?;
        let filter = query.filter()?;
        let is_all = match query.all.as_deref() {
            None => false,
            Some("" | "true") => true,
            Some(_) => return Err(invalid_query()),
        };
        if query.limit.is_some() || query.per_second.is_some() || is_all && filter != LetterFilter::default() {
            return Err(invalid_query());
        }
        if !is_all && filter == LetterFilter::default() {
            let message = "say which dead letters are to be deleted: before, a filter, or all";
            return Err(ApiError::new(ApiErrorCode::BadRequest, message));
        }
        Ok(filter)
    }

    fn known(asked: Asked) -> Result<Self, ApiError> {
        asked.map(|Query(query)| query).map_err(|_| invalid_query())
    }

    fn filter(&self) -> Result<LetterFilter, ApiError> {
        let time = |text: &Option<String>| text.as_deref().map(time).transpose();
        let why = |why: &String| LetterWhy::ALL.into_iter().find(|known| known.as_str() == why);
        let why = self.why.as_ref().map(|text| why(text).ok_or_else(invalid_query));
        let is_empty = |text: &Option<String>| text.as_deref() == Some("");
        let is_wrong = is_empty(&self.user_id) || is_empty(&self.source) || self.before.is_some_and(|id| id < 1);
        if is_wrong {
            return Err(invalid_query());
        }
        Ok(LetterFilter {
            before: self.before,
            why: why.transpose()?,
            user_id: self.user_id.clone(),
            source: self.source.clone(),
            status: self.status.as_deref().map(status).transpose()?,
            since: time(&self.since)?,
            until: time(&self.until)?,
        })
    }
}

/// A status, or `null` as the letters show it.
fn status(text: &str) -> Result<Option<u16>, ApiError> {
    if text == "null" {
        return Ok(None);
    }
    let status = text.parse().ok().filter(|status| (100..=999).contains(status));
    status.map(Some).ok_or_else(invalid_query)
}

/// In milliseconds. A `+` in a query means a space, so an offset that is not escaped comes with one.
fn time(text: &str) -> Result<i64, ApiError> {
    read_timestamp(&text.replace(' ', "+")).map(|time| time.as_millisecond()).map_err(|_| invalid_query())
}

/// The answer to a query that breaks a rule. It repeats nothing of the query.
fn invalid_query() -> ApiError {
    let message = format!(
        "the filters are why (refused, gave_up, operator or unmapped), source, userId, status (a number, or null), since and until (RFC 3339, \
         of refusedAt); a page has limit (1 to {MAX_LIMIT}) and before (the id of a dead letter), a replay has perSecond \
         (1 or more), a deletion has before, or all alone; each may be there once, and there are no parameters but these"
    );
    ApiError::new(ApiErrorCode::Call(ErrorCode::InvalidPayload), message)
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use axum::http::Uri;

    use super::{ApiError, Asked, LetterFilter, LetterQuery, LetterWhy, Query};

    pub(super) fn asked(query: &str) -> Asked {
        let uri: Uri = format!("/dead-letters?{query}").parse().unwrap();
        Query::try_from_uri(&uri)
    }

    pub(super) fn list(query: &str) -> Result<(usize, LetterFilter), ApiError> {
        LetterQuery::list(asked(query))
    }

    #[test]
    fn every_filter_is_read() {
        let none = LetterFilter::default();
        assert_eq!(list("").unwrap(), (100, none.clone()));
        for (query, filter) in [
            ("before=7", LetterFilter { before: Some(7), ..none.clone() }),
            ("why=gave_up", LetterFilter { why: Some(LetterWhy::GaveUp), ..none.clone() }),
            ("why=unmapped", LetterFilter { why: Some(LetterWhy::Unmapped), ..none.clone() }),
            ("source=shop", LetterFilter { source: Some("shop".to_owned()), ..none.clone() }),
            ("userId=a%26b+c", LetterFilter { user_id: Some("a&b c".to_owned()), ..none.clone() }),
            ("status=413", LetterFilter { status: Some(Some(413)), ..none.clone() }),
            ("status=null", LetterFilter { status: Some(None), ..none.clone() }),
            ("since=1970-01-01T01:00:01.5%2B01:00", LetterFilter { since: Some(1_500), ..none.clone() }),
            ("until=1970-01-01T01:00:01.5+01:00", LetterFilter { until: Some(1_500), ..none.clone() }),
        ] {
            assert_eq!(list(query).unwrap().1, filter, "{query}");
            assert_eq!(LetterQuery::discard(asked(query)).unwrap(), filter, "{query}");
        }
    }

    #[test]
    fn all_letters_are_discarded_only_if_the_query_says_so() {
        for all in ["all", "all=", "all=true"] {
            assert_eq!(LetterQuery::discard(asked(all)).unwrap(), LetterFilter::default(), "{all}");
        }
        for wrong in ["", "all=1", "all=no", "all&all", "all&why=refused", "before=0", "userId=", "source="] {
            assert!(LetterQuery::discard(asked(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pace_is_one_a_second_or_more() {
        let (_, pace) = LetterQuery::replay(asked("perSecond=4294967295")).unwrap();
        assert_eq!(pace.unwrap().get(), u32::MAX);
        for wrong in
            ["perSecond=0", "perSecond=4294967296", "perSecond=0.5", "persecond=5", "before=9", "limit=9", "all"]
        {
            assert!(LetterQuery::replay(asked(wrong)).is_err(), "{wrong}");
        }
    }
}
