//! One call of a request, checked as lightly as Segment's edge checks it, and why Segment would drop it after its 200.
//!
//! The text of a call is neither changed nor copied here, and context and integrations are not parsed. When a name comes
//! twice the last value counts, as in most JSON parsers. `null` counts as absent, except in `traits`, where it is a value
//! that is not an object. Duplicates are not judged here: only `events.rs` knows the earlier calls.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use jiff::civil::DateTime;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// Segment's limit for one message, in bytes of uncompressed JSON: "32 KB", which is 32 x 1,024 in its SDKs.
pub(super) const MAX_CALL_BYTES: usize = 32_768;

/// Segment drops an Identify with this many traits or more.
const TOO_MANY_TRAITS: usize = 300;

/// Traits in a shorter text are not counted: 300 times `"":0`, 299 commas and two braces are this many bytes.
const SHORTEST_TOO_MANY_TRAITS: usize = TOO_MANY_TRAITS * 4 + (TOO_MANY_TRAITS - 1) + 2;

/// Segment drops a call whose `messageId` is longer than this, in characters.
const MAX_MESSAGE_ID_CHARS: usize = 99;

/// Why Segment drops a call that it answered with 200. The names are those of `dropped` in `GET /stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum DropReason {
    /// Neither `userId` nor `anonymousId`.
    NoId,
    /// One of the two is not a string.
    IdNotAString,
    /// One of the two is `""`.
    IdEmpty,
    /// One of the two is a placeholder that Segment recommends to block.
    IdPlaceholder,
    /// `traits` is present and not an object.
    TraitsNotAnObject,
    /// 300 traits or more in an Identify.
    TooManyTraits,
    /// `messageId` over 99 characters.
    MessageIdTooLong,
    /// `timestamp` is not `YYYY-MM-DDThh:mm:ss.mmmZ`.
    TimestampFormat,
    /// The call came in a batch of more than 2,500.
    TooManyCalls,
}

/// One call of a request.
#[derive(Debug)]
pub(super) struct ReceivedCall<'a> {
    /// The call's JSON as received.
    pub(super) text: &'a str,
    /// `userId`, if it is a string.
    pub(super) user_id: Option<Cow<'a, str>>,
    /// `messageId`, if it is a string and not empty.
    pub(super) message_id: Option<Cow<'a, str>>,
    /// Set if Segment would drop this call.
    pub(super) dropped: Option<DropReason>,
}

impl<'a> ReceivedCall<'a> {
    /// Reads one call. `kind` is its type if the path gives it; otherwise the call has to name its own.
    ///
    /// # Errors
    /// The message with which Segment's edge refuses the whole request.
    pub(super) fn parse(call: &'a RawValue, kind: Option<&'a str>) -> Result<Self, String> {
        let text = call.get();
        if text.len() > MAX_CALL_BYTES {
            return Err(format!("the message is over {MAX_CALL_BYTES} bytes"));
        }
        // A `RawValue` is valid JSON, so only its shape can be wrong.
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|_| "the message is not an object")?;
        let kind = kind.map(Cow::Borrowed).or_else(|| fields.kind.and_then(unquote)).unwrap_or_default();
        if kind.is_empty() {
            return Err("the message has no type".to_owned());
        }
        Ok(Self {
            text,
            user_id: fields.user_id.and_then(unquote),
            message_id: fields.message_id.and_then(unquote).filter(|id| !id.is_empty()),
            dropped: drop_reason(&fields, kind == "identify"),
        })
    }
}

