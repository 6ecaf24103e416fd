//! The rules of a payload, alone and together.

use std::borrow::Cow;

use proptest::prelude::{prop_assert, proptest};
use serde_json::json;

use super::error::{BrokenRule, PayloadError};
use super::id::check_user_id;
use super::payload::SegmentIdentifyPayload;
use super::traits::{Address, UserTraits};

const FULL: &str = r#" { "userId" : "c-1042", "traits" : {"email":"ada@example.com","name":"Ada \u004covelace",
  "address": {"street":"12 St James Sq","city":"London","postalCode":"SW1Y","country":"GB","floor":3}},
  "timestamp":"2026-01-31T10:30:00.123999+01:00","messageId":"m-1","anonymousId":"a-1",
  "context": { "ip":"192.0.2.1" }, "integrations": {"All":true}, "type":"identify" } "#;

#[track_caller]
fn accepted(body: &str) -> SegmentIdentifyPayload<'_> {
    SegmentIdentifyPayload::parse(body.as_bytes()).expect("it keeps all rules")
}

#[track_caller]
fn broken(body: &str) -> Vec<BrokenRule> {
    match SegmentIdentifyPayload::parse(body.as_bytes()) {
        Err(PayloadError::Invalid { broken }) => broken,
        other => panic!("no rule is broken: {other:?}"),
    }
}

#[track_caller]
fn fields(body: &str) -> Vec<String> {
    broken(body).into_iter().map(|rule| rule.field).collect()
}

/// The one broken rule of a good payload to which this member is added.
#[track_caller]
fn broken_by(member: &str) -> String {
    let rules = broken(&with(member));
    assert_eq!(rules.len(), 1, "{rules:?}");
    rules[0].to_string()
}

