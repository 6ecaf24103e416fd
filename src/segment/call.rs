//! A call: one Identify as the bytes that Segment gets. It is serialised once and never parsed or rebuilt.
//!
//! The keys have the order in which Segment's SDK for Node writes them (`timestamp, integrations, type, userId, traits,
//! context, anonymousId, messageId`). `traits`, `context` and `integrations` are copied verbatim from the caller's JSON, without
//! the white space between tokens.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use super::error::{ErrorCode, SegmentError};
use crate::customer::{JsonObject, SegmentIdentifyPayload};
use crate::telemetry::TraceContext;

/// Segment's limit for one call, in bytes of uncompressed JSON.
pub const MAX_CALL_BYTES: usize = 32_768;

/// Upper estimate of the bytes around traits and context, so that one allocation is enough.
const ENVELOPE_BYTES: usize = 384;

/// The sender's name and version, in `context.library` as Segment's SDKs write it.
const LIBRARY: &str = concat!(r#""library":{"name":"segment-relay","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);

/// One Identify call as it is sent.
#[derive(Clone)]
pub struct Call {
    user_id: Arc<str>,
    source: Option<Arc<str>>,
    trace: Option<Arc<TraceContext>>,
    json: Bytes,
}

impl Call {
    /// Serialises a payload. `received_at` is the timestamp, unless the caller gave one.
    ///
    /// # Errors
    /// [`ErrorCode::MessageTooLarge`] over [`MAX_CALL_BYTES`].
    pub fn new(
        payload: &SegmentIdentifyPayload<'_>,
        message_id: &str,
        received_at: Timestamp,
    ) -> Result<Self, SegmentError> {
        let json = serialize(payload, message_id, received_at);
        if json.len() > MAX_CALL_BYTES {
            return Err(SegmentError::new(
                ErrorCode::MessageTooLarge,
                format!(
                    "the call has {} bytes as sent, and Segment takes at most {MAX_CALL_BYTES}; white space between \
                     tokens is left out, and an escape counts as it is written: \\u00e9 has 6 bytes",
                    json.len()
                ),
            ));
        }
        Ok(Self { user_id: Arc::from(&*payload.user_id), source: None, trace: None, json: json.into() })
    }

    /// A call that is serialised already, such as one from the outbox.
    pub fn from_wire(user_id: Arc<str>, source: Option<Arc<str>>, json: Bytes) -> Self {
        Self { user_id, source, trace: None, json }
    }

    /// The same call, which came by this source.
    #[must_use]
    pub fn of_source(self, source: Option<Arc<str>>) -> Self {
        Self { source, ..self }
    }

    /// The same call, which came in this trace.
    #[must_use]
    pub fn in_trace(self, trace: Option<Arc<TraceContext>>) -> Self {
        Self { trace, ..self }
    }

    /// Where the spans of the call belong. `None`: it came in no trace.
    pub fn trace(&self) -> Option<&TraceContext> {
        self.trace.as_deref()
    }

    /// The name of the source by which the call came. `None`: `POST /customers`. It says which write key the call is sent with.
    pub fn source(&self) -> Option<&Arc<str>> {
        self.source.as_ref()
    }

    /// The user of the call. Calls of one user are sent in order.
    pub fn user_id(&self) -> &Arc<str> {
        &self.user_id
    }

    /// The bytes that Segment gets.
    pub fn json(&self) -> &Bytes {
        &self.json
    }
}

impl fmt::Debug for Call {
    /// Shows the size alone, because the content is personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({} bytes)", self.json.len())
    }
}

