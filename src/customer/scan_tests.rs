//! What the scanner accepts and refuses: by example, and compared with serde_json on arbitrary and on mutated texts.

use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::Index;

use super::error::PayloadError;
use super::payload::SegmentIdentifyPayload;
use super::scan::Scanner;
use crate::fuzz::json::is_accepted as serde_json_accepts;

fn scan(text: &[u8]) -> Result<(), String> {
    let mut scanner = Scanner::new(text).map_err(message)?;
    scanner.value().map_err(message)?;
    scanner.end().map_err(message)
}

fn message(error: impl Into<PayloadError>) -> String {
    error.into().to_string()
}

#[track_caller]
fn refused(text: impl AsRef<[u8]>) -> String {
    scan(text.as_ref()).expect_err("the scanner accepts it")
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

#[test]
fn an_error_names_the_problem_and_the_place() {
    let at = "at line 1 column 1";
    assert_eq!(refused(""), format!("the text ends where a JSON value was expected {at}"));
    assert_eq!(refused("\u{FEFF}{}"), format!("a byte order mark is not part of JSON {at}"));
    assert_eq!(refused("NaN"), format!("expected a JSON value {at}"));
    assert_eq!(refused("{\"a\":1,}"), "expected a name in double quotes at line 1 column 8");
    assert_eq!(refused("{\"a\":1"), "the text ends where ',' or '}' was expected at line 1 column 7");
    assert_eq!(refused("{} {}"), "unexpected text after the JSON value at line 1 column 4");
    assert_eq!(refused(b"[\"ab\xFF\"]"), "invalid UTF-8 at line 1 column 5");
    assert_eq!(refused("[\"a\tb\"]"), "a control character in a string must be escaped at line 1 column 4");
}

#[test]
fn columns_count_characters_and_lines_count_line_feeds() {
    assert_eq!(refused("[\"äöü€😀\" x]"), "expected ',' or ']' at line 1 column 10");
    assert_eq!(refused("{\r\n \"é\": tru}"), "expected a JSON value at line 2 column 7");
}

#[test]
fn near_json_is_refused() {
    for text in [
        "[1,]",
        "[,1]",
        "[1 2]",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{'a':1}",
        "{1:1}",
        "[\"a",
        "\"",
        "\"\\",
        "]",
        "}",
        "[}",
        "nul",
        "True",
        "Infinity",
        "-",
        "+1",
        "01",
        "-01",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x10",
        "1_000",
        "/**/1",
        "[\"\\x\"]",
        "[\"\\u12\"]",
        "[\"\\u12G4\"]",
        "\u{A0}1",
        "1\u{0}",
        "\u{c}1",
    ] {
        assert!(scan(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn the_whole_grammar_is_accepted() {
    for text in [
        "0",
        "-0",
        "1e999",
        "-1.10E-05",
        "1234567890123456789",
        " \t\r\n[ ] ",
        "{}",
        "{ \"\" : { } }",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\\u0000\\uD83D\\ude00\"",
        "\"\u{7f}\u{2028}\u{FEFF}\"",
        "[null,true,false,[1,{\"a\":[]}],\"a\"]",
    ] {
        assert_eq!(scan(text.as_bytes()), Ok(()), "{text}");
    }
}

#[test]
fn a_repeated_name_is_refused_at_every_depth_and_in_every_escaped_form() {
    let twice = "this name is there twice in one object";
    assert_eq!(refused(r#"{"a":1,"b":2,"a":3}"#), format!("{twice} at line 1 column 14"));
    assert_eq!(refused(r#"{"a":1,"\u0061":2}"#), format!("{twice} at line 1 column 8"));
    assert_eq!(refused(r#"[{"x":[{"":1,"":2}]}]"#), format!("{twice} at line 1 column 14"));
    assert_eq!(scan(br#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}],"A":0}"#), Ok(()));
}

#[test]
fn among_ten_thousand_names_the_first_repeated_one_is_reported() {
    let names: Vec<String> = (0..10_000).map(|number| format!("\"{number:x}\":0")).collect();
    assert_eq!(scan(format!("{{{}}}", names.join(",")).as_bytes()), Ok(()));
    let at_the_end = format!("{{{},\"1\":0,\n\"\\u0030\":0}}", names.join(","));
    // First in the document, not in the order of the sort.
    assert!(refused(&at_the_end).starts_with("this name is there twice in one object at line 1 "));
}

#[test]
fn a_lone_surrogate_is_refused_in_names_and_values() {
    let fault = "a string's escape is unknown, incomplete or half a surrogate pair at line 1 column";
    for text in [r#"{"\ud800":1}"#, r#"["\udc00"]"#, r#"["\ud83dx"]"#, r#"["\ud83d\u0061"]"#, r#"["\ude00\ud83d"]"#] {
        assert!(refused(text).starts_with(fault), "{text}");
    }
}

#[test]
fn at_most_128_levels_are_accepted() {
    let fault = "arrays and objects are nested deeper than 128 levels at line 1 column 129";
    assert_eq!(scan(nested(128).as_bytes()), Ok(()));
    assert_eq!(refused(nested(129)), fault);
    assert_eq!(refused(nested(10_000)), fault);
    assert_eq!(refused("[".repeat(100_000)), fault);
    assert!(refused("{\"a\":".repeat(20_000)).starts_with("arrays and objects are nested deeper than 128 levels"));
    // A closed level no longer counts.
    assert_eq!(scan(format!("[{}]", [nested(127), nested(127)].join(",")).as_bytes()), Ok(()));
}

/// Strings and names of few pieces, so that names repeat, with every kind of escape and some invalid ones.
fn quoted() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[a-c ]{0,3}",
        2 => Just(r"\u0061".to_owned()),
        2 => Just(r#"\"\\\/\b\f\n\r\t"#.to_owned()),
        1 => Just(r"\ud83d\ude00".to_owned()),
        1 => Just("ä€😀".to_owned()),
        1 => prop::sample::select(vec![r"\ud800", r"\udc00", r"\x", r"\u12", "\u{1}"]).prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..3).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        quoted(),
        "-?(0|[1-9][0-9]{0,18})([.][0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
        prop::sample::select(vec!["null", "true", "false", "{}", "[ ]"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let member = (quoted(), "[ \n\t\r]{0,1}", inner.clone())
            .prop_map(|(name, space, value)| format!("{name}{space}:{value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

/// One edit: a place, the number of bytes removed there, and the bytes inserted.
fn edit() -> impl Strategy<Value = (Index, usize, Vec<u8>)> {
    let byte = prop_oneof![prop::sample::select(b"{}[]:,\"\\ 019.-+eEtfnu\n\0".to_vec()), any::<u8>()];
    (any::<Index>(), 0..3_usize, prop::collection::vec(byte, 0..3))
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_accepted_if_serde_json_accepts_them(text in prop::collection::vec(any::<u8>(), 0..40)) {
        prop_assert_eq!(scan(&text).is_ok(), serde_json_accepts(&text));
    }

    #[test]
    fn texts_of_json_characters_are_accepted_if_serde_json_accepts_them(text in r#"[\[\]{}:,"\\ 01.eE+\-ua\n]{0,12}"#) {
        prop_assert_eq!(scan(text.as_bytes()).is_ok(), serde_json_accepts(text.as_bytes()));
    }

    #[test]
    fn mutated_json_is_accepted_if_serde_json_accepts_it(text in json(), edits in prop::collection::vec(edit(), 0..3)) {
        let mut text = text.into_bytes();
        for (place, removed, inserted) in edits {
            let from = place.index(text.len() + 1);
            let to = (from + removed).min(text.len());
            text.splice(from..to, inserted);
        }
        prop_assert_eq!(scan(&text).is_ok(), serde_json_accepts(&text), "{}", String::from_utf8_lossy(&text));
    }

    #[test]
    fn arbitrary_bytes_never_panic_the_parser(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = SegmentIdentifyPayload::parse(&body);
    }

    #[test]
    fn arbitrary_values_of_known_fields_never_panic_the_parser(field in 0..8_usize, value in json(), text in "\\PC{0,30}") {
        let names = ["userId", "traits", "timestamp", "messageId", "anonymousId", "context", "integrations", "type"];
        for value in [value, serde_json::to_string(&text).unwrap()] {
            let _ = SegmentIdentifyPayload::parse(format!("{{\"{}\":{value}}}", names[field]).as_bytes());
        }
    }
}
