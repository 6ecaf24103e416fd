//! The payload: a customer with everything that an Identify call may say about it.
//!
//! A body is parsed in one pass, which collects every broken rule. A JSON error anywhere in the body takes precedence over
//! broken rules. An unknown field is refused, never dropped.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;

use super::error::{BrokenRules, PayloadError, Pointer};
use super::id::{check_message_id, check_user_id};
use super::object::JsonObject;
use super::scan::{JsonError, Scanner, Value};
use super::time::read_timestamp;
use super::traits::UserTraits;

const REQUIRED: &str = "is required";
const UNKNOWN: &str = "is not a field of this interface, which takes userId, traits, timestamp, messageId, anonymousId, \
                       context, integrations and type";

/// A customer as received and validated. It borrows from the body that it was parsed from.
#[derive(Clone, PartialEq)]
pub struct SegmentIdentifyPayload<'a> {
    /// The user whom the traits describe. [`parse`](Self::parse) checks it, [`new`](Self::new) does not.
    pub user_id: Cow<'a, str>,
    /// What is known about the customer.
    pub traits: UserTraits<'a>,
    /// When it happened, in whole milliseconds, not before 1970. `None`: when the relay received the payload.
    pub timestamp: Option<Timestamp>,
    /// The caller's key against duplicates, 1 to 99 characters.
    pub message_id: Option<Cow<'a, str>>,
    /// The id that the customer had before it was known.
    pub anonymous_id: Option<Cow<'a, str>>,
    /// Where the call comes from.
    pub context: Option<JsonObject<'a>>,
    /// Which of Segment's destinations get the call.
    pub integrations: Option<JsonObject<'a>>,
    /// The whole body, if the payload was parsed. A repeated request has the same body.
    pub body: Option<&'a [u8]>,
}

impl<'a> SegmentIdentifyPayload<'a> {
    /// Parses and checks a body of `POST /customers`.
    ///
    /// # Errors
    /// [`PayloadError::InvalidJson`] with the place if the body is not JSON that the relay accepts; otherwise
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
        let mut broken = BrokenRules::default();
        let payload = read_text(body, &mut broken)?;
        broken.finish(payload)
    }

    /// A payload made in a program. The traits are checked already, the id is not: see [`check_ids`](Self::check_ids).
    pub fn new(user_id: impl Into<Cow<'a, str>>, traits: UserTraits<'a>) -> Self {
        Self {
            user_id: user_id.into(),
            traits,
            timestamp: None,
            message_id: None,
            anonymous_id: None,
            context: None,
            integrations: None,
            body: None,
        }
    }

    /// Checks the ids. A parsed payload passes; a program may have set others since.
    ///
    /// # Errors
    /// Which id is wrong, and why. It does not contain the id.
    pub fn check_ids(&self) -> Result<(), String> {
        check_user_id(&self.user_id).map_err(|fault| format!("userId {fault}"))?;
        let anonymous_id = self.anonymous_id.as_deref().map_or(Ok(()), check_user_id);
        anonymous_id.map_err(|fault| format!("anonymousId {fault}"))?;
        let message_id = self.message_id.as_deref().map_or(Ok(()), check_message_id);
        message_id.map_err(|fault| format!("messageId {fault}"))
    }
}

impl fmt::Debug for SegmentIdentifyPayload<'_> {
    /// Leaves out ids and values, which are personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentIdentifyPayload")
            .field("traits", &self.traits)
            .field("timestamp", &self.timestamp)
            .finish_non_exhaustive()
    }
}

/// Reads a whole text. As [`read_fields`] for the rest.
pub(super) fn read_text<'a>(
    body: &'a [u8],
    broken: &mut BrokenRules,
) -> Result<Option<SegmentIdentifyPayload<'a>>, JsonError> {
    let mut scanner = Scanner::new(body)?;
    let payload = read_fields(&mut scanner, broken)?;
    scanner.end()?;
    Ok(payload.map(|payload| SegmentIdentifyPayload { body: Some(body), ..payload }))
}

/// Returns `None` if `userId` or `traits` is missing or unusable. Other rules may be broken even if there is a payload.
pub(super) fn read_fields<'a>(
    scanner: &mut Scanner<'a>,
    broken: &mut BrokenRules,
) -> Result<Option<SegmentIdentifyPayload<'a>>, JsonError> {
    let Some((members, _)) = scanner.enter_object()? else {
        broken.push_wrong_type("", "a JSON object", scanner.value()?.kind());
        return Ok(None);
    };
    let user_id_rule = |id: Cow<'a, str>| check_user_id(&id).map(|()| id);
    let message_id_rule = |id: Cow<'a, str>| check_message_id(&id).map(|()| id);
    // The outer Option says whether the field is present, the inner one whether its value is usable.
    let (mut user_id, mut traits) = (None, None);
    let (mut timestamp, mut message_id, mut anonymous_id) = (None, None, None);
    let (mut context, mut integrations) = (None, None);
    while let Some(name) = scanner.next_name(&members)? {
        match &*name {
            "userId" => user_id = Some(read_string(scanner.value()?, "/userId", broken, user_id_rule)),
            "traits" => traits = Some(UserTraits::read(scanner, broken)?),
            // For each of these `null` counts as absent.
            "timestamp" => {
                timestamp = read_optional(scanner.value()?, "/timestamp", broken, |text| read_timestamp(&text));
            }
            "messageId" => message_id = read_optional(scanner.value()?, "/messageId", broken, message_id_rule),
            // Segment drops a call with an empty `anonymousId`, and merges strangers by a placeholder.
            "anonymousId" => anonymous_id = read_optional(scanner.value()?, "/anonymousId", broken, user_id_rule),
            "context" => context = JsonObject::read(scanner, "/context", broken)?,
            "integrations" => integrations = JsonObject::read(scanner, "/integrations", broken)?,
            "type" => _ = read_optional(scanner.value()?, "/type", broken, check_type),
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
    let payload = SegmentIdentifyPayload::new(user_id, traits);
    Ok(Some(SegmentIdentifyPayload { timestamp, message_id, anonymous_id, context, integrations, ..payload }))
}

/// Returns `None` if the value is not a string or the string breaks a rule.
fn read_string<'a, T>(
    value: Value<'a>,
    field: &str,
    broken: &mut BrokenRules,
    read: impl FnOnce(Cow<'a, str>) -> Result<T, &'static str>,
) -> Option<T> {
    let Value::String(text) = value else {
        broken.push_wrong_type(field, "a string", value.kind());
        return None;
    };
    read(text).map_err(|message| broken.push(field, message)).ok()
}

/// The same, but `null` is none and breaks no rule.
fn read_optional<'a, T>(
    value: Value<'a>,
    field: &str,
    broken: &mut BrokenRules,
    read: impl FnOnce(Cow<'a, str>) -> Result<T, &'static str>,
) -> Option<T> {
    match value {
        Value::Null => None,
        value => read_string(value, field, broken, read),
    }
}

fn check_type(kind: Cow<'_, str>) -> Result<(), &'static str> {
    (kind == "identify").then_some(()).ok_or("must be \"identify\": no other type of call is taken here")
}
