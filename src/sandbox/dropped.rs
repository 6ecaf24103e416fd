//! The calls that Segment answers with 200 and drops later, and why.
//!
//! `null` counts as absent, except for `traits`, where it is a value that is no object. Only repeats are not here: they
//! are known only among the kept calls (`events.rs`).

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::call::{Fields, string};

/// Segment drops an Identify with this many traits or more.
const TOO_MANY_TRAITS: usize = 300;

/// No shorter text can hold 300 traits: `"":0` is four bytes, 299 commas, two braces. Most traits need no counting.
const SHORTEST_TOO_MANY_TRAITS: usize = TOO_MANY_TRAITS * 4 + (TOO_MANY_TRAITS - 1) + 2;

/// Segment drops a call whose `messageId` is longer than this, in characters.
const MAX_MESSAGE_ID_CHARS: usize = 99;

/// Why Segment drops a call that it answered with 200. The names are those of `dropped` in `GET /stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Dropped {
    /// Neither `userId` nor `anonymousId`.
    NoId,
    /// One of the two is not a string.
    IdNotAString,
    /// One of the two is `""`.
    IdEmpty,
    /// One of the two is a placeholder that Segment recommends blocking.
    IdPlaceholder,
    /// `traits` is there and is not an object.
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

/// Why Segment would drop the call with these `fields`; none if it would not.
pub fn why(fields: &Fields<'_>, is_identify: bool) -> Option<Dropped> {
    if fields.user_id.is_none() && fields.anonymous_id.is_none() {
        return Some(Dropped::NoId);
    }
    if let Some(why) = [fields.user_id, fields.anonymous_id].into_iter().flatten().find_map(bad_id) {
        return Some(why);
    }
    if let Some(traits) = fields.traits {
        if !traits.get().starts_with('{') {
            return Some(Dropped::TraitsNotAnObject);
        }
        if is_identify && has_too_many(traits) {
            return Some(Dropped::TooManyTraits);
        }
    }
    let is_long = |id: &Cow<'_, str>| id.len() > MAX_MESSAGE_ID_CHARS && id.chars().count() > MAX_MESSAGE_ID_CHARS;
    if fields.message_id.and_then(string).as_ref().is_some_and(is_long) {
        return Some(Dropped::MessageIdTooLong);
    }
    let is_right = |raw| string(raw).is_some_and(|text| is_utc_milliseconds(text.as_bytes()));
    if !fields.timestamp.is_none_or(is_right) {
        return Some(Dropped::TimestampFormat);
    }
    None
}

fn bad_id(raw: &RawValue) -> Option<Dropped> {
    let Some(id) = string(raw) else { return Some(Dropped::IdNotAString) };
    if id.is_empty() {
        return Some(Dropped::IdEmpty);
    }
    // Segment's own list of values to block: `^[0-]*$`, `-1`, `null`, `anonymous`.
    let only_zeros_and_dashes = id.bytes().all(|byte| matches!(byte, b'0' | b'-'));
    let is_placeholder = only_zeros_and_dashes || matches!(&*id, "-1" | "null" | "anonymous");
    is_placeholder.then_some(Dropped::IdPlaceholder)
}

fn has_too_many(traits: &RawValue) -> bool {
    struct Count(usize);
    impl<'de> Deserialize<'de> for Count {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Counter;
            impl<'de> Visitor<'de> for Counter {
                type Value = Count;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("traits")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
                    let mut count = 0;
                    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                        count += 1;
                    }
                    Ok(Count(count))
                }
            }
            deserializer.deserialize_map(Counter)
        }
    }
    let text = traits.get();
    text.len() >= SHORTEST_TOO_MANY_TRAITS
        && serde_json::from_str::<Count>(text).is_ok_and(|count| count.0 >= TOO_MANY_TRAITS)
}

/// `YYYY-MM-DDThh:mm:ss.mmmZ`, and a day that exists.
fn is_utc_milliseconds(text: &[u8]) -> bool {
    const SHAPE: &[u8; 24] = b"0000-00-00T00:00:00.000Z";
    let fits = |(&byte, &shape): (&u8, &u8)| if shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
    if text.len() != SHAPE.len() || !text.iter().zip(SHAPE).all(fits) {
        return false;
    }
    let number = |from: usize, to: usize| {
        text.get(from..to).unwrap_or_default().iter().fold(0, |n, digit| n * 10 + u32::from(digit - b'0'))
    };
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day) && number(11, 13) < 24 && number(14, 16) < 60 && number(17, 19) < 60
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::Dropped;
    use crate::sandbox::call::Call;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    fn dropped(fields: &str) -> Option<Dropped> {
        Call::in_batch(raw(&format!(r#"{{"type":"identify",{fields}}}"#))).unwrap().dropped
    }

    fn traits(count: usize) -> String {
        let traits: Vec<_> = (0..count).map(|n| format!(r#""t{n}":{n}"#)).collect();
        format!(r#""userId":"u","traits":{{{}}}"#, traits.join(","))
    }

    #[test]
    fn a_good_call_is_not_dropped() {
        let fields =
            r#""userId":"u-1","anonymousId":null,"traits":{},"messageId":"m","timestamp":"2024-02-29T23:59:59.999Z""#;
        assert_eq!(dropped(fields), None);
        assert_eq!(dropped(r#""anonymousId":"a""#), None);
    }

    #[test]
    fn a_call_needs_ids_that_are_ids() {
        assert_eq!(dropped(r#""userId":null"#), Some(Dropped::NoId));
        assert_eq!(dropped(r#""userId":42"#), Some(Dropped::IdNotAString));
        assert_eq!(dropped(r#""userId":"""#), Some(Dropped::IdEmpty));
        assert_eq!(dropped(r#""userId":"u","anonymousId":{}"#), Some(Dropped::IdNotAString));
        for id in ["0", "00000000-0000-0000-0000-000000000000", "-", "-1", "null", "anonymous", r"\u0030"] {
            assert_eq!(dropped(&format!(r#""userId":"{id}""#)), Some(Dropped::IdPlaceholder), "{id}");
        }
        assert_eq!(dropped(r#""userId":"Anonymous""#), None);
    }

    #[test]
    fn traits_are_an_object_of_fewer_than_300() {
        for value in ["null", "[]", "1", r#""{}""#] {
            assert_eq!(dropped(&format!(r#""userId":"u","traits":{value}"#)), Some(Dropped::TraitsNotAnObject));
        }
        assert_eq!(dropped(&traits(299)), None);
        assert_eq!(dropped(&traits(300)), Some(Dropped::TooManyTraits));
        let group = format!(r#"{{"type":"group",{}}}"#, traits(300));
        assert_eq!(Call::in_batch(raw(&group)).unwrap().dropped, None);
    }

    #[test]
    fn a_message_id_is_measured_in_characters() {
        let with = |id: String| dropped(&format!(r#""userId":"u","messageId":"{id}""#));
        assert_eq!(with("m".repeat(99)), None);
        assert_eq!(with("é".repeat(99)), None);
        assert_eq!(with(r"\u00e9".repeat(99)), None);
        assert_eq!(with("m".repeat(100)), Some(Dropped::MessageIdTooLong));
    }

    #[test]
    fn only_utc_milliseconds_are_a_timestamp() {
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
        ] {
            assert_eq!(with(wrong), Some(Dropped::TimestampFormat), "{wrong}");
        }
    }
}
