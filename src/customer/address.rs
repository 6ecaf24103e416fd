//! The reserved trait `address`, for programs that make traits or look at them.
//!
//! It does not say what a caller's address may hold: there any member of any type is free.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::scan::{Scanner, Value};

/// A postal address, as Segment writes it. What is not known is left out.
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
    /// Without any of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").finish_non_exhaustive()
    }
}

impl Address {
    /// The members of a checked object that are strings; one of another type is free to be there, but not for us.
    pub(super) fn of(object: &str) -> Self {
        let text = |name| match find(object, name) {
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
pub(super) fn find<'a>(object: &'a str, name: &str) -> Option<Value<'a>> {
    let mut scanner = Scanner::of(object);
    let (members, _) = scanner.enter_object().ok()??;
    while let Some(found) = scanner.next_name(&members).ok()? {
        let value = scanner.value().ok()?;
        if found == Cow::Borrowed(name) {
            return Some(value);
        }
    }
    None
}
