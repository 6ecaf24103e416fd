//! The reference for the scanner: the grammar as serde_json has it, with the rules of our own checked on top.
//!
//! serde_json differs on purpose in four ways. It ignores lone surrogates and invalid UTF-8 in strings that it skips. It
//! accepts a repeated name. It stops one level earlier, at 128, where it recurses, and nowhere where it does not. It accepts
//! numbers beyond a double only as raw text. So the reference reads a text one level at a time, as [`RawValue`]s.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The names and raw values of an object.
struct RawMembers(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for RawMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = RawMembers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawMembers, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(RawMembers(members))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// The names and raw values of an object, in order. `None` if the text is not an object, or a name is not valid text.
pub(crate) fn members(text: &str) -> Option<Vec<(String, Box<RawValue>)>> {
    serde_json::from_str(text).ok().map(|RawMembers(members)| members)
}

/// The value of a JSON string.
pub(crate) fn string(text: &str) -> Option<String> {
    serde_json::from_str(text).ok()
}

/// Whether a text is JSON that the relay accepts.
pub(crate) fn is_accepted(text: &[u8]) -> bool {
    std::str::from_utf8(text)
        .is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok() && keeps_stricter_rules(text, 0))
}

/// Whether a text that serde_json accepts keeps our three rules more: depth, names, surrogates.
fn keeps_stricter_rules(text: &str, level: usize) -> bool {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    match text.as_bytes().first() {
        Some(b'"') => string(text).is_some(),
        Some(b'[') => {
            let items: Vec<Box<RawValue>> = serde_json::from_str(text).unwrap();
            level < 128 && items.iter().all(|item| keeps_stricter_rules(item.get(), level + 1))
        }
        Some(b'{') => members(text).is_some_and(|members| {
            let names: BTreeSet<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
            let values_keep_them = || members.iter().all(|(_, value)| keeps_stricter_rules(value.get(), level + 1));
            level < 128 && names.len() == members.len() && values_keep_them()
        }),
        _ => true,
    }
}
