//! One call of a request, looked at as lightly as Segment's edge does.
//!
//! The text of a call is never changed or copied here. When a name comes twice the last one counts, as in most JSON
//! parsers. It does not look at what is inside traits, context or integrations.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::dropped::{self, Dropped};

/// One call of a request.
#[derive(Debug)]
pub struct Call<'a> {
    /// The call's JSON as received.
    pub text: &'a str,
    /// `userId`, if it is a string.
    pub user_id: Option<Cow<'a, str>>,
    /// `messageId`, if it is a string and not empty.
    pub message_id: Option<Cow<'a, str>>,
    /// Set if Segment would drop this call.
    pub dropped: Option<Dropped>,
}

/// Why a call makes Segment refuse the whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCall {
    /// Not a JSON object.
    NotAnObject,
    /// `type` is missing, empty or not a string.
    NoType,
}

impl<'a> Call<'a> {
    /// Looks at one item of a batch.
    pub fn in_batch(item: &'a RawValue) -> Result<Self, BadCall> {
        let fields = Fields::of(item)?;
        let Some(kind) = fields.kind.and_then(string).filter(|kind| !kind.is_empty()) else {
            return Err(BadCall::NoType);
        };
        Ok(Self::of(item, &fields, kind == "identify"))
    }

    /// Looks at the body of `POST /v1/identify`, where the path says the type.
    pub fn identify(body: &'a RawValue) -> Result<Self, BadCall> {
        Ok(Self::of(body, &Fields::of(body)?, true))
    }

    fn of(item: &'a RawValue, fields: &Fields<'a>, is_identify: bool) -> Self {
        Self {
            text: item.get(),
            user_id: fields.user_id.and_then(string),
            message_id: fields.message_id.and_then(string).filter(|id| !id.is_empty()),
            dropped: dropped::why(fields, is_identify),
        }
    }
}

/// The fields that matter here, as their raw text.
#[derive(Default)]
pub struct Fields<'a> {
    kind: Option<&'a RawValue>,
    pub user_id: Option<&'a RawValue>,
    pub anonymous_id: Option<&'a RawValue>,
    pub message_id: Option<&'a RawValue>,
    pub timestamp: Option<&'a RawValue>,
    pub traits: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Name {
    Type,
    UserId,
    AnonymousId,
    MessageId,
    Timestamp,
    Traits,
    #[serde(other)]
    Other,
}

impl<'a> Fields<'a> {
    fn of(item: &'a RawValue) -> Result<Self, BadCall> {
        // The text is known to be JSON already: all that can be wrong is its shape.
        serde_json::from_str(item.get()).map_err(|_| BadCall::NotAnObject)
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a call")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                while let Some(name) = map.next_key()? {
                    match name {
                        Name::Type => fields.kind = map.next_value()?,
                        Name::UserId => fields.user_id = map.next_value()?,
                        Name::AnonymousId => fields.anonymous_id = map.next_value()?,
                        Name::MessageId => fields.message_id = map.next_value()?,
                        Name::Timestamp => fields.timestamp = map.next_value()?,
                        // Not an `Option` of it: that would hide a `null`.
                        Name::Traits => fields.traits = Some(map.next_value()?),
                        Name::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// The string that `raw` is, borrowed unless it has escapes.
pub fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inside = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        // A lone surrogate cannot be unescaped: such a string is known by its text as sent.
        return Some(serde_json::from_str(raw.get()).map_or(Cow::Borrowed(inside), Cow::Owned));
    }
    Some(Cow::Borrowed(inside))
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::{BadCall, Call};

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_item_needs_a_type_and_the_body_of_identify_does_not() {
        for item in ["{}", r#"{"type":null}"#, r#"{"type":""}"#, r#"{"type":1}"#] {
            assert_eq!(Call::in_batch(raw(item)).unwrap_err(), BadCall::NoType, "{item}");
        }
        assert_eq!(Call::in_batch(raw("[]")).unwrap_err(), BadCall::NotAnObject);
        assert_eq!(Call::identify(raw(r#"{"userId":"u"}"#)).unwrap().dropped, None);
    }

    #[test]
    fn escaped_names_and_ids_are_known_by_what_they_mean() {
        let call = Call::in_batch(raw(r#"{"type":"track","\u0075serId":"a\u0062c","messageId":""}"#)).unwrap();
        assert_eq!(call.user_id.as_deref(), Some("abc"));
        assert_eq!(call.message_id, None);
    }
}
