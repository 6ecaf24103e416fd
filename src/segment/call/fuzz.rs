//! Fuzz target `payload`: any body, and the call made of it, compared with serde_json and a second implementation of the
//! rules.
//!
//! Only dates are not checked a second time, because jiff would read them in both.

use std::collections::BTreeMap;

use jiff::{Timestamp, ToSpan};
use serde_json::value::RawValue;

use super::{Call, MAX_CALL_BYTES};
use crate::customer::{BrokenRule, PayloadError, SegmentIdentifyPayload};
use crate::fuzz::json::{is_accepted, members, string};
use crate::fuzz::{hold, invisible};
use crate::segment::{ErrorCode, rfc3339_milliseconds};

/// The corpus has it only in values, so no message may contain it.
const CANARY: &str = "canary";

const NESTED: &str = "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[";

const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1e999",
    "-0.10",
    "\"\"",
    "{}",
    " ",
    "\n",
    "12345678901234567890",
    "\\u0000",
    "\\ud800",
    "\\ud83d\\ude00",
    "\\u0061",
    "\u{feff}",
    "\u{202e}",
    "\u{200b}",
    "\u{3164}",
    "é",
    "😀",
    NESTED,
    "\"userId\":",
    "\"traits\":",
    "\"timestamp\":",
    "\"messageId\":",
    "\"anonymousId\":",
    "\"context\":",
    "\"library\":",
    "\"integrations\":",
    "\"type\":",
    "\"identify\"",
    "\"email\":",
    "\"age\":",
    "\"address\":",
    "\"createdAt\":",
    "\"2026-01-31T09:30:00.123456Z\"",
    "\"9999-12-31T23:59:60-23:59\"",
    "\"anonymous\"",
    "NULL",
    "undefined",
    "[object Object]",
    "\"000-0\"",
    "\"canary\"",
    "~/~1",
];

type Members = BTreeMap<String, Box<RawValue>>;

fn object(text: &str) -> Option<Members> {
    members(text).map(|members| members.into_iter().collect())
}

/// Whether a body keeps the rules of `POST /customers`. `None` if that depends on a date.
fn keeps_the_rules(body: &str) -> Option<bool> {
    let Some(fields) = object(body) else { return Some(false) };
    let mut depends_on_a_date = false;
    let shown = |id: &str| id.trim_matches(|character| invisible().contains(&character)).to_owned();
    let is_id = |id: String| {
        let id = shown(&id).to_lowercase();
        let words = "null undefined none nan true false anonymous";
        !id.trim_matches(['0', '-']).is_empty()
            && words.split(' ').chain(["-1", "[object object]"]).all(|placeholder| placeholder != id)
    };
    let mut is_kept = fields.contains_key("userId") && fields.contains_key("traits");
    for (name, value) in &fields {
        let text = string(value.get());
        let is_null = value.get() == "null";
        is_kept &= match &**name {
            "userId" => text.is_some_and(is_id),
            "anonymousId" => is_null || text.is_some_and(is_id),
            "messageId" => {
                is_null || text.is_some_and(|id| (1..100).contains(&id.chars().count()) && !shown(&id).is_empty())
            }
            "type" => is_null || text.as_deref() == Some("identify"),
            "context" | "integrations" => is_null || value.get().starts_with('{'),
            "timestamp" => {
                depends_on_a_date |= text.is_some();
                is_null || text.is_some()
            }
            "traits" => object(value.get()).is_some_and(|traits| {
                traits.len() < 300 && traits.iter().all(|(name, value)| is_trait(name, value, &mut depends_on_a_date))
            }),
            _ => false,
        };
    }
    (!is_kept || !depends_on_a_date).then_some(is_kept)
}

fn is_trait(name: &str, value: &RawValue, depends_on_a_date: &mut bool) -> bool {
    let starts_with = |any_of: &str| value.get().starts_with(|first| any_of.contains(first));
    if matches!(value.get(), "null" | "\"\"") {
        return true;
    }
    match name {
        "age" => starts_with("-0123456789"),
        "address" | "company" => starts_with("{"),
        "birthday" | "createdAt" => {
            *depends_on_a_date |= starts_with("\"");
            starts_with("\"")
        }
        "avatar" | "description" | "email" | "firstName" | "gender" | "id" | "lastName" | "name" | "phone"
        | "title" | "username" | "website" => starts_with("\""),
        _ => true,
    }
}

/// A broken rule points at the field that breaks it, or at the place of a missing one.
fn assert_points_into(body: &str, rule: &BrokenRule) {
    let mut place = body.to_owned();
    for token in rule.field.split('/').skip(1) {
        let name = token.replace("~1", "/").replace("~0", "~");
        let fields = members(&place).unwrap_or_else(|| panic!("{rule:?}"));
        let is_it = |field: &str| {
            let cut =
                name.strip_suffix('…').is_some_and(|begin| begin.chars().count() == 100 && field.starts_with(begin));
            field == name || cut
        };
        match fields.into_iter().find(|(field, _)| is_it(field)) {
            Some((_, value)) => place = value.get().to_owned(),
            None => return assert_eq!(rule.message, "is required", "{rule:?}"),
        }
    }
    assert_ne!(rule.message, "is required", "{rule:?}");
}

