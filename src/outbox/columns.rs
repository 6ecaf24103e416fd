//! What columns hold in any kind of store: the headers of an event, and how a row is shown to operators.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use jiff::Timestamp;
use serde::Deserialize;

use super::events::KeptEvent;
use super::letters::LetterEvent;
use super::store::CallId;
use crate::segment::rfc3339_milliseconds;

/// The body of an event's key, which is a digest of the body, too.
pub(super) const ANY_BODY: [u8; 16] = [0; 16];

/// The call to which an event's key belongs. No call has this id.
pub(super) const NO_CALL: CallId = 0;

/// The fields of a call's JSON that are shown separately.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallFields {
    pub(super) message_id: String,
}

/// Formats a time in milliseconds. A time outside the calendar is shown as 1970: a dead letter must be readable
/// whatever the clock was when it was written.
pub(super) fn time_text(milliseconds: i64) -> String {
    rfc3339_milliseconds(Timestamp::from_millisecond(milliseconds).unwrap_or_default())
}

/// Bytes of an event beside what each row takes.
pub(super) fn event_bytes(event: &KeptEvent) -> u64 {
    (event.body.len() + event.reason.len() + headers_to_blob(&event.headers).len()) as u64
}

/// A line `name: value` for each header. A value with a line break cannot come by HTTP, and is left out.
pub(super) fn headers_to_blob(headers: &[(String, Vec<u8>)]) -> Vec<u8> {
    let lines = headers.iter().filter(|(_, value)| !value.contains(&b'\n'));
    lines.flat_map(|(name, value)| [name.as_bytes(), b": ", value, b"\n"].concat()).collect()
}

/// The headers in a dead letter's column.
pub(super) fn headers_from_blob(blob: &[u8]) -> Vec<(String, Vec<u8>)> {
    let header = |line: &[u8]| {
        let colon = line.windows(2).position(|two| two == b": ")?;
        Some((String::from_utf8_lossy(line.get(..colon)?).into_owned(), line.get(colon + 2..)?.to_vec()))
    };
    blob.split(|byte| *byte == b'\n').filter_map(header).collect()
}

/// An event as it is shown. A header's value that is not UTF-8 is ISO 8859-1, as values of headers once were.
pub(super) fn letter_event(body: Vec<u8>, headers: &[u8]) -> LetterEvent {
    let mut shown = BTreeMap::<String, String>::new();
    for (name, value) in headers_from_blob(headers) {
        let of_latin_1 = |_| value.iter().map(|byte| char::from(*byte)).collect();
        let value = std::str::from_utf8(&value).map_or_else(of_latin_1, str::to_owned);
        let values = shown.entry(name).and_modify(|values| values.push_str(", ")).or_default();
        values.push_str(&value);
    }
    match String::from_utf8(body) {
        Ok(text) => LetterEvent { event: Some(text), event_base64: None, headers: shown },
        Err(other) => LetterEvent { event: None, event_base64: Some(BASE64.encode(other.as_bytes())), headers: shown },
    }
}

#[cfg(test)]
mod tests {
    use super::{headers_from_blob, headers_to_blob};

    #[test]
    fn headers_are_read_as_they_were_written() {
        let header = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
        let headers = [header("x-a", b"1"), header("x-a", b": 2: \xff"), header("x-empty", b"")];
        assert_eq!(headers_from_blob(&headers_to_blob(&headers)), headers);
        assert_eq!(headers_from_blob(&headers_to_blob(&[header("x", b"a\nb: c")])), []);
        assert_eq!(headers_from_blob(b"no colon\n\n: \n"), [header("", b"")]);
    }
}
