//! Walks through a body once: reads the payload and collects every rule it breaks.
//!
//! Invariants: a fault in the JSON, wherever it is, wins over broken rules; a payload comes out only if no rule is
//! broken; a field we do not know is refused, never dropped.
//!
//! What the traits' own rules are is `traits.rs`'s to know.

use std::borrow::Cow;

use jiff::Timestamp;

use super::context::{Context, Integrations};
use super::error::{BrokenRules, PayloadError, Pointer};
use super::scan::{Fault, Scanner, Value};
use super::time::read_timestamp;
use super::traits::UserTraits;
use super::{SegmentIdentifyPayload, check_message_id, check_user_id};

const REQUIRED: &str = "is required";
const UNKNOWN: &str = "is not a field of this interface, which takes userId, traits, timestamp, messageId, anonymousId, \
                       context, integrations and type";

/// The one type of call that is taken.
pub(super) const IDENTIFY: &str = "identify";

pub(super) fn read_payload(body: &[u8]) -> Result<SegmentIdentifyPayload<'_>, PayloadError> {
    let mut scanner = Scanner::new(body)?;
    let mut broken = BrokenRules::default();
    let payload = read_fields(&mut scanner, &mut broken)?;
    scanner.end()?;
    match payload {
        Some(payload) if broken.is_empty() => Ok(SegmentIdentifyPayload { body: Some(body), ..payload }),
        _ => Err(broken.into()),
    }
}

/// The payload, or `None` if a rule is broken. (One may be broken even if there is a payload.)
fn read_fields<'a>(
    scanner: &mut Scanner<'a>,
    broken: &mut BrokenRules,
) -> Result<Option<SegmentIdentifyPayload<'a>>, Fault> {
    let Some((members, _)) = scanner.enter_object()? else {
        let kind = scanner.value()?.kind();
        broken.push_wrong_type("", "a JSON object", kind);
        return Ok(None);
    };
    // The outer level: was it sent. The inner one: could it be used.
    let (mut user_id, mut traits) = (None, None);
    let (mut timestamp, mut message_id, mut anonymous_id) = (None, None, None);
    let (mut context, mut integrations) = (None, None);
    while let Some(name) = scanner.next_name(&members)? {
        match &*name {
            "userId" => user_id = Some(read_user_id(scanner, broken)?),
            "traits" => traits = Some(UserTraits::read(scanner, broken)?),
            "timestamp" => timestamp = read_when(scanner, broken)?,
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

fn read_user_id<'a>(scanner: &mut Scanner<'a>, broken: &mut BrokenRules) -> Result<Option<Cow<'a, str>>, Fault> {
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

fn read_when(scanner: &mut Scanner<'_>, broken: &mut BrokenRules) -> Result<Option<Timestamp>, Fault> {
    let text = optional_string(scanner, "/timestamp", broken)?;
    let timestamp = text.map(|text| read_timestamp(&text)).transpose();
    Ok(timestamp.unwrap_or_else(|message| {
        broken.push("/timestamp", message);
        None
    }))
}

fn read_message_id<'a>(scanner: &mut Scanner<'a>, broken: &mut BrokenRules) -> Result<Option<Cow<'a, str>>, Fault> {
    let id = optional_string(scanner, "/messageId", broken)?;
    if let Some(Err(message)) = id.as_deref().map(check_message_id) {
        broken.push("/messageId", message);
    }
    Ok(id)
}

/// Segment drops an empty id and merges strangers over a placeholder, whichever of the two ids it is.
fn read_anonymous_id<'a>(scanner: &mut Scanner<'a>, broken: &mut BrokenRules) -> Result<Option<Cow<'a, str>>, Fault> {
    let id = optional_string(scanner, "/anonymousId", broken)?;
    if let Some(Err(message)) = id.as_deref().map(check_user_id) {
        broken.push("/anonymousId", message);
    }
    Ok(id)
}

fn read_type(scanner: &mut Scanner<'_>, broken: &mut BrokenRules) -> Result<(), Fault> {
    let kind = optional_string(scanner, "/type", broken)?;
    if kind.is_some_and(|kind| kind != IDENTIFY) {
        broken.push("/type", "must be \"identify\": no other type of call is taken here");
    }
    Ok(())
}

/// A string, or `None` for `null`. `None` too for another type, which breaks a rule.
fn optional_string<'a>(
    scanner: &mut Scanner<'a>,
    field: &str,
    broken: &mut BrokenRules,
) -> Result<Option<Cow<'a, str>>, Fault> {
    match scanner.value()? {
        Value::String(text) => return Ok(Some(text)),
        Value::Null => {}
        other => broken.push_wrong_type(field, "a string", other.kind()),
    }
    Ok(None)
}
