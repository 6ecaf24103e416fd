//! The key of an event, by which a repeat is recognised.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::customer::is_blank;
use crate::segment::{IdempotencyKey, KeyKind};
use crate::sources::mapping::Event;
use crate::sources::settings::KeyPart;

/// The key of an event: the values of all parts as a JSON array. `None`: a part is missing or blank, so that the event is not
/// taken for another one.
pub fn event_key(parts: &[KeyPart], event: &Event) -> Option<IdempotencyKey> {
    if parts.is_empty() {
        return None;
    }
    let values = parts.iter().map(|part| match part {
        KeyPart::Header(name) => of_header(event, name.as_str()),
        KeyPart::Body(pointer) => of_body(std::str::from_utf8(&event.body).ok()?, pointer),
    });
    let values = values.collect::<Option<Vec<_>>>()?;
    let value = serde_json::to_vec(&values).ok()?;
    Some(IdempotencyKey { kind: KeyKind::Event, value })
}

/// The string that a JSON object has under this name.
pub fn text_field(json: &[u8], name: &str) -> Option<String> {
    let json = std::str::from_utf8(json).ok()?.trim_ascii_start();
    serde_json::from_str(member(json, name)?.get()).ok()
}

fn of_header(event: &Event, name: &str) -> Option<Box<RawValue>> {
    let (_, value) = event.headers.iter().find(|(own, _)| own == name)?;
    let value = value.trim_ascii();
    // A value that is not UTF-8 is ISO 8859-1, as values of headers once were.
    let of_latin_1 = |_| Cow::Owned(value.iter().map(|byte| char::from(*byte)).collect());
    of_text(&std::str::from_utf8(value).map_or_else(of_latin_1, Cow::Borrowed))
}

/// A string, however it is escaped, or a number, digit by digit.
fn of_body(json: &str, pointer: &str) -> Option<Box<RawValue>> {
    let mut value = json.trim_ascii_start();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        value = member(value, &step)?.get();
    }
    match value.as_bytes().first()? {
        b'"' => of_text(&serde_json::from_str::<String>(value).ok()?),
        b'-' | b'0'..=b'9' => RawValue::from_string(value.to_owned()).ok(),
        _ => None,
    }
}

fn of_text(text: &str) -> Option<Box<RawValue>> {
    (!is_blank(text)).then(|| serde_json::value::to_raw_value(text).ok())?
}

/// What an object has under this name, or an array at this index.
fn member<'a>(json: &'a str, step: &str) -> Option<&'a RawValue> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    match json.as_bytes().first()? {
        b'{' => deserializer.deserialize_map(Step(step)),
        b'[' => deserializer.deserialize_seq(Step(step)),
        _ => return None,
    }
    .ok()?
}

/// Reads an object or an array to its end, and keeps one value. The text of the body was checked, so no name is there twice.
struct Step<'s>(&'s str);

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if name == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        // RFC 6901, section 4: digits without a leading zero.
        let is_index = self.0 == "0" || !self.0.starts_with(['0', '+']);
        let wanted = self.0.parse::<usize>().ok().filter(|_| is_index);
        let (mut found, mut index) = (None, 0);
        loop {
            if Some(index) == wanted {
                let Some(value) = seq.next_element()? else { return Ok(found) };
                found = Some(value);
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            index += 1;
        }
    }
}
