//! The traits of a customer, and the types of the traits that Segment reserves.
//!
//! Invariants: the text is one whole JSON object that was checked. Nothing in it is rebuilt, so `null`, `""`, the digits
//! of numbers and the order of keys reach Segment as the caller wrote them.
//!
//! The members of `address` and `company`, and traits that Segment does not reserve, have no rules.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::date::is_iso8601_date;
use super::error::{BrokenRules, PayloadError};
use super::object::{append_compact, find_member};
use super::scan::{JsonError, Scanner, Value};

/// Segment drops an Identify with 300 traits or more, although it answers 200.
const MAX_TRAITS: usize = 299;

/// A customer's traits: the text of a checked JSON object, verbatim.
#[derive(Clone, PartialEq, Eq)]
pub struct UserTraits<'a> {
    json: Cow<'a, str>,
    /// The bytes of white space between its tokens.
    space: usize,
}

impl<'a> UserTraits<'a> {
    /// Checks the text of a JSON object and keeps it verbatim, without the white space around it.
    ///
    /// # Errors
    /// As [`SegmentIdentifyPayload::parse`](super::SegmentIdentifyPayload::parse); the pointers begin with `/traits`.
    pub fn parse(json: &'a str) -> Result<Self, PayloadError> {
        let mut scanner = Scanner::from_text(json);
        let mut broken = BrokenRules::default();
        let traits = Self::read(&mut scanner, &mut broken)?;
        scanner.end()?;
        broken.finish(traits)
    }

    /// Serialises a value as JSON and checks that.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); also [`PayloadError::InvalidJson`] if the value cannot be serialised.
    pub fn from_serialize(value: &impl Serialize) -> Result<UserTraits<'static>, PayloadError> {
        let json = serde_json::to_string(value).map_err(|error| PayloadError::InvalidJson {
            message: format!("the traits cannot be written as JSON: {error}"),
        })?;
        let space = UserTraits::parse(&json)?.space;
        Ok(UserTraits { json: Cow::Owned(json), space })
    }

    /// The object's text, from brace to brace.
    pub fn as_json(&self) -> &str {
        &self.json
    }

    /// The bytes that [`append_compact`](Self::append_compact) appends.
    pub(crate) fn compact_len(&self) -> usize {
        self.json.len() - self.space
    }

    /// Appends the text without the white space between its tokens.
    pub(crate) fn append_compact(&self, out: &mut Vec<u8>) {
        append_compact(out, &self.json, self.space);
    }

    /// The trait `email`, if it is a string.
    pub fn email(&self) -> Option<Cow<'_, str>> {
        find_string(&self.json, "email")
    }

    /// The trait `name`, if it is a string.
    pub fn name(&self) -> Option<Cow<'_, str>> {
        find_string(&self.json, "name")
    }

    /// The known members of the trait `address` that are strings, if the trait is an object.
    pub fn address(&self) -> Option<Address> {
        let Some(Value::Object(json)) = find_member(&self.json, "address") else { return None };
        let text = |name| find_string(json, name).map(Cow::into_owned);
        Some(Address {
            street: text("street"),
            city: text("city"),
            state: text("state"),
            postal_code: text("postalCode"),
            country: text("country"),
        })
    }

    /// Reads and checks the next value. Returns `None` if it is not an object, which breaks a rule.
    pub(super) fn read(scanner: &mut Scanner<'a>, broken: &mut BrokenRules) -> Result<Option<Self>, JsonError> {
        let Some((members, start)) = scanner.enter_object()? else {
            broken.push_wrong_type("/traits", "an object", scanner.value()?.kind());
            return Ok(None);
        };
        let broken_before = broken.len();
        let mut count = 0_usize;
        while let Some(name) = scanner.next_name(&members)? {
            count += 1;
            let value = scanner.value()?;
            if let Some(expected) = TraitType::of_reserved(&name) {
                expected.check(&name, &value, broken);
            }
        }
        if count > MAX_TRAITS {
            let message = format_args!("must have at most {MAX_TRAITS} keys; it has {count}");
            broken.insert(broken_before, "/traits", message);
        }
        let (json, space) = scanner.object_since(start);
        Ok(Some(Self { json: Cow::Borrowed(json), space }))
    }
}

impl fmt::Debug for UserTraits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserTraits({} bytes)", self.json.len())
    }
}

/// The member of this name in a checked object, if it is a string.
fn find_string<'a>(object: &'a str, name: &str) -> Option<Cow<'a, str>> {
    match find_member(object, name)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// A postal address with Segment's field names, for programs that make or read traits. Unknown parts are left out.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// Street and number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub street: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// State, province or region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
}

impl fmt::Debug for Address {
    /// Shows none of it, because it is personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").finish_non_exhaustive()
    }
}

/// The traits that Segment reserves, by type, as in its Identify specification.
const RESERVED: [(TraitType, &[&str]); 4] = [
    (
        TraitType::String,
        &[
            "avatar",
            "description",
            "email",
            "firstName",
            "gender",
            "id",
            "lastName",
            "name",
            "phone",
            "title",
            "username",
            "website",
        ],
    ),
    (TraitType::Number, &["age"]),
    (TraitType::Date, &["birthday", "createdAt"]),
    (TraitType::Object, &["address", "company"]),
];

/// The type of a reserved trait.
#[derive(Clone, Copy)]
enum TraitType {
    String,
    Number,
    Date,
    Object,
}

impl TraitType {
    fn of_reserved(name: &str) -> Option<Self> {
        RESERVED.iter().find(|(_, names)| names.contains(&name)).map(|(expected, _)| *expected)
    }

    /// Accepts `null`, which removes a trait, and `""`, which blanks it, for every type.
    fn check(self, name: &str, value: &Value<'_>, broken: &mut BrokenRules) {
        let got = match (self, value) {
            (_, Value::Null) | (Self::String, Value::String(_)) => return,
            (Self::Number, Value::Number) | (Self::Object, Value::Object(_)) => return,
            (_, Value::String(text)) if text.is_empty() => return,
            (Self::Date, Value::String(text)) if is_iso8601_date(text) => return,
            (Self::Date, Value::String(_)) => "a string that is no such date",
            _ => value.kind(),
        };
        let expected = match self {
            Self::String => "a string",
            Self::Number => "a number",
            Self::Date => "an ISO 8601 date such as 2026-01-31",
            Self::Object => "an object",
        };
        broken.push(
            format_args!("/traits/{name}"),
            format_args!("must be {expected}, null or \"\" ({name} is a trait Segment reserves); it is {got}"),
        );
    }
}

/// The reserved traits, for the test that compares them with `/openapi.json`.
#[cfg(test)]
pub(crate) fn reserved_traits() -> impl Iterator<Item = &'static str> {
    RESERVED.iter().flat_map(|(_, names)| names.iter().copied())
}
