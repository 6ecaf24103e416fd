//! Forgetting a person: the trait [`Forgetting`], and which texts belong to the person.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use percent_encoding::percent_decode;
use serde::Serialize;

use super::store::{CallId, OutboxError};

/// Deletes everything that the relay holds of a person.
#[async_trait]
pub trait Forgetting: Send + Sync {
    /// Returns when nothing is left of what was stored before it began. The work goes on if the caller leaves.
    ///
    /// # Errors
    /// If the store cannot be read or written. What was deleted by then stays deleted, and another attempt deletes the rest.
    async fn forget(&self, person: Person) -> Result<Forgotten, OutboxError>;
}

/// The part of the store.
///
/// # Errors
/// Every method fails if the store cannot be read or written.
#[async_trait]
pub trait PersonStore: Send + Sync {
    /// Deletes the person's waiting calls and dead letters, and their keys. A call that is out is deleted when it comes back
    /// without being accepted.
    async fn delete_person(&self, person: Arc<Person>) -> Result<DeletedRows, OutboxError>;

    /// Clears every byte of the store's files that belongs to no call, key or dead letter. It waits for a backup that is being made.
    async fn scrub(&self) -> Result<(), OutboxError>;

    /// What became of calls that were out.
    async fn still_out(&self, calls: Vec<CallId>) -> Result<StillOut, OutboxError>;
}

/// Requests to forget a person, of any relay that shares the outbox, for the one that delivers.
#[async_trait]
pub trait ForgetRequests: Send + Sync {
    /// Waits for the next one while this relay delivers, and returns its number.
    ///
    /// # Errors
    /// [`OutboxError::Closed`]: the store is closed.
    async fn next(&self) -> Result<(i64, Person), OutboxError>;

    /// Answers the one with this number. After an error it comes again.
    async fn answer(&self, id: i64, result: Result<Forgotten, OutboxError>);
}

/// Whose calls and events are meant.
pub struct Person {
    pub user_id: String,
    /// Other texts that mark an event as the person's.
    pub texts: Vec<String>,
}

/// How much was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forgotten {
    /// Calls that waited, also those that were in a request and were not accepted.
    pub waiting: u64,
    pub dead_letters: u64,
}

/// What the store deleted.
#[derive(Debug, Default)]
pub struct DeletedRows {
    pub forgotten: Forgotten,
    /// Calls that are out.
    pub out: Vec<CallId>,
}

/// What became of calls that were out.
#[derive(Debug, Default)]
pub struct StillOut {
    pub out: Vec<CallId>,
    /// How many came back and were deleted. Each is counted once.
    pub deleted: u64,
}

impl Person {
    /// Whether the text holds the userId or one of the texts as a whole word: as it is, in JSON's escapes, or percent-encoded.
    pub fn is_in(&self, text: &[u8]) -> bool {
        let holds = |text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            std::iter::once(&self.user_id).chain(&self.texts).any(|word| has_word(&text, word))
        };
        holds(text)
            || text.contains(&b'\\') && holds(&without_json_escapes(text))
            || (text.contains(&b'%') || text.contains(&b'+')) && holds(&percent_decoded(text))
    }
}

/// Whether the word is in the text, with no letter or digit directly before or behind it.
fn has_word(text: &str, word: &str) -> bool {
    let mut from = 0;
    while let Some(rest) = text.get(from..)
        && let Some(at) = rest.find(word)
    {
        let (start, end) = (from + at, from + at + word.len());
        let before = text.get(..start).and_then(|before| before.chars().next_back());
        let behind = text.get(end..).and_then(|behind| behind.chars().next());
        let is_part = |neighbour: Option<char>| neighbour.is_some_and(char::is_alphanumeric);
        if !is_part(before) && !is_part(behind) {
            return true;
        }
        // The word may overlap itself.
        from = start + text.get(start..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
    }
    false
}

/// The text with the characters that JSON's escapes stand for.
fn without_json_escapes(text: &[u8]) -> Vec<u8> {
    let (mut decoded, mut units, mut rest) = (Vec::with_capacity(text.len()), Vec::new(), text);
    let flush = |units: &mut Vec<u16>, decoded: &mut Vec<u8>| {
        decoded.extend_from_slice(String::from_utf16_lossy(units).as_bytes());
        units.clear();
    };
    while let Some((first, behind)) = rest.split_first() {
        if let [b'\\', b'u', digits @ ..] = rest
            && let Some(unit) = digits.get(..4).and_then(hex)
        {
            // A surrogate waits for the other one of its pair.
            units.push(unit);
            rest = &rest[6..];
            continue;
        }
        flush(&mut units, &mut decoded);
        (rest, _) = match rest {
            [b'\\', escape, behind @ ..] => (behind, decoded.push(character(*escape))),
            _ => (behind, decoded.push(*first)),
        };
    }
    flush(&mut units, &mut decoded);
    decoded
}

/// What the character behind a backslash stands for.
fn character(escape: u8) -> u8 {
    match escape {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'b' => 8,
        b'f' => 12,
        other => other,
    }
}

/// The text of a form or a URL, decoded.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_decode(&spaced).collect()
}

fn hex(digits: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    u16::from_str_radix(text, 16).ok()
}

impl fmt::Debug for Person {
    /// Leaves out the person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Person").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Person;

    fn is_in(user_id: &str, text: &str) -> bool {
        Person { user_id: user_id.to_owned(), texts: vec!["ada@example.com".to_owned()] }.is_in(text.as_bytes())
    }

    #[test]
    fn a_person_is_found_as_a_whole_word() {
        for text in [r#"{"id":1}"#, "1", "id=1&b", "11 1", "x-1", r#"{"e":"ada@example.com"}"#] {
            assert!(is_in("1", text), "{text}");
        }
        for text in ["", r#"{"id":12}"#, "21", "a1", "1é", "nada@example.com", "ada@example.comb"] {
            assert!(!is_in("1", text), "{text}");
        }
        assert!(is_in("aa-aa", "xaa-aa-aa"), "the word overlaps itself");
    }

    #[test]
    fn a_person_is_found_in_escapes() {
        for text in
            [r#""ada\u0040example.com""#, r#""\nada@example.com""#, "e=ada%40example.com", "e=%61da%40example%2Ecom"]
        {
            assert!(is_in("u", text), "{text}");
        }
        assert!(is_in("Zoë", r#""Zo\u00eb""#) && is_in("a/b", r#""a\/b""#) && is_in("a b", "n=a+b"));
        assert!(is_in("😀", r#""\ud83d\ude00""#), "a pair of surrogates");
        for text in ["\\", "\\u", "\\u12", "%", "%4", "%zz", "\\ud83d", "%+1"] {
            assert!(!is_in("w", text), "{text}");
        }
    }
}
