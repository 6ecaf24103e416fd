//! The rules of a payload as a JSON Schema (2020-12), made from what the rules themselves are made of.
//!
//! Invariant: what the schema allows, the rules allow, and the other way round, but for what a schema cannot say: that no
//! name may be there twice, how deep JSON may be, that a time is not before 1970, and all the ways to write a date.
//!
//! It does not check payloads.

use serde_json::{Value, json};

use super::rules::IDENTIFY;
use super::traits::{MAX_TRAITS, RESERVED};
use super::{MAX_MESSAGE_ID, PLACEHOLDERS};

/// The schema of a body of `POST /customers`.
pub fn schema() -> Value {
    json!({
        "type": "object",
        "description": "One customer. A field that is not listed here is refused by name; null for an optional one counts \
                        as absent.",
        "required": ["userId", "traits"],
        "additionalProperties": false,
        "properties": {
            "userId": id("UserFilter traits these are.", json!("string")),
            "traits": traits(),
            "timestamp": {
                "description": "When it happened, not before 1970; sent as UTC, cut to milliseconds. Default: when the \
                                relay took the call.",
                "type": ["string", "null"],
                "format": "date-time",
                // From 1970 on, as far as a pattern can tell: offsets reach over the year's end.
                "pattern": "^(19[7-9][0-9]|[2-9][0-9]{3})-",
            },
            "messageId": {
                "description": "The key against duplicates, used as it is. Segment drops a repeated one, so trying again is \
                                safe. It goes before the headers webhook-id and Idempotency-Key.",
                "type": ["string", "null"],
                "minLength": 1,
                "maxLength": MAX_MESSAGE_ID,
            },
            "anonymousId": id("The id the customer had before it was known.", json!(["string", "null"])),
            "context": {
                "description": "Where the call comes from; passed on. `library` is the relay's unless it is given.",
                "type": ["object", "null"],
            },
            "integrations": {
                "description": "Which of Segment's destinations get the call; passed on.",
                "type": ["object", "null"],
            },
            "type": {
                "description": "No other type of call is taken here.",
                "enum": [IDENTIFY, null],
            },
        },
        "examples": [example()],
    })
}

/// A good customer.
pub fn example() -> Value {
    json!({
        "userId": "c-1042",
        "traits": {
            "email": "ada@example.com",
            "name": "Ada Lovelace",
            "address": {"street": "12 St James Sq", "city": "London", "postalCode": "SW1Y", "country": "GB"},
            "plan": "pro"
        }
    })
}

/// What `check_user_id` takes.
fn id(whose: &str, kinds: Value) -> Value {
    json!({
        "description": format!("{whose} Not blank, and no placeholder such as null, anonymous or 0000, which would merge \
                                strangers into one profile."),
        "type": kinds,
        "pattern": not_blank(),
        "not": {"anyOf": [{"enum": PLACEHOLDERS}, {"type": "string", "pattern": "^[0-]*$"}]},
    })
}

/// A pattern for texts in which something is not white space. In words of our own: `\s` means other characters to each
/// engine of regular expressions, and none means what Unicode and Rust mean. None of these is above U+FFFF.
fn not_blank() -> String {
    let blank = ('\0'..='\u{ffff}').filter(|character| character.is_whitespace());
    let listed: String = blank.map(|character| format!("\\u{:04x}", u32::from(character))).collect();
    format!("[^{listed}]")
}

fn traits() -> Value {
    let reserved =
        RESERVED.iter().flat_map(|(expected, names)| names.iter().map(|name| ((*name).to_owned(), expected.schema())));
    json!({
        "description": "What is known about the customer. The traits listed here are reserved by Segment and have its types, \
                        null or \"\"; any other trait is free. Everything is passed on verbatim, down to the digits of a \
                        number.",
        "type": "object",
        "maxProperties": MAX_TRAITS,
        "properties": reserved.collect::<serde_json::Map<_, _>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::{example, schema};
    use crate::customer::SegmentIdentifyPayload;
    use serde_json::{Value, json};

    fn is_taken(body: &Value) -> bool {
        SegmentIdentifyPayload::parse(body.to_string().as_bytes()).is_ok()
    }

    /// The example with this in place of what was there.
    fn with(field: &str, value: Value) -> Value {
        let mut body = example();
        body[field] = value;
        body
    }

    #[test]
    fn the_schema_and_the_rules_say_the_same() {
        let validator = jsonschema::draft202012::options().should_validate_formats(true).build(&schema()).unwrap();
        let strange = [
            json!(null),
            json!(true),
            json!(7),
            json!(-0.5),
            json!([]),
            json!(["a"]),
            json!({}),
            json!({"a": [1]}),
            json!(""),
            json!(" "),
            json!("\t\u{85}\u{3000}"),
            json!("\u{feff}"),
            json!("\u{1c}"),
            json!("0"),
            json!("00-0"),
            json!("-1"),
            json!("null"),
            json!("Null"),
            json!("anonymous"),
            json!("identify"),
            json!("track"),
            json!("c-1"),
            json!("é"),
            json!("x".repeat(99)),
            json!("é".repeat(99)),
            json!("x".repeat(100)),
            json!("2026-01-31"),
            json!("2026-02-30"),
            json!("2026"),
            json!("2026-13"),
            json!("2026-01"),
            json!("2026-01-31T09:30:00Z"),
            json!("2026-01-31T09:30:00+02:00"),
            json!("soon"),
        ];
        let names = schema()["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let reserved =
            schema()["properties"]["traits"]["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let mut bodies =
            vec![json!({}), json!([]), json!(null), json!({"userId": "c-1"}), json!({"traits": {}}), example()];
        for value in strange {
            bodies.extend(names.iter().chain([&"plan".to_owned()]).map(|name| with(name, value.clone())));
            bodies.extend(reserved.iter().map(|name| with("traits", json!({name: value}))));
        }
        for count in [299, 300] {
            bodies.push(with(
                "traits",
                (0..count).map(|n| (format!("t{n}"), json!(n))).collect::<serde_json::Map<_, _>>().into(),
            ));
        }
        for body in bodies {
            assert_eq!(validator.is_valid(&body), is_taken(&body), "{body}");
        }
    }

    #[test]
    fn the_schema_names_every_field_that_is_taken() {
        let Err(error) = SegmentIdentifyPayload::parse(br#"{"userId":"c-1","traits":{},"plan":1}"#) else { panic!() };
        for name in schema()["properties"].as_object().unwrap().keys() {
            assert!(error.to_string().contains(name), "{error} does not name {name}");
        }
    }
}
