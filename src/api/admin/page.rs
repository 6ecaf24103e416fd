//! A page of dead letters: which one is asked for, and its JSON, written a piece at a time.
//!
//! A page may have 32 MiB. It is never built as a whole: a letter is turned into JSON when the connection has room for it,
//! and is gone then.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec::IntoIter;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::Frame;
use tokio::sync::OwnedSemaphorePermit;

use crate::outbox::DeadLetter;

/// Letters on a page for those who do not say.
pub(in crate::api) const LIMIT: usize = 100;

/// Letters on a page at most, as the contract has it: 32 MiB of the largest calls.
pub(in crate::api) const MAX_LIMIT: usize = 1000;

/// How much is written at once: a few of the largest letters, and many of the usual ones.
const PIECE: usize = 64 * 1024;

/// Which page is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) limit: usize,
    /// Only letters with smaller ids.
    pub(super) before: Option<i64>,
}

impl Asked {
    /// From the query of a URL; else everything that is wrong with it.
    pub(super) fn of(query: &str) -> Result<Self, String> {
        let (mut limit, mut before) = (None, None);
        let mut faults = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let is_new = match &*name {
                "limit" => limit.replace(value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit))).is_none(),
                "before" => before.replace(value.parse().ok().filter(|id| *id > 0)).is_none(),
                _ => {
                    // The name is not repeated: there may be anything in it.
                    faults.push("there are no parameters but limit and before".to_owned());
                    true
                }
            };
            if !is_new {
                faults.push(format!("{name} is there twice"));
            }
        }
        if limit == Some(None) {
            faults.push(format!("limit must be a whole number from 1 to {MAX_LIMIT}"));
        }
        if before == Some(None) {
            faults.push("before must be the id of a dead letter".to_owned());
        }
        if !faults.is_empty() {
            return Err(faults.join("; "));
        }
        Ok(Self { limit: limit.flatten().unwrap_or(LIMIT), before: before.flatten() })
    }
}

/// The JSON of a page, on its way to the caller.
pub(super) struct Page {
    letters: IntoIter<DeadLetter>,
    /// What begins the page; none when it has begun.
    begin: Option<&'static str>,
    /// What ends the page; none when it has ended.
    end: Option<String>,
    /// The right to hold a page in memory.
    _place: OwnedSemaphorePermit,
}

impl Page {
    /// The first `limit` of `letters`. If there are more, the page says where they begin.
    pub(super) fn body(mut letters: Vec<DeadLetter>, limit: usize, place: OwnedSemaphorePermit) -> Body {
        let more = letters.len() > limit;
        letters.truncate(limit);
        let next = letters.last().filter(|_| more).map_or("null".to_owned(), |last| last.id.to_string());
        let end = Some(format!("],\"next\":{next}}}"));
        Body::new(Self { letters: letters.into_iter(), begin: Some("{\"deadLetters\":["), end, _place: place })
    }

    /// The next piece; none after the last.
    fn piece(&mut self) -> Option<Vec<u8>> {
        self.end.as_ref()?;
        let mut piece = Vec::new();
        while piece.len() < PIECE {
            let Some(letter) = self.letters.next() else {
                piece.extend_from_slice(self.begin.take().unwrap_or_default().as_bytes());
                piece.extend(self.end.take().unwrap_or_default().into_bytes());
                break;
            };
            piece.extend_from_slice(self.begin.take().unwrap_or(",").as_bytes());
            // Writing plain structs into memory cannot fail.
            let _ = serde_json::to_writer(&mut piece, &letter);
        }
        Some(piece)
    }
}

impl HttpBody for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.piece().map(|piece| Ok(Frame::data(piece.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.end.is_none()
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::Asked;

    #[test]
    fn a_page_is_asked_for_with_limit_and_before() {
        assert_eq!(Asked::of(""), Ok(Asked { limit: 100, before: None }));
        assert_eq!(Asked::of("limit=1000&before=7"), Ok(Asked { limit: 1000, before: Some(7) }));
    }

    #[test]
    fn what_is_wrong_is_named_all_of_it() {
        for wrong in ["limit=0", "limit=1001", "limit=-1", "limit=", "limit=ten", "limit=5&limit=6"] {
            assert!(Asked::of(wrong).unwrap_err().contains("limit"), "{wrong}");
        }
        for wrong in ["before=0", "before=", "before=x", "before=9223372036854775808", "before=1&before=1"] {
            assert!(Asked::of(wrong).unwrap_err().contains("before"), "{wrong}");
        }
        assert!(Asked::of("after=5").unwrap_err().contains("no parameters but"));
        assert_eq!(Asked::of("limit=0&before=x").unwrap_err().matches(" must be ").count(), 2);
    }
}