fn assert_refused(body: &[u8], error: &PayloadError) {
    match error {
        PayloadError::InvalidJson { message } => {
            assert!(!is_accepted(body), "{message}");
            assert!(!message.contains(CANARY) && message.contains(" at line "), "{message}");
        }
        PayloadError::Invalid { broken } => {
            assert!(is_accepted(body), "{broken:?}");
            let body = std::str::from_utf8(body).unwrap();
            assert_ne!(keeps_the_rules(body), Some(true), "{broken:?}");
            assert!((1..=32).contains(&broken.len()));
            for rule in broken {
                assert!(!rule.message.contains(CANARY), "{rule:?}");
                assert_points_into(body, rule);
            }
        }
    }
}

/// The call has the values of the body, and its JSON keeps the rules for a body too.
fn assert_has_the_values_of(call: &Call, payload: &SegmentIdentifyPayload<'_>, body: &str, message_id: &str) {
    let wire = std::str::from_utf8(call.json()).unwrap();
    assert!(call.json().len() <= MAX_CALL_BYTES && is_accepted(call.json()), "{wire}");
    let again = SegmentIdentifyPayload::parse(call.json()).unwrap();
    let (sent, given) = (object(wire).unwrap(), object(body).unwrap());
    let raw = |fields: &Members, name: &str| fields.get(name).map(|raw| raw.get().to_owned());
    let text = |fields: &Members, name: &str| raw(fields, name).and_then(|raw| string(&raw));
    assert_eq!(text(&sent, "userId"), text(&given, "userId"));
    assert_eq!(call.user_id().as_ref(), text(&given, "userId").unwrap());
    assert_eq!(raw(&sent, "traits"), raw(&given, "traits").map(|raw| without_space(&raw)), "else verbatim");
    assert_eq!(text(&sent, "anonymousId"), text(&given, "anonymousId"));
    assert_eq!(text(&sent, "messageId").as_deref(), Some(message_id));
    assert_eq!(text(&sent, "type").as_deref(), Some("identify"));
    let integrations = raw(&given, "integrations").filter(|raw| raw != "null").unwrap_or("{}".into());
    assert_eq!(raw(&sent, "integrations").unwrap(), without_space(&integrations));
    let context = object(&raw(&sent, "context").unwrap()).unwrap();
    let asked = raw(&given, "context").and_then(|raw| object(&raw)).unwrap_or_default();
    assert!(asked.iter().all(|(name, value)| context[name].get() == without_space(value.get())));
    assert_eq!(wire, without_space(wire));
    assert_eq!(context.len(), asked.len() + usize::from(!asked.contains_key("library")), "{wire}");
    assert_eq!(again.timestamp, Some(payload.timestamp.unwrap_or(received_at())));
    assert_eq!((&again.user_id, again.traits.as_json()), (&payload.user_id, &*without_space(payload.traits.as_json())));
    if let Some(Ok(time)) = text(&given, "timestamp").map(|text| text.parse::<Timestamp>()) {
        let late = time.duration_since(payload.timestamp.unwrap());
        assert!(!late.is_negative() && time < payload.timestamp.unwrap() + 1.millisecond(), "cut to milliseconds");
        assert_eq!(text(&sent, "timestamp").unwrap(), rfc3339_milliseconds(payload.timestamp.unwrap()));
    }
    for shown in [format!("{payload:?}"), format!("{call:?}")] {
        assert!(!shown.contains(CANARY), "{shown}");
    }
}

/// A JSON text without the white space outside its strings.
fn without_space(json: &str) -> String {
    let (mut is_in_string, mut is_escaped) = (false, false);
    let is_kept = |character: &char| {
        is_in_string ^= *character == '"' && !is_escaped;
        is_escaped = is_in_string && *character == '\\' && !is_escaped;
        is_in_string || !character.is_whitespace()
    };
    json.chars().filter(is_kept).collect()
}

fn received_at() -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_007).unwrap()
}

#[test]
fn an_accepted_payload_is_what_segment_gets_and_any_other_is_refused_with_reasons() {
    hold("payload", TOKENS, |body| {
        let parsed = SegmentIdentifyPayload::parse(body);
        assert!(parsed == SegmentIdentifyPayload::parse(body), "two runs differ");
        let payload = match parsed {
            Ok(payload) => payload,
            Err(error) => return assert_refused(body, &error),
        };
        assert!(is_accepted(body));
        let body = std::str::from_utf8(body).unwrap();
        assert_ne!(keeps_the_rules(body), Some(false));
        assert_eq!(payload.check_ids(), Ok(()));
        let message_id = payload.message_id.as_deref().unwrap_or("m-1");
        match Call::new(&payload, message_id, received_at()) {
            Ok(call) => assert_has_the_values_of(&call, &payload, body, message_id),
            Err(error) => {
                assert_eq!(error.code, ErrorCode::MessageTooLarge);
                assert!(body.len() > MAX_CALL_BYTES / 8, "{} bytes are too large", body.len());
            }
        }
    });
}
