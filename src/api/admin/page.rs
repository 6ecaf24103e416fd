//! A page of what operators list: its bounds, and the JSON of dead letters, written a piece at a time.
//!
//! A page may have 32 MiB of parked users, or 5 MiB of dead letters. Its JSON is never built as a whole: a letter is turned into
//! JSON when the connection has room for it, and is dropped then.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use crate::api::error::{ApiError, ApiErrorCode};
use crate::outbox::LetterPage;
use crate::segment::ErrorCode;

/// Letters or users on a page by default.
pub(in crate::api) const DEFAULT_LIMIT: usize = 100;

/// The most letters or users on a page: 32 MiB of users whose ids are as long as a call may be. The store bounds letters by bytes.
pub(in crate::api) const MAX_LIMIT: usize = 1000;

/// Bytes that are written at once: a few of the largest letters, and many of the usual ones.
const PIECE_BYTES: usize = 64 * 1024;

/// The query of a page: `?limit=100&before=ID`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    pub(super) limit: Option<usize>,
    pub(super) before: Option<i64>,
}

/// Which page is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PageRange {
    pub(super) limit: usize,
    /// Only those with smaller ids.
    pub(super) before: Option<i64>,
}

impl PageQuery {
    /// The page, if both numbers are within their bounds.
    pub(super) fn range(self) -> Option<PageRange> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        let is_valid = (1..=MAX_LIMIT).contains(&limit) && self.before.is_none_or(|id| id > 0);
        is_valid.then_some(PageRange { limit, before: self.before })
    }
}

/// A request without parameters: what is asked of one id has none, and a filter that did nothing would mislead.
pub(super) struct NoQuery;

impl<S: Sync> FromRequestParts<S> for NoQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let message = "there are no parameters but the id in the path";
        match parts.uri.query() {
            None | Some("") => Ok(Self),
            Some(_) => Err(ApiError::new(ApiErrorCode::Call(ErrorCode::InvalidPayload), message)),
        }
    }
}

/// The JSON of a page of dead letters. `permit` is the right to hold it in memory; it is released with the last piece.
pub(super) fn body(page: LetterPage, permit: OwnedSemaphorePermit) -> Body {
    rows("deadLetters", page.letters, page.next, permit)
}

/// The JSON of a page whose list has this name.
pub(super) fn rows<R: Serialize + Send + 'static>(
    list: &str,
    rows: Vec<R>,
    next: Option<i64>,
    permit: OwnedSemaphorePermit,
) -> Body {
    let next = next.map_or("null".to_owned(), |next| next.to_string());
    let (start, end) = (format!("{{\"{list}\":["), format!("],\"next\":{next}}}"));
    let start = (rows.into_iter().peekable(), Some(start), Some(end), permit);
    let pieces = stream::unfold(start, |(mut rows, mut start, mut end, permit)| async move {
        end.as_ref()?;
        let mut piece = start.take().unwrap_or_default().into_bytes();
        while let Some(row) = rows.next() {
            // Writing a plain struct into memory cannot fail.
            let _ = serde_json::to_writer(&mut piece, &row);
            if rows.peek().is_some() {
                piece.push(b',');
            }
            if piece.len() >= PIECE_BYTES {
                break;
            }
        }
        if rows.peek().is_none() {
            piece.extend(end.take().unwrap_or_default().into_bytes());
        }
        Some((Ok::<_, Infallible>(Bytes::from(piece)), (rows, start, end, permit)))
    });
    Body::from_stream(pieces)
}

#[cfg(test)]
mod tests {
    use super::PageRange;
    use axum::extract::Query;
    use axum::http::Uri;

    /// What the handler makes of a query.
    fn range(query: &str) -> Result<PageRange, ()> {
        let uri: Uri = format!("/?{query}").parse().unwrap();
        Query::<super::PageQuery>::try_from_uri(&uri).map_err(|_| ())?.0.range().ok_or(())
    }

    #[test]
    fn a_page_is_asked_for_with_limit_and_before() {
        assert_eq!(range("").unwrap(), PageRange { limit: 100, before: None });
        assert_eq!(range("limit=1000&before=7").unwrap(), PageRange { limit: 1000, before: Some(7) });
    }

    #[test]
    fn every_wrong_parameter_is_refused() {
        for wrong in ["limit=0", "limit=1001", "limit=-1", "limit=", "limit=ten", "limit=5&limit=6"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
        for wrong in ["before=0", "before=", "before=x", "before=9223372036854775808", "before=1&before=1"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
        assert!(range("after=5").is_err());
    }
}
