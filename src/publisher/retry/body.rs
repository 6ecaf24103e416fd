//! What the body of an answer says: whether a 2xx is Segment's word, and Segment's message. Bodies may be anything.

use serde::Deserialize;
use serde_json::Value;

/// Longest part of Segment's message that is passed on, in characters. Its longest known messages are under a hundred.
const MAX_MESSAGE_CHARS: usize = 500;

/// What the body of a 2xx says of the calls.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    /// `"success": false`.
    Refused,
    /// Neither an empty body nor a JSON object: a gateway's page, for example.
    NotSegments,
}

/// The members of a JSON object that mean something. One of them twice is an error.
#[derive(Deserialize)]
struct Members {
    success: Option<Value>,
    message: Option<Value>,
    error: Option<Value>,
}

/// `is_whole` is false if the body was not read to its end.
pub(super) fn verdict(body: &[u8], is_whole: bool) -> Verdict {
    if !is_whole {
        return Verdict::NotSegments;
    }
    match members(body) {
        Some(members) if members.success == Some(Value::Bool(false)) => Verdict::Refused,
        Some(_) => Verdict::Accepted,
        None if body.trim_ascii().is_empty() => Verdict::Accepted,
        None => Verdict::NotSegments,
    }
}

/// Segment's message: the JSON `message` or `error`, otherwise the text of the body. One line.
pub(super) fn message(body: &[u8]) -> String {
    let members = members(body);
    let text = match &members {
        // An object without a message, such as {"success":false}, tells a reader nothing.
        Some(Members { message, error, .. }) => {
            let nested = error.as_ref().and_then(|error| error.get("message"));
            let texts = [message.as_ref(), error.as_ref(), nested];
            texts.into_iter().flatten().find_map(Value::as_str).unwrap_or_default().into()
        }
        None => String::from_utf8_lossy(body),
    };
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// The beginning of a message.
pub(super) fn cut(message: &str) -> String {
    message.chars().take(MAX_MESSAGE_CHARS).collect()
}

/// The members if the body is a JSON object. A byte order mark does not count.
fn members(body: &[u8]) -> Option<Members> {
    let text = std::str::from_utf8(body).ok()?;
    let json = text.trim_start_matches('\u{feff}').trim_ascii_start();
    // serde also takes an array for a struct.
    json.starts_with('{').then(|| serde_json::from_str(json).ok())?
}
