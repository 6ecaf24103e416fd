//! Parses a body in one pass: reads the payload and collects every broken rule.
//!
//! Invariants: a JSON error anywhere in the body takes precedence over broken rules. A payload is returned only if no rule
//! is broken. An unknown field is refused, never dropped.
//!
//! The rules for traits are in `traits.rs`.

use std::borrow::Cow;

use jiff::Timestamp;

use super::context::{Context, Integrations};
use super::error::{BrokenRules, PayloadError, Pointer};
use super::ids::{check_message_id, check_user_id};
use super::payload::SegmentIdentifyPayload;
use super::scan::{JsonError, Scanner, Value};
use super::time::read_timestamp;
use super::traits::UserTraits;

const REQUIRED: &str = "is required";
const UNKNOWN: &str = "is not a field of this interface, which takes userId, traits, timestamp, messageId, anonymousId, \
                       context, integrations and type";

/// The only accepted value of `type`.
pub(super) const IDENTIFY: &str = "identify";

impl<'a> SegmentIdentifyPayload<'a> {
    /// Parses and checks a body of `POST /customers`.
    ///
    /// # Errors
    /// [`PayloadError::InvalidJson`] with the place if the body is not JSON that we accept; otherwise
    /// [`PayloadError::Invalid`] with all broken rules (the first 32).
    ///
    /// ```
    /// use segment_relay::{PayloadError, SegmentIdentifyPayload};
    ///
    /// let payload = SegmentIdentifyPayload::parse(br#"{"userId":"c-1042","traits":{"plan":"pro"}}"#)?;
    /// assert_eq!(payload.user_id, "c-1042");
    /// assert_eq!(payload.traits.as_json(), r#"{"plan":"pro"}"#);
    ///
    /// let body = br#"{"userId":"anonymous","traits":{"age":"36"},"timestamp":"today","plan":"pro"}"#;
    /// let Err(PayloadError::Invalid { broken }) = SegmentIdentifyPayload::parse(body) else { panic!("it breaks rules") };
    /// let fields: Vec<&str> = broken.iter().map(|rule| rule.field.as_str()).collect();
    /// assert_eq!(fields, ["/userId", "/traits/age", "/timestamp", "/plan"]);
    /// # Ok::<(), PayloadError>(())
    /// ```
    pub fn parse(body: &'a [u8]) -> Result<Self, PayloadError> {
        let mut scanner = Scanner::new(body)?;
        let mut broken = BrokenRules::default();
        let payload = read_fields(&mut scanner, &mut broken)?;
        scanner.end()?;
        match payload {
            Some(payload) if broken.is_empty() => Ok(Self { body: Some(body), ..payload }),
            _ => Err(broken.into()),
        }
    }
}

/// Returns `None` if `userId` or `traits` is missing or unusable. Other rules may be broken even if there is a payload.
fn read_fields<'a>(
    scanner: &mut Scanner<'a>,
    broken: &mut BrokenRules,
) -> Result<Option<SegmentIdentifyPayload<'a>>, JsonError> {
    let Some((members, _)) = scanner.enter_object()? else {
        let kind = scanner.value()?.kind();
        broken.push_wrong_type("", "a JSON object", kind);
        return Ok(None);
    };
    // The outer Option says whether the field is present, the inner one whether its value is usable.
    let (mut user_id, mut traits) = (None, None);
    let (mut timestamp, mut message_id, mut anonymous_id) = (None, None, None);
    let (mut context, mut integrations) = (None, None);
    while let Some(name) = scanner.next_name(&members)? {
        match &*name {
            "userId" => user_id = Some(read_user_id(scanner, broken)?),
            "traits" => traits = Some(UserTraits::read(scanner, broken)?),
            "timestamp" => timestamp = read_time(scanner, broken)?,
            "messageId" => message_id = read_message_id(scanner, broken)?,
            "anonymousId" => anonymous_id = read_anonymous_id(scanner, broken)?,
            "context" => context = Context::read(scanner, broken)?,
            "integrations" => integrations = Integrations::read(scanner, broken)?,
            "type" => read_type(scanner, broken)?,
            _ => {
                scanner.value()?;
                broken.push(Pointer(&name), UNKNOWN);
            }
        }
    }
    if user_id.is_none() {
        broken.push("/userId", REQUIRED);
    }
    if traits.is_none() {
        broken.push("/traits", REQUIRED);
    }
    let (Some(user_id), Some(traits)) = (user_id.flatten(), traits.flatten()) else {
        return Ok(None);
    };
    Ok(Some(SegmentIdentifyPayload {
        user_id,
        traits,
        timestamp,
        message_id,
        anonymous_id,
        context,
        integrations,
        body: None,
    }))
}

fn read_user_id<'a>(scanner: &mut Scanner<'a>, broken: &mut BrokenRules) -> Result<Option<Cow<'a, str>>, JsonError> {
    match scanner.value()? {
        Value::String(id) => {
            if let Err(message) = check_user_id(&id) {
                broken.push("/userId", message);
            }
            Ok(Some(id))
        }
        other => {
            broken.push_wrong_type("/userId", "a string", other.kind());
            Ok(None)
        }
    }
}

fn read_time(scanner: &mut Scanner<'_>, broken: &mut BrokenRules) -> Result<Option<Timestamp>, JsonError> {
    let text = optional_string(scanner, "/timestamp", broken)?;
    let timestamp = text.map(|text| read_timestamp(&text)).transpose();
    Ok(timestamp.unwrap_or_else(|message| {
        broken.push("/timestamp", message);
        None
    }))
}

fn read_message_id<'a>(scanner: &mut Scanner<'a>, broken: &mut BrokenRules) -> Result<Option<Cow<'a, str>>, JsonError> {
    let id = optional_string(scanner, "/messageId", broken)?;
    if let Some(Err(message)) = id.as_deref().map(check_message_id) {
        broken.push("/messageId", message);
    }
    Ok(id)
}

/// Has the rules of a `userId`: Segment drops a call with an empty `anonymousId`, and merges strangers by a placeholder.
fn read_anonymous_id<'a>(
    scanner: &mut Scanner<'a>,
    broken: &mut BrokenRules,
) -> Result<Option<Cow<'a, str>>, JsonError> {
    let id = optional_string(scanner, "/anonymousId", broken)?;
    if let Some(Err(message)) = id.as_deref().map(check_user_id) {
        broken.push("/anonymousId", message);
    }
    Ok(id)
}

fn read_type(scanner: &mut Scanner<'_>, broken: &mut BrokenRules) -> Result<(), JsonError> {
    let kind = optional_string(scanner, "/type", broken)?;
    if kind.is_some_and(|kind| kind != IDENTIFY) {
        broken.push("/type", "must be \"identify\": no other type of call is taken here");
    }
    Ok(())
}

/// Returns `None` for `null`, and for a value of another type, which breaks a rule.
fn optional_string<'a>(
    scanner: &mut Scanner<'a>,
    field: &str,
    broken: &mut BrokenRules,
) -> Result<Option<Cow<'a, str>>, JsonError> {
    match scanner.value()? {
        Value::String(text) => return Ok(Some(text)),
        Value::Null => {}
        other => broken.push_wrong_type(field, "a string", other.kind()),
    }
    Ok(None)
}
