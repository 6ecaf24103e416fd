//! Splits a body into calls, or refuses it as Segment does.
//!
//! One pass over the body finds the calls, and one pass over each call reads its fields. Nothing is copied: all parts borrow
//! the body. A refusal says what is wrong; of the messages only `malformed JSON` is Segment's wording.
//!
//! Write keys and headers are not checked: Segment's edge does not check them.

use std::borrow::Cow;
use std::fmt;

use axum::http::StatusCode;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::body::{MAX_BODY_BYTES, ReadBodyError};
use super::call::{CallError, ReceivedCall};
use super::drop_reason::DropReason;

/// Segment's limit for one message, in bytes of uncompressed JSON: "32 KB", which is 32 x 1,024 in its SDKs.
const MAX_CALL_BYTES: usize = 32_768;

/// Segment answers a batch with more calls than this with 200, and drops it.
const MAX_CALLS: usize = 2_500;

/// The endpoints that take calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v1/batch`
    Batch,
    /// `/v1/identify`
    Identify,
}

impl Endpoint {
    /// The endpoint at `path`, if this sandbox has it.
    pub fn at(path: &str) -> Option<Self> {
        match path {
            "/v1/batch" => Some(Self::Batch),
            "/v1/identify" => Some(Self::Identify),
            _ => None,
        }
    }
}

/// The parts of a body that Segment answers with 200.
#[derive(Debug)]
pub struct ParsedBody<'a> {
    /// The members around the calls, in order: all but `batch`, or `writeKey` and `sentAt` of a single call.
    pub envelope: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// The calls in order, including those that Segment would drop.
    pub calls: Vec<ReceivedCall<'a>>,
}

/// The refusal of a whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    /// `message` of the answer.
    pub message: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with 400.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    fn malformed() -> Self {
        Self::bad_request("malformed JSON")
    }
}

impl From<ReadBodyError> for Refusal {
    fn from(error: ReadBodyError) -> Self {
        match error {
            ReadBodyError::TooLarge { .. } | ReadBodyError::Endless { .. } => {
                Self::bad_request(format!("the body is over {MAX_BODY_BYTES} bytes"))
            }
            ReadBodyError::Incomplete => Self::bad_request("the body ended early"),
            ReadBodyError::NotGzip => Self::bad_request("the body is not gzip"),
            ReadBodyError::UnknownEncoding => Self::bad_request("the content encoding is not gzip"),
        }
    }
}

/// Parses a body that was posted to `endpoint`.
pub fn parse_body(endpoint: Endpoint, body: &[u8]) -> Result<ParsedBody<'_>, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::malformed())?;
    match endpoint {
        Endpoint::Batch => parse_batch(text),
        Endpoint::Identify => parse_identify(text),
    }
}

fn parse_batch(text: &str) -> Result<ParsedBody<'_>, Refusal> {
    let batch: BatchBody<'_> = serde_json::from_str(text).map_err(|error| {
        if error.is_data() {
            Refusal::bad_request("the body must be an object whose batch is an array")
        } else {
            Refusal::malformed()
        }
    })?;
    let mut calls = Vec::with_capacity(batch.items.len());
    for (index, item) in batch.items.into_iter().enumerate() {
        calls.push(check_size(item).and_then(|()| ReceivedCall::from_batch_item(item).map_err(refuse)).map_err(
            |mut refusal| {
                refusal.message = format!("batch[{index}]: {}", refusal.message).into();
                refusal
            },
        )?);
    }
    if calls.len() > MAX_CALLS {
        for call in &mut calls {
            call.dropped = Some(DropReason::TooManyCalls);
        }
    }
    Ok(ParsedBody { envelope: batch.envelope, calls })
}

fn parse_identify(text: &str) -> Result<ParsedBody<'_>, Refusal> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Envelope<'a> {
        #[serde(borrow)]
        write_key: Option<&'a RawValue>,
        sent_at: Option<&'a RawValue>,
    }
    let body: &RawValue = serde_json::from_str(text).map_err(|_| Refusal::malformed())?;
    check_size(body)?;
    let call = ReceivedCall::from_identify_body(body).map_err(refuse)?;
    // Only shown by `GET /requests`; it stays empty when a name comes twice.
    let Envelope { write_key, sent_at } = serde_json::from_str(body.get()).unwrap_or_default();
    let members = [("writeKey", write_key), ("sentAt", sent_at)];
    let envelope = members.into_iter().filter_map(|(name, value)| Some((Cow::Borrowed(name), value?))).collect();
    Ok(ParsedBody { envelope, calls: vec![call] })
}

fn check_size(item: &RawValue) -> Result<(), Refusal> {
    if item.get().len() > MAX_CALL_BYTES {
        return Err(Refusal::bad_request(format!("the message is over {MAX_CALL_BYTES} bytes")));
    }
    Ok(())
}

fn refuse(error: CallError) -> Refusal {
    Refusal::bad_request(match error {
        CallError::NotAnObject => "the message is not an object",
        CallError::NoType => "the message has no type",
    })
}

/// The body of `POST /v1/batch`.
struct BatchBody<'a> {
    envelope: Vec<(Cow<'a, str>, &'a RawValue)>,
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
    use super::{Endpoint, MAX_CALL_BYTES, MAX_CALLS, ParsedBody, Refusal, parse_body};
    use crate::sandbox::drop_reason::DropReason;

    fn batch(body: &str) -> Result<ParsedBody<'_>, Refusal> {
        parse_body(Endpoint::Batch, body.as_bytes())
    }

    fn refused(body: &str) -> String {
        batch(body).unwrap_err().message.into_owned()
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
        assert_eq!(
            parse_body(Endpoint::Batch, b"{\"batch\":[],\"a\":\"\xff\"}").unwrap_err().message,
            "malformed JSON"
        );
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
        assert!(parse_body(Endpoint::Identify, call_with_size(MAX_CALL_BYTES).as_bytes()).is_ok());
        assert!(parse_body(Endpoint::Identify, over.as_bytes()).is_err());
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
        let received = parse_body(Endpoint::Identify, body.as_bytes()).unwrap();
        assert_eq!(received.calls[0].text, body);
        assert_eq!(received.envelope.len(), 1);
    }
}
