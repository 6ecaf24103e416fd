//! The reserved trait `address`, for programs that make or read traits.
//!
//! It does not limit what a caller's address may contain: members of any name and type are allowed.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::scan::{Scanner, Value};

/// A postal address with Segment's field names. Unknown parts are left out.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// Street and number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub street: Option<String>,
    /// City.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// State, province or region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Postal code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<String>,
    /// Country.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
}

impl fmt::Debug for Address {
    /// Shows none of it, because it is personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").finish_non_exhaustive()
    }
}

impl Address {
    /// Reads the known members of a checked object. Those that are not strings are ignored.
    pub(super) fn from_json(object: &str) -> Self {
        let text = |name| match find_member(object, name) {
            Some(Value::String(text)) => Some(text.into_owned()),
            _ => None,
        };
        Self {
            street: text("street"),
            city: text("city"),
            state: text("state"),
            postal_code: text("postalCode"),
            country: text("country"),
        }
    }
}

/// The member of this name in a checked object.
pub(super) fn find_member<'a>(object: &'a str, name: &str) -> Option<Value<'a>> {
    let mut scanner = Scanner::from_text(object);
    let (members, _) = scanner.enter_object().ok()??;
    while let Some(found) = scanner.next_name(&members).ok()? {
        let value = scanner.value().ok()?;
        if found == Cow::Borrowed(name) {
            return Some(value);
        }
    }
    None
}
