//! What the scanner takes and refuses: by example, and against serde_json on arbitrary and on mutated texts.

use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::Index;

use super::scan::Scanner;
use super::{PayloadError, SegmentIdentifyPayload};
use crate::fuzz::json::is_taken as oracle;

fn scan(text: &[u8]) -> Result<(), String> {
    let mut scanner = Scanner::new(text).map_err(message)?;
    scanner.value().map_err(message)?;
    scanner.end().map_err(message)
}

fn message(fault: impl Into<PayloadError>) -> String {
    fault.into().to_string()
}

#[track_caller]
fn refused(text: impl AsRef<[u8]>) -> String {
    scan(text.as_ref()).expect_err("this was taken")
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

#[test]
fn a_fault_says_what_and_where() {
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
fn what_only_looks_like_json_is_refused() {
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
fn the_whole_grammar_is_taken() {
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
fn a_name_twice_in_one_object_is_refused_at_every_depth_and_however_it_is_escaped() {
    let twice = "this name is there twice in one object";
    assert_eq!(refused(r#"{"a":1,"b":2,"a":3}"#), format!("{twice} at line 1 column 14"));
    assert_eq!(refused(r#"{"a":1,"\u0061":2}"#), format!("{twice} at line 1 column 8"));
    assert_eq!(refused(r#"[{"x":[{"":1,"":2}]}]"#), format!("{twice} at line 1 column 14"));
    assert_eq!(scan(br#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}],"A":0}"#), Ok(()));
}

#[test]
fn ten_thousand_names_are_compared_in_one_sort() {
    let names: Vec<String> = (0..10_000).map(|number| format!("\"{number:x}\":0")).collect();
    assert_eq!(scan(format!("{{{}}}", names.join(",")).as_bytes()), Ok(()));
    let at_the_end = format!("{{{},\"1\":0,\n\"\\u0030\":0}}", names.join(","));
    // The first repeated name in the document, not in the order of the sort.
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
fn nesting_ends_at_128_levels() {
    let fault = "arrays and objects are nested deeper than 128 levels at line 1 column 129";
    assert_eq!(scan(nested(128).as_bytes()), Ok(()));
    assert_eq!(refused(nested(129)), fault);
    assert_eq!(refused(nested(10_000)), fault);
    assert_eq!(refused("[".repeat(100_000)), fault);
    assert!(refused("{\"a\":".repeat(20_000)).starts_with("arrays and objects are nested deeper than 128 levels"));
    // Levels are left again.
    assert_eq!(scan(format!("[{}]", [nested(127), nested(127)].join(",")).as_bytes()), Ok(()));
}

/// Pieces of strings and names: few enough that names repeat, with every kind of escape and some that are none.
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

/// One edit: at a place, a number of bytes is replaced by others.
fn edit() -> impl Strategy<Value = (Index, usize, Vec<u8>)> {
    let byte = prop_oneof![prop::sample::select(b"{}[]:,\"\\ 019.-+eEtfnu\n\0".to_vec()), any::<u8>()];
    (any::<Index>(), 0..3_usize, prop::collection::vec(byte, 0..3))
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_judged_as_serde_json_judges_them(text in prop::collection::vec(any::<u8>(), 0..40)) {
        prop_assert_eq!(scan(&text).is_ok(), oracle(&text));
    }

    #[test]
    fn texts_of_json_characters_are_judged_as_serde_json_judges_them(text in r#"[\[\]{}:,"\\ 01.eE+\-ua\n]{0,12}"#) {
        prop_assert_eq!(scan(text.as_bytes()).is_ok(), oracle(text.as_bytes()));
    }

    #[test]
    fn mutated_json_is_judged_as_serde_json_judges_it(text in json(), edits in prop::collection::vec(edit(), 0..3)) {
        let mut text = text.into_bytes();
        for (place, removed, inserted) in edits {
            let from = place.index(text.len() + 1);
            let to = (from + removed).min(text.len());
            text.splice(from..to, inserted);
        }
        prop_assert_eq!(scan(&text).is_ok(), oracle(&text), "{}", String::from_utf8_lossy(&text));
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