fn serialize(payload: &SegmentIdentifyPayload<'_>, message_id: &str, received_at: Timestamp) -> Vec<u8> {
    let of_objects =
        [&payload.context, &payload.integrations].into_iter().flatten().map(JsonObject::compact_len).sum::<usize>();
    let mut out =
        Vec::with_capacity(ENVELOPE_BYTES + payload.traits.compact_len() + of_objects + payload.user_id.len());
    out.extend_from_slice(br#"{"timestamp":""#);
    out.extend_from_slice(rfc3339_milliseconds(payload.timestamp.unwrap_or(received_at)).as_bytes());
    out.extend_from_slice(br#"","integrations":"#);
    match &payload.integrations {
        Some(integrations) => integrations.append_compact(&mut out),
        None => out.extend_from_slice(b"{}"),
    }
    out.extend_from_slice(br#","type":"identify","userId":"#);
    write_json_string(&mut out, &payload.user_id);
    out.extend_from_slice(br#","traits":"#);
    payload.traits.append_compact(&mut out);
    out.extend_from_slice(br#","context":"#);
    push_context(&mut out, payload.context.as_ref());
    if let Some(anonymous_id) = &payload.anonymous_id {
        out.extend_from_slice(br#","anonymousId":"#);
        write_json_string(&mut out, anonymous_id);
    }
    out.extend_from_slice(br#","messageId":"#);
    write_json_string(&mut out, message_id);
    out.push(b'}');
    out
}

/// Appends the caller's context, with the relay's library in front unless the caller gave one.
fn push_context(out: &mut Vec<u8>, context: Option<&JsonObject<'_>>) {
    if let Some(context) = context.filter(|context| context.has_library()) {
        context.append_compact(out);
        return;
    }
    out.push(b'{');
    out.extend_from_slice(LIBRARY.as_bytes());
    match context.filter(|context| !context.is_empty()) {
        Some(context) => {
            out.push(b',');
            context.append_compact_members(out);
        }
        None => out.push(b'}'),
    }
}

/// UTC with exactly three digits of milliseconds and `Z`. Segment was seen not to process microseconds.
pub(crate) fn rfc3339_milliseconds(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// Appends a string as JSON.
pub(crate) fn write_json_string(out: &mut Vec<u8>, text: &str) {
    // Writing a str into memory cannot fail.
    let _ = text.serialize(&mut serde_json::Serializer::new(out));
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::{Call, MAX_CALL_BYTES};
    use crate::customer::SegmentIdentifyPayload;
    use crate::segment::ErrorCode;
    use jiff::Timestamp;
    use serde_json::Value;

    fn call(body: &str) -> String {
        let payload = SegmentIdentifyPayload::parse(body.as_bytes()).unwrap();
        let call = Call::new(&payload, "m-1", Timestamp::from_millisecond(1_700_000_000_007).unwrap()).unwrap();
        String::from_utf8(call.json().to_vec()).unwrap()
    }

    #[test]
    fn a_call_has_the_fields_and_the_order_of_segments_sdk() {
        assert_eq!(
            call(r#"{"userId":"c-1","traits":{"plan":"pro"}}"#),
            format!(
                concat!(
                    r#"{{"timestamp":"2023-11-14T22:13:20.007Z","integrations":{{}},"type":"identify","userId":"c-1","#,
                    r#""traits":{{"plan":"pro"}},"context":{{"library":{{"name":"segment-relay","version":"{}"}}}},"#,
                    r#""messageId":"m-1"}}"#
                ),
                env!("CARGO_PKG_VERSION")
            )
        );
    }

    #[test]
    fn traits_are_copied_byte_for_byte() {
        let traits = r#"{"n":1234567890123456789,"z":null,"a":"","p":1.10,"é":"\u00e9\n ","e":1E+5}"#;
        let spaced = traits.replace(',', " ,\t");
        for given in [traits, &spaced] {
            assert!(call(&format!(r#"{{"userId":"c-1","traits":{given}}}"#)).contains(traits));
        }
    }

    #[test]
    fn a_context_keeps_its_own_library_or_gets_ours() {
        let library = |context: &str| -> Value {
            let sent = call(&format!(r#"{{"userId":"c-1","traits":{{}},"context":{context}}}"#));
            serde_json::from_str::<Value>(&sent).unwrap()["context"].take()
        };
        assert_eq!(library(r#"{"library":{"name":"own"},"ip":"1.2.3.4"}"#)["library"]["name"], "own");
        assert_eq!(library(r#"{ "ip":"1.2.3.4" }"#)["library"]["name"], "segment-relay");
        assert_eq!(library(r#"{ "ip":"1.2.3.4" }"#)["ip"], "1.2.3.4");
        assert_eq!(library("{ }")["library"]["name"], "segment-relay");
    }

    #[test]
    fn white_space_between_tokens_is_not_sent() {
        let body = "{ \"userId\" : \"c-1\",\n\t\"traits\" : { \"a b\" : [ 1 , \"x \\\" : , \\\\\" , { } ],\r\n \"c\" : \" \\n{ }\" },
            \"context\" : { \"ip\" : \"::1\" }, \"integrations\" : { \"All\" : true } }";
        let sent = call(body);
        assert!(sent.contains(r#","traits":{"a b":[1,"x \" : , \\",{}],"c":" \n{ }"},"#), "{sent}");
        assert!(sent.contains(r#"version":"0.1.0"},"ip":"::1"},"#), "{sent}");
        assert!(sent.contains(r#""integrations":{"All":true},"#), "{sent}");
        let own = call(r#"{"userId":"c-1","traits":{},"context":{ "library" : { "name" : "own" } , "x" : [ ] }}"#);
        assert!(own.contains(r#""context":{"library":{"name":"own"},"x":[]},"#), "{own}");
    }

    #[test]
    fn a_call_that_is_too_large_says_which_limit_it_exceeds_and_that_escapes_count() {
        let body = format!(r#"{{"userId":"c-1","traits":{{"a":"{}"}}}}"#, r"\u00e9".repeat(6_000));
        let payload = SegmentIdentifyPayload::parse(body.as_bytes()).unwrap();
        let error = Call::new(&payload, "m-1", Timestamp::UNIX_EPOCH).unwrap_err();
        for part in ["the call has 36", "as sent", "32768", r"\u00e9 has 6"] {
            assert!(error.message.contains(part), "{error} does not say {part}");
        }
    }

    #[test]
    fn a_user_id_is_escaped_as_json() {
        let sent = call(r#"{"userId":"a\"\\\u0001é","traits":{}}"#);
        assert_eq!(serde_json::from_str::<Value>(&sent).unwrap()["userId"], "a\"\\\u{1}é");
    }

    #[test]
    fn a_timestamp_with_an_offset_is_sent_as_utc_in_milliseconds() {
        let sent = call(r#"{"userId":"c-1","traits":{},"timestamp":"2024-02-29T23:59:59.123999+02:00"}"#);
        assert!(sent.starts_with(r#"{"timestamp":"2024-02-29T21:59:59.123Z""#), "{sent}");
    }

    #[test]
    fn a_call_over_the_limit_is_too_large() {
        let body = |length: usize| format!(r#"{{"userId":"c-1","traits":{{"a":"{}"}}}}"#, "x".repeat(length));
        let size = call(&body(0)).len();
        assert_eq!(call(&body(MAX_CALL_BYTES - size)).len(), MAX_CALL_BYTES);
        let body = body(MAX_CALL_BYTES - size + 1);
        let payload = SegmentIdentifyPayload::parse(body.as_bytes()).unwrap();
        assert_eq!(Call::new(&payload, "m-1", Timestamp::UNIX_EPOCH).unwrap_err().code, ErrorCode::MessageTooLarge);
    }
}