fn with(member: &str) -> String {
    format!(r#"{{"userId":"u","traits":{{}},{member}}}"#)
}

fn with_traits(traits: &str) -> String {
    format!(r#"{{"userId":"u","traits":{traits}}}"#)
}

#[test]
fn a_full_payload_is_read() {
    let payload = accepted(FULL);
    assert_eq!(payload.user_id, "c-1042");
    assert_eq!(payload.timestamp.unwrap().to_string(), "2026-01-31T09:30:00.123Z");
    assert_eq!(payload.message_id.as_deref(), Some("m-1"));
    assert_eq!(payload.anonymous_id.as_deref(), Some("a-1"));
    assert_eq!(payload.context.unwrap().as_json(), r#"{ "ip":"192.0.2.1" }"#);
    assert_eq!(payload.integrations.unwrap().as_json(), r#"{"All":true}"#);
    assert_eq!(payload.traits.email().as_deref(), Some("ada@example.com"));
    assert_eq!(payload.traits.name().as_deref(), Some("Ada Lovelace"));
    let address = payload.traits.address().unwrap();
    assert_eq!(address.postal_code.as_deref(), Some("SW1Y"));
    assert_eq!(address.state, None);
}

#[test]
fn a_string_without_escapes_is_borrowed_from_the_body() {
    assert!(matches!(accepted(FULL).user_id, Cow::Borrowed("c-1042")));
    assert_eq!(accepted(r#"{"userId":"\u00e9\n","traits":{}}"#).user_id, "é\n");
}

#[test]
fn traits_are_kept_verbatim() {
    for traits in [
        "{}",
        "{ }",
        r#"{"n":1234567890123456789,"z":null,"blank":"","price":1.10,"big":1e999,"zero":-0}"#,
        "{\"z\":1,\"a\":2,\n\t\"m\" : [ 1 , {\"z\":1,\"a\":2} ]}",
        r#"{"ü":"Zoë 😀","escaped":"\u00fc\/\ud83d\ude00"}"#,
        r#"{"email":null,"age":"","birthday":"","address":"","company":null,"createdAt":null}"#,
    ] {
        assert_eq!(accepted(&with_traits(traits)).traits.as_json(), traits);
        assert_eq!(UserTraits::parse(&format!(" {traits}\n")).unwrap().as_json(), traits);
    }
}

#[test]
fn a_body_that_is_no_object_is_refused() {
    for (body, kind) in [("[]", "an array"), ("\"a\"", "a string"), ("1", "a number"), ("null", "null")] {
        let message = format!("must be a JSON object; it is {kind}");
        assert_eq!(broken(body), [BrokenRule { field: String::new(), message }]);
    }
}

#[test]
fn user_id_and_traits_are_required() {
    assert_eq!(fields("{}"), ["/userId", "/traits"]);
    assert_eq!(broken("{\"traits\":{}}")[0].to_string(), "/userId is required");
    assert_eq!(
        broken(r#"{"traits":[],"userId":null}"#).iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["/traits must be an object; it is an array", "/userId must be a string; it is null"]
    );
    assert_eq!(broken(r#"{"userId":7,"traits":null}"#)[0].message, "must be a string; it is a number");
}

#[test]
fn a_blank_or_placeholder_id_is_refused() {
    for id in ["", " ", "\u{2003}\n"] {
        assert!(check_user_id(id).unwrap_err().starts_with("must not be blank"));
    }
    for id in ["-", "0", "00000000-0000-0000-0000-000000000000", "-1", "null", "anonymous"] {
        assert!(check_user_id(id).unwrap_err().starts_with("is a placeholder"), "{id}");
        assert_eq!(fields(&format!(r#"{{"userId":"{id}","traits":{{}}}}"#)), ["/userId"]);
    }
    for id in ["1", "-2", "00001", "nullable", "anonymous-7", "c-1042", "é"] {
        assert_eq!(check_user_id(id), Ok(()), "{id}");
    }
}

#[test]
fn reserved_traits_have_segments_types() {
    let strings = "avatar description email firstName gender id lastName name phone title username website";
    let kinds = [
        (strings, "a string", r#""x""#, ["1", "true", "{}"]),
        ("age", "a number", "36.5", ["\"36\"", "false", "[]"]),
        ("birthday createdAt", "an ISO 8601 date", r#""1815-12-10""#, ["0", "\"soon\"", "{}"]),
        ("address company", "an object", r#"{"street":5,"x":[]}"#, ["\"London\"", "[]", "1"]),
    ];
    for (names, expected, good, bad) in kinds {
        for name in names.split(' ') {
            for value in [good, "null", "\"\""] {
                accepted(&with_traits(&format!(r#"{{"{name}":{value}}}"#)));
            }
            for value in bad {
                let rules = broken(&with_traits(&format!(r#"{{"{name}":{value}}}"#)));
                assert_eq!(rules.len(), 1);
                assert_eq!(rules[0].field, format!("/traits/{name}"));
                assert!(rules[0].message.starts_with(&format!("must be {expected}")), "{}", rules[0]);
                assert!(rules[0].message.contains(name));
            }
        }
    }
    let rules = broken(&with_traits(r#"{"age":"thirty"}"#));
    assert_eq!(
        rules[0].to_string(),
        "/traits/age must be a number, null or \"\" (age is a trait Segment reserves); it is a string"
    );
}

#[test]
fn traits_that_are_not_reserved_may_have_any_type() {
    accepted(&with_traits(r#"{"Email":1,"plan":[],"x":{"email":1,"age":"x"},"address":{"age":"x"},"":true}"#));
}

#[test]
fn a_date_trait_is_an_iso_8601_date() {
    for date in [
        "1815-12-10",
        "1815-12",
        "1815",
        "2026-01-31T09:30:00Z",
        "2026-01-31T09:30:00.123456789+01:00",
        "2026-01-31T09:30:00",
        "2026-01-31T09:30",
        "20260131",
        "20260131T093000Z",
    ] {
        accepted(&with_traits(&format!(r#"{{"birthday":"{date}"}}"#)));
    }
    for date in ["10.12.1815", "1815-13", "1815-02-30", "181", "1815-", "1815-1", "12/10/1815", "2026-01-31[UTC]", "é"]
    {
        assert_eq!(fields(&with_traits(&format!(r#"{{"createdAt":"{date}"}}"#))), ["/traits/createdAt"], "{date}");
    }
}

#[test]
fn more_than_299_traits_are_refused() {
    let traits = |count: usize| {
        let members: Vec<String> = (0..count).map(|number| format!(r#""t{number}":{{"a":1,"b":2}}"#)).collect();
        format!("{{{}}}", members.join(","))
    };
    accepted(&with_traits(&traits(299)));
    assert_eq!(broken(&with_traits(&traits(300)))[0].to_string(), "/traits must have at most 299 keys; it has 300");
    let mut with_bad_age = traits(300);
    with_bad_age.insert_str(1, r#""age":true,"#);
    assert_eq!(fields(&with_traits(&with_bad_age)), ["/traits", "/traits/age"]);
}

#[test]
fn a_timestamp_is_rfc_3339_and_cut_to_milliseconds() {
    for (given, accepted_as) in [
        ("2026-01-31T09:30:00Z", "2026-01-31T09:30:00Z"),
        ("2026-01-31t09:30:00.9z", "2026-01-31T09:30:00.9Z"),
        ("2026-01-31T23:59:59.99999999999999999999Z", "2026-01-31T23:59:59.999Z"),
        ("2024-02-29T00:15:00.0123-00:30", "2024-02-29T00:45:00.012Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
        ("1969-12-31T23:00:00-01:00", "1970-01-01T00:00:00Z"),
    ] {
        let body = with(&format!(r#""timestamp":"{given}""#));
        assert_eq!(accepted(&body).timestamp.unwrap().to_string(), accepted_as, "{given}");
    }
}

#[test]
fn a_timestamp_of_another_form_or_out_of_range_is_refused() {
    for text in [
        "",
        "2026-01-31",
        "2026-01-31T09:30Z",
        "2026-01-31T09:30:00",
        "2026-01-31 09:30:00Z",
        "2026-01-31T09:30:00+01",
        "2026-01-31T09:30:00+0100",
        "2026-01-31T09:30:00Z[UTC]",
        "2026-01-31T09:30:00.Z",
        "2026-01-31T09:30:00,5Z",
        "2026-01-31T09:30:00+24:00",
        "2026-01-31T09:30:00+01:60",
        "2026-02-29T00:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T09:30:61Z",
        "+002026-01-31T09:30:00Z",
        "20260131T093000Z",
        "1769851800",
        "２026-01-31T09:30:00Z",
    ] {
        assert!(broken_by(&format!(r#""timestamp":"{text}""#)).contains("RFC 3339"), "{text}");
    }
    for text in ["1969-12-31T23:59:59.9999Z", "1970-01-01T00:00:00+00:01", "0000-01-01T00:00:00Z"] {
        assert!(broken_by(&format!(r#""timestamp":"{text}""#)).contains("before 1970"), "{text}");
    }
    assert!(broken_by(r#""timestamp":"9999-12-31T23:59:59-23:59""#).contains("later than"));
    assert!(broken_by(r#""timestamp":1769851800"#).ends_with("must be a string; it is a number"));
}

#[test]
fn a_message_id_has_1_to_99_characters() {
    accepted(&with(&format!(r#""messageId":"{}""#, "é".repeat(99))));
    for id in ["", &"x".repeat(100)] {
        assert_eq!(broken_by(&format!(r#""messageId":"{id}""#)), "/messageId must have 1 to 99 characters");
    }
    assert_eq!(broken_by(r#""messageId":12"#), "/messageId must be a string; it is a number");
}

#[test]
fn optional_fields_have_their_types() {
    assert_eq!(broken_by(r#""anonymousId":true"#), "/anonymousId must be a string; it is a boolean");
    assert!(broken_by(r#""anonymousId":"""#).starts_with("/anonymousId must not be blank"));
    assert!(broken_by(r#""anonymousId":"anonymous""#).starts_with("/anonymousId is a placeholder"));
    assert_eq!(broken_by(r#""context":"x""#), "/context must be an object; it is a string");
    assert_eq!(broken_by(r#""integrations":[]"#), "/integrations must be an object; it is an array");
    assert_eq!(broken_by(r#""type":{}"#), "/type must be a string; it is an object");
    assert!(broken_by(r#""type":"track""#).starts_with("/type must be \"identify\""));
}

#[test]
fn null_for_an_optional_field_counts_as_absent() {
    let nulls =
        r#""timestamp":null,"messageId":null,"anonymousId":null,"context":null,"integrations":null,"type":null"#;
    let body = with(nulls);
    let absent = SegmentIdentifyPayload::new("u", UserTraits::parse("{}").unwrap());
    assert_eq!(accepted(&body), SegmentIdentifyPayload { body: Some(body.as_ref()), ..absent });
}

#[test]
fn a_context_reports_whether_it_has_a_library() {
    for (json, has_library, is_empty) in [
        ("{ }", false, true),
        (r#"{"library":null}"#, true, false),
        (r#"{"ip":"x","libr\u0061ry":{}}"#, true, false),
        (r#"{"app":{"library":1}}"#, false, false),
    ] {
        let body = with(&format!(r#""context":{json}"#));
        let context = accepted(&body).context.unwrap();
        let found = (context.as_json(), context.has_library(), context.is_empty());
        assert_eq!(found, (json, has_library, is_empty));
    }
}

#[test]
fn an_unknown_field_is_refused_and_named() {
    assert!(broken_by(r#""user_id":null"#).starts_with("/user_id is not a field of this interface"));
    assert_eq!(broken(&with(r#""a/b~c":1"#))[0].field, "/a~1b~0c");
    assert_eq!(fields(&with(&format!(r#""{}":1"#, "é".repeat(100)))), [format!("/{}", "é".repeat(100))]);
    assert_eq!(fields(&with(&format!(r#""{}":1"#, "é".repeat(101)))), [format!("/{}…", "é".repeat(100))]);
    assert!(broken_by("\"\\u001b[2J\":1").starts_with("/\\u{1b}[2J is not"));
}

#[test]
fn all_broken_rules_are_reported_in_the_order_of_the_document() {
    let body =
        r#"{"x":1,"type":"page","traits":{"age":"x","email":1,"plan":2},"userId":"-1","timestamp":"now","context":1}"#;
    let expected = ["/x", "/type", "/traits/age", "/traits/email", "/userId", "/timestamp", "/context"];
    assert_eq!(fields(body), expected);
    let error = SegmentIdentifyPayload::parse(body.as_bytes()).unwrap_err();
    assert_eq!(error.to_string().split("; /").count(), expected.len());
}

#[test]
fn at_most_32_broken_rules_are_reported() {
    let unknown: Vec<String> = (0..40).map(|number| format!(r#""x{number}":0"#)).collect();
    let rules = fields(&format!("{{{}}}", unknown.join(",")));
    assert_eq!((rules.len(), rules[31].as_str()), (32, "/x31"));
    let traits: Vec<String> = (0..300).map(|number| format!(r#""t{number}":0"#)).collect();
    let rules = fields(&format!(r#"{{{},"traits":{{"age":[],{}}}}}"#, unknown[..31].join(","), traits.join(",")));
    assert_eq!((rules.len(), rules[31].as_str()), (32, "/traits"));
}

#[test]
fn values_never_appear_in_errors_or_in_debug_output() {
    let body = r#"{"userId":7777,"traits":{"email":["secret"],"birthday":"secret"},"timestamp":"secret","type":"secret","messageId":["secret"]}"#;
    let error = format!("{:?}", broken(body));
    assert!(!error.contains("secret") && !error.contains("7777"), "{error}");
    let shown = format!("{:?}", accepted(FULL));
    assert!(!shown.contains("1042") && !shown.contains("Ada") && !shown.contains("m-1"), "{shown}");
}

#[test]
fn a_json_error_takes_precedence_over_broken_rules() {
    for body in [r#"{"x":1,"x":2}"#, r#"{"userId":1,"traits":{"a":{"b":1,"\u0062":2}}}"#, "[1,2", r#"{"userId":""} x"#]
    {
        assert!(matches!(SegmentIdentifyPayload::parse(body.as_bytes()), Err(PayloadError::InvalidJson { .. })));
    }
}

#[test]
fn a_truncated_body_is_an_error_and_never_a_panic() {
    let body = FULL.trim();
    for length in 0..body.len() {
        assert!(SegmentIdentifyPayload::parse(&body.as_bytes()[..length]).is_err(), "{length}");
    }
}

#[test]
fn traits_made_in_the_program_are_checked_too() {
    let address = Address { city: Some("London".into()), postal_code: Some("SW1Y".into()), ..Address::default() };
    let traits = UserTraits::from_serialize(&json!({"email": "ada@example.com", "address": address})).unwrap();
    assert_eq!(traits.address(), Some(address));
    assert_eq!(traits.as_json(), r#"{"address":{"city":"London","postalCode":"SW1Y"},"email":"ada@example.com"}"#);
    assert!(matches!(UserTraits::from_serialize(&json!({"age": "x"})), Err(PayloadError::Invalid { .. })));
    assert!(matches!(UserTraits::from_serialize(&[1]), Err(PayloadError::Invalid { .. })));
    assert!(matches!(UserTraits::parse("{} {}"), Err(PayloadError::InvalidJson { .. })));
    assert_eq!(UserTraits::parse(r#"{"address":"","email":null}"#).unwrap().address(), None);
}

proptest! {
    #[test]
    fn an_accepted_timestamp_is_what_jiff_reads_cut_to_milliseconds(
        text in "(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]([.][0-9]{1,9})?(Z|[+-][01][0-9]:[0-5][0-9])"
    ) {
        let body = with(&format!(r#""timestamp":"{text}""#));
        let ours = SegmentIdentifyPayload::parse(body.as_bytes()).ok().and_then(|payload| payload.timestamp);
        let jiffs = text.parse::<jiff::Timestamp>().ok();
        match (ours, jiffs) {
            (Some(ours), Some(jiffs)) => {
                prop_assert!(ours.as_millisecond() == jiffs.as_nanosecond().div_euclid(1_000_000) as i64);
                prop_assert!(ours.subsec_nanosecond() % 1_000_000 == 0);
            }
            (None, Some(jiffs)) => prop_assert!(jiffs < jiff::Timestamp::UNIX_EPOCH),
            (Some(_), None) => prop_assert!(false, "jiff refuses this"),
            (None, None) => {}
        }
    }
}
