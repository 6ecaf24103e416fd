//! Splits a body into calls, or refuses it as Segment does.
//!
//! One pass over the body finds the calls, and one pass over each call reads its fields. Nothing is copied: all parts borrow
//! the body. A refusal says what is wrong; of the messages only `malformed JSON` is Segment's wording.
//!
//! Write keys and headers are not checked: Segment's edge does not check them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::call::{DropReason, ReceivedCall};

/// Segment answers a batch with more calls than this with 200, and drops it.
const MAX_CALLS: usize = 2_500;

const MALFORMED: &str = "malformed JSON";
const NOT_A_BATCH: &str = "the body must be an object whose batch is an array";

/// Members of a body, in order.
pub(super) type Envelope<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

/// The parts of a body that Segment answers with 200.
#[derive(Debug)]
pub(super) struct ParsedBody<'a> {
    /// Size of the uncompressed body.
    pub(super) bytes: usize,
    /// The members around the calls: all but `batch`, or `writeKey` and `sentAt` of a single call.
    pub(super) envelope: Envelope<'a>,
    /// The calls in order, including those that Segment would drop.
    pub(super) calls: Vec<ReceivedCall<'a>>,
}

/// Parses the body of `POST /v1/batch`.
///
/// # Errors
/// The message of the refusal.
pub(super) fn parse_batch(body: &[u8]) -> Result<ParsedBody<'_>, String> {
    let batch: BatchBody<'_> =
        serde_json::from_slice(body).map_err(|error| if error.is_data() { NOT_A_BATCH } else { MALFORMED })?;
    let mut calls = Vec::with_capacity(batch.items.len());
    for (index, item) in batch.items.into_iter().enumerate() {
        calls.push(ReceivedCall::parse(item, None).map_err(|message| format!("batch[{index}]: {message}"))?);
    }
    if calls.len() > MAX_CALLS {
        calls.iter_mut().for_each(|call| call.dropped = Some(DropReason::TooManyCalls));
    }
    Ok(ParsedBody { bytes: body.len(), envelope: batch.envelope, calls })
}

/// Parses the body of `POST /v1/identify`.
///
/// # Errors
/// The message of the refusal.
pub(super) fn parse_identify(body: &[u8]) -> Result<ParsedBody<'_>, String> {
    let raw: &RawValue = serde_json::from_slice(body).map_err(|_| MALFORMED)?;
    let call = ReceivedCall::parse(raw, Some("identify"))?;
    let members: BTreeMap<Cow<'_, str>, Option<&RawValue>> = serde_json::from_str(raw.get()).unwrap_or_default();
    let envelope = ["writeKey", "sentAt"].into_iter().filter_map(|name| Some((name.into(), (*members.get(name)?)?)));
    Ok(ParsedBody { bytes: body.len(), envelope: envelope.collect(), calls: vec![call] })
}

/// The body of `POST /v1/batch`.
struct BatchBody<'a> {
    envelope: Envelope<'a>,
    items: Vec<&'a RawValue>,
}

/// A name, borrowed unless it has escapes. serde always copies a bare `Cow`.
#[derive(Deserialize)]
struct MemberName<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for BatchBody<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BatchVisitor;
        impl<'de> Visitor<'de> for BatchVisitor {
            type Value = BatchBody<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a batch")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut items = None;
                let mut envelope = Vec::new();
                while let Some(MemberName(name)) = map.next_key()? {
                    if name == "batch" {
                        items = Some(map.next_value()?);
                    } else {
                        envelope.push((name, map.next_value()?));
                    }
                }
                Ok(BatchBody { envelope, items: items.ok_or_else(|| A::Error::missing_field("batch"))? })
            }
        }
        deserializer.deserialize_map(BatchVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_CALLS, ParsedBody, parse_batch, parse_identify};
    use crate::sandbox::call::{DropReason, MAX_CALL_BYTES};

    fn batch(body: &str) -> Result<ParsedBody<'_>, String> {
        parse_batch(body.as_bytes())
    }

    fn refused(body: &str) -> String {
        batch(body).unwrap_err()
    }

    fn call_with_size(bytes: usize) -> String {
        let bare = r#"{"type":"identify","userId":"u","x":""}"#;
        bare.replace(r#""x":"""#, &format!(r#""x":"{}""#, "x".repeat(bytes - bare.len())))
    }

    #[test]
    fn calls_and_envelope_are_verbatim() {
        let first = r#"{"type":"identify", "userId":"a","traits":{"n":12345678901234567890.10}}"#;
        let body =
            format!(r#" {{"sentAt":"now","batch":[ {first} , {{"type":"track","userId":"b"}}],"writeKey":"k"}} "#);
        let received = batch(&body).unwrap();
        assert_eq!(received.calls.len(), 2);
        assert_eq!(received.calls[0].text, first);
        let envelope: Vec<_> = received.envelope.iter().map(|(name, value)| (&**name, value.get())).collect();
        assert_eq!(envelope, [("sentAt", r#""now""#), ("writeKey", r#""k""#)]);
    }

    #[test]
    fn invalid_json_is_malformed() {
        for body in ["", "{", r#"{"batch":[{]}"#, r#"{"batch":[]} x"#, "{\"batch\":[\"\n\"]}"] {
            assert_eq!(refused(body), "malformed JSON", "{body}");
        }
        assert_eq!(parse_batch(b"{\"batch\":[],\"a\":\"\xff\"}").unwrap_err(), "malformed JSON");
    }

    #[test]
    fn json_of_another_shape_is_refused_with_its_reason() {
        for body in ["[]", "{}", r#"{"batch":{}}"#, r#"{"batch":null}"#] {
            assert_eq!(refused(body), "the body must be an object whose batch is an array", "{body}");
        }
        assert_eq!(refused(r#"{"batch":[{"type":"x"},{"userId":"a"}]}"#), "batch[1]: the message has no type");
        assert_eq!(refused(r#"{"batch":[1]}"#), "batch[0]: the message is not an object");
        assert!(batch(r#"{"batch":[]}"#).unwrap().calls.is_empty());
    }

    #[test]
    fn a_message_of_exactly_the_limit_is_taken_and_one_byte_more_is_refused() {
        assert!(batch(&format!(r#"{{"batch":[{}]}}"#, call_with_size(MAX_CALL_BYTES))).is_ok());
        let over = call_with_size(MAX_CALL_BYTES + 1);
        assert_eq!(refused(&format!(r#"{{"batch":[{over}]}}"#)), "batch[0]: the message is over 32768 bytes");
        assert!(parse_identify(call_with_size(MAX_CALL_BYTES).as_bytes()).is_ok());
        assert!(parse_identify(over.as_bytes()).is_err());
    }

    #[test]
    fn all_calls_of_a_batch_over_2500_are_dropped() {
        let batch_with =
            |count| format!(r#"{{"batch":[{}]}}"#, vec![r#"{"type":"track","userId":"u"}"#; count].join(","));
        assert!(batch(&batch_with(MAX_CALLS)).unwrap().calls.iter().all(|call| call.dropped.is_none()));
        let body = batch_with(MAX_CALLS + 1);
        let received = batch(&body).unwrap();
        assert!(received.calls.iter().all(|call| call.dropped == Some(DropReason::TooManyCalls)));
    }

    #[test]
    fn a_single_call_keeps_its_write_key_in_its_text() {
        let body = r#"{"userId":"u","writeKey":"k"}"#;
        let received = parse_identify(body.as_bytes()).unwrap();
        assert_eq!(received.calls[0].text, body);
        assert_eq!(received.envelope.len(), 1);
    }
}