/// The values that decide what Segment does with a call. `null` is `None`, except in `traits`.
#[derive(Default)]
struct Fields<'a> {
    /// `type`
    kind: Option<&'a RawValue>,
    user_id: Option<&'a RawValue>,
    anonymous_id: Option<&'a RawValue>,
    message_id: Option<&'a RawValue>,
    timestamp: Option<&'a RawValue>,
    traits: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum FieldName {
    Type,
    UserId,
    AnonymousId,
    MessageId,
    Timestamp,
    Traits,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a call")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                while let Some(name) = map.next_key()? {
                    match name {
                        FieldName::Type => fields.kind = map.next_value()?,
                        FieldName::UserId => fields.user_id = map.next_value()?,
                        FieldName::AnonymousId => fields.anonymous_id = map.next_value()?,
                        FieldName::MessageId => fields.message_id = map.next_value()?,
                        FieldName::Timestamp => fields.timestamp = map.next_value()?,
                        // Reading an `Option` would turn `null` into `None`.
                        FieldName::Traits => fields.traits = Some(map.next_value()?),
                        FieldName::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// The value of a JSON string, borrowed unless it has escapes. `None` if `raw` is not a string.
fn unquote(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inside = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        // A lone surrogate cannot be unescaped; the value is then the text as sent.
        return Some(serde_json::from_str(raw.get()).map_or(Cow::Borrowed(inside), Cow::Owned));
    }
    Some(Cow::Borrowed(inside))
}

/// Why Segment would drop the call with these `fields`; `None` if it would not.
fn drop_reason(fields: &Fields<'_>, is_identify: bool) -> Option<DropReason> {
    if fields.user_id.is_none() && fields.anonymous_id.is_none() {
        return Some(DropReason::NoId);
    }
    if let Some(reason) = [fields.user_id, fields.anonymous_id].into_iter().flatten().find_map(bad_id) {
        return Some(reason);
    }
    if let Some(traits) = fields.traits {
        if !traits.get().starts_with('{') {
            return Some(DropReason::TraitsNotAnObject);
        }
        if is_identify && has_too_many(traits) {
            return Some(DropReason::TooManyTraits);
        }
    }
    let is_long = |id: &Cow<'_, str>| id.len() > MAX_MESSAGE_ID_CHARS && id.chars().count() > MAX_MESSAGE_ID_CHARS;
    if fields.message_id.and_then(unquote).as_ref().is_some_and(is_long) {
        return Some(DropReason::MessageIdTooLong);
    }
    let is_valid = |raw| unquote(raw).is_some_and(|text| is_utc_milliseconds(&text));
    if !fields.timestamp.is_none_or(is_valid) {
        return Some(DropReason::TimestampFormat);
    }
    None
}

fn bad_id(raw: &RawValue) -> Option<DropReason> {
    let Some(id) = unquote(raw) else { return Some(DropReason::IdNotAString) };
    if id.is_empty() {
        return Some(DropReason::IdEmpty);
    }
    // Segment's list of values to block: `^[0-]*$`, `-1`, `null`, `anonymous`.
    let only_zeros_and_dashes = id.bytes().all(|byte| matches!(byte, b'0' | b'-'));
    let is_placeholder = only_zeros_and_dashes || matches!(&*id, "-1" | "null" | "anonymous");
    is_placeholder.then_some(DropReason::IdPlaceholder)
}

fn has_too_many(traits: &RawValue) -> bool {
    let text = traits.get();
    text.len() >= SHORTEST_TOO_MANY_TRAITS
        && serde_json::from_str::<HashMap<Cow<'_, str>, IgnoredAny>>(text)
            .is_ok_and(|traits| traits.len() >= TOO_MANY_TRAITS)
}

/// `YYYY-MM-DDThh:mm:ss.mmmZ`, and a day that exists. A leap second is refused.
fn is_utc_milliseconds(text: &str) -> bool {
    const SHAPE: &[u8; 24] = b"0000-00-00T00:00:00.000Z";
    let fits = |(byte, &shape): (u8, &u8)| if shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
    text.len() == SHAPE.len()
        && text.bytes().zip(SHAPE).all(fits)
        && !text.contains(":60.")
        && text.trim_end_matches('Z').parse::<DateTime>().is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::{DropReason, ReceivedCall};

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    fn dropped(fields: &str) -> Option<DropReason> {
        ReceivedCall::parse(raw(&format!(r#"{{"type":"identify",{fields}}}"#)), None).unwrap().dropped
    }

    fn traits(count: usize) -> String {
        let traits: Vec<_> = (0..count).map(|n| format!(r#""t{n}":{n}"#)).collect();
        format!(r#""userId":"u","traits":{{{}}}"#, traits.join(","))
    }

    #[test]
    fn an_item_needs_a_type_and_the_body_of_identify_does_not() {
        for item in ["{}", r#"{"type":null}"#, r#"{"type":""}"#, r#"{"type":1}"#] {
            assert_eq!(ReceivedCall::parse(raw(item), None).unwrap_err(), "the message has no type", "{item}");
        }
        assert_eq!(ReceivedCall::parse(raw("[]"), None).unwrap_err(), "the message is not an object");
        assert_eq!(ReceivedCall::parse(raw(r#"{"userId":"u"}"#), Some("identify")).unwrap().dropped, None);
    }

    #[test]
    fn escapes_in_names_and_ids_are_decoded() {
        let item = raw(r#"{"type":"track","\u0075serId":"a\u0062c","messageId":""}"#);
        let call = ReceivedCall::parse(item, None).unwrap();
        assert_eq!(call.user_id.as_deref(), Some("abc"));
        assert_eq!(call.message_id, None);
    }

    #[test]
    fn a_valid_call_is_not_dropped() {
        let fields =
            r#""userId":"u-1","anonymousId":null,"traits":{},"messageId":"m","timestamp":"2024-02-29T23:59:59.999Z""#;
        assert_eq!(dropped(fields), None);
        assert_eq!(dropped(r#""anonymousId":"a""#), None);
    }

    #[test]
    fn ids_must_be_nonempty_strings_and_no_placeholders() {
        assert_eq!(dropped(r#""userId":null"#), Some(DropReason::NoId));
        assert_eq!(dropped(r#""userId":42"#), Some(DropReason::IdNotAString));
        assert_eq!(dropped(r#""userId":"""#), Some(DropReason::IdEmpty));
        assert_eq!(dropped(r#""userId":"u","anonymousId":{}"#), Some(DropReason::IdNotAString));
        for id in ["0", "00000000-0000-0000-0000-000000000000", "-", "-1", "null", "anonymous", r"\u0030"] {
            assert_eq!(dropped(&format!(r#""userId":"{id}""#)), Some(DropReason::IdPlaceholder), "{id}");
        }
        assert_eq!(dropped(r#""userId":"Anonymous""#), None);
    }

    #[test]
    fn traits_must_be_an_object_of_fewer_than_300() {
        for value in ["null", "[]", "1", r#""{}""#] {
            assert_eq!(dropped(&format!(r#""userId":"u","traits":{value}"#)), Some(DropReason::TraitsNotAnObject));
        }
        assert_eq!(dropped(&traits(299)), None);
        assert_eq!(dropped(&traits(300)), Some(DropReason::TooManyTraits));
        let group = format!(r#"{{"type":"group",{}}}"#, traits(300));
        assert_eq!(ReceivedCall::parse(raw(&group), None).unwrap().dropped, None);
    }

    #[test]
    fn the_limit_of_a_message_id_is_in_characters() {
        let with = |id: String| dropped(&format!(r#""userId":"u","messageId":"{id}""#));
        assert_eq!(with("m".repeat(99)), None);
        assert_eq!(with("é".repeat(99)), None);
        assert_eq!(with(r"\u00e9".repeat(99)), None);
        assert_eq!(with("m".repeat(100)), Some(DropReason::MessageIdTooLong));
    }

    #[test]
    fn a_timestamp_must_be_utc_with_milliseconds() {
        let with = |value: &str| dropped(&format!(r#""userId":"u","timestamp":{value}"#));
        assert_eq!(with("null"), None);
        for wrong in [
            "1700000000000",
            r#""""#,
            r#""2024-01-02T03:04:05Z""#,
            r#""2024-01-02T03:04:05.123456Z""#,
            r#""2024-01-02T03:04:05.123+00:00""#,
            r#""2024-01-02 03:04:05.123Z""#,
            r#""2023-02-29T03:04:05.123Z""#,
            r#""2024-13-01T03:04:05.123Z""#,
            r#""2024-01-02T24:00:00.000Z""#,
            r#""2016-12-31T23:59:60.000Z""#,
        ] {
            assert_eq!(with(wrong), Some(DropReason::TimestampFormat), "{wrong}");
        }
    }
}
