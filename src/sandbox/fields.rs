//! The fields of a call that decide what Segment does with it, as raw JSON that borrows the body.
//!
//! When a name comes twice the last value counts, as in most JSON parsers.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Raw values of a call. `null` is `None`, except in `traits`.
#[derive(Default)]
pub struct Fields<'a> {
    /// `type`
    pub kind: Option<&'a RawValue>,
    pub user_id: Option<&'a RawValue>,
    pub anonymous_id: Option<&'a RawValue>,
    pub message_id: Option<&'a RawValue>,
    pub timestamp: Option<&'a RawValue>,
    pub traits: Option<&'a RawValue>,
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
pub fn unquote(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inside = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        // A lone surrogate cannot be unescaped; the value is then the text as sent.
        return Some(serde_json::from_str(raw.get()).map_or(Cow::Borrowed(inside), Cow::Owned));
    }
    Some(Cow::Borrowed(inside))
}
