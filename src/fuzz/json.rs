//! What serde_json says about a JSON text, as the reference for the scanner: its grammar, and our own rules asked of it.
//!
//! The two differ on purpose in four ways. serde_json passes over lone surrogates and invalid UTF-8 in strings that it skips;
//! it takes a name twice; it gives up one level earlier, at 128, where it recurses, and at none where it does not; and it
//! takes numbers beyond a double only as raw text. So texts are read piece by piece, as [`RawValue`]s.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The names and raw values of an object.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// The names and raw values of an object, in their order; none if the text is no object, or a name no text.
pub(crate) fn members(text: &str) -> Option<Vec<(String, Box<RawValue>)>> {
    serde_json::from_str(text).ok().map(|Members(members)| members)
}

/// The value of a string.
pub(crate) fn string(text: &str) -> Option<String> {
    serde_json::from_str(text).ok()
}

/// Whether a text is JSON that we take.
pub(crate) fn is_taken(text: &[u8]) -> bool {
    std::str::from_utf8(text)
        .is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok() && keeps_our_rules(text, 0))
}

/// Our own three rules, asked of a text that serde_json has taken: depth, names, surrogates.
fn keeps_our_rules(text: &str, level: usize) -> bool {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    match text.as_bytes().first() {
        Some(b'"') => string(text).is_some(),
        Some(b'[') => {
            let items: Vec<Box<RawValue>> = serde_json::from_str(text).unwrap();
            level < 128 && items.iter().all(|item| keeps_our_rules(item.get(), level + 1))
        }
        Some(b'{') => members(text).is_some_and(|members| {
            let names: BTreeSet<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
            let values_are_fine = || members.iter().all(|(_, value)| keeps_our_rules(value.get(), level + 1));
            level < 128 && names.len() == members.len() && values_are_fine()
        }),
        _ => true,
    }
}
