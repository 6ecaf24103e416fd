//! Which ids name a customer, and which name a call.

use super::error::PayloadError;
use super::id::is_invisible;
use super::payload::SegmentIdentifyPayload;

/// The fields that a body with this id in each of the three places breaks.
#[track_caller]
fn refused(id: &str) -> Vec<&'static str> {
    let ids = ["userId", "anonymousId", "messageId"];
    let is_refused = |field: &&str| {
        let mut body = serde_json::json!({"userId": "u", "traits": {}});
        body[*field] = id.into();
        match SegmentIdentifyPayload::parse(body.to_string().as_bytes()) {
            Ok(_) => false,
            Err(PayloadError::Invalid { broken }) => {
                assert_eq!((broken.len(), &broken[0].field), (1, &format!("/{field}")), "{id:?}");
                true
            }
            Err(error) => panic!("{id:?}: {error}"),
        }
    };
    ids.into_iter().filter(is_refused).collect()
}

#[test]
fn an_id_without_a_visible_character_is_refused() {
    for id in [
        "",
        " ",
        "\u{2003}\n",
        "\u{a0}",
        "\0",
        "\u{7f}",
        "\u{85}",
        "\u{ad}",
        "\u{34f}",
        "\u{61c}",
        "\u{115f}\u{1160}",
        "\u{17b4}",
        "\u{180e}",
        "\u{200b}",
        "\u{200d}",
        "\u{202e}",
        "\u{2060}",
        "\u{2065}",
        "\u{3000}",
        "\u{3164}",
        "\u{fe0f}",
        "\u{feff}",
        "\u{ffa0}",
        "\u{fff0}",
        "\u{1bca0}",
        "\u{1d173}",
        "\u{e0001}\u{e007f}",
        "\u{e0fff}",
        "\u{feff}\u{200b} \u{2060}\t\u{3164}\u{ad}\0",
    ] {
        assert_eq!(refused(id), ["userId", "anonymousId", "messageId"], "{id:?}");
    }
}

#[test]
fn a_placeholder_is_refused_in_any_case_and_between_any_invisible_characters() {
    let words = ["null", "undefined", "none", "nan", "true", "false", "anonymous", "[object Object]", "-1"];
    let zeros = ["0", "-", "--", "0-0", "00000000-0000-0000-0000-000000000000"];
    for word in words.into_iter().chain(zeros) {
        for id in [word.to_owned(), word.to_uppercase(), word.to_lowercase(), format!(" {word}\n")] {
            assert_eq!(refused(&id), ["userId", "anonymousId"], "{id:?}");
        }
        assert_eq!(refused(&format!("\u{feff}{word}\u{200b}\0")), ["userId", "anonymousId"], "{word}");
    }
}

#[test]
fn an_id_with_a_visible_character_that_is_no_placeholder_is_taken() {
    for id in [
        "1",
        "-2",
        "--1",
        "00001",
        "0.0",
        "nullable",
        "anonymous-7",
        "no one",
        "None of them",
        "nu\u{200b}ll",
        "c-1042",
        " c-1 ",
        "\u{feff}c-1",
        "é",
        // Not one of these is white space, a control character or Default_Ignorable: a letter of full width, a mark
        // without its letter, a braille cell without dots, a placeholder of an object, private use, a noncharacter.
        "\u{ff4e}\u{ff55}\u{ff4c}\u{ff4c}",
        "\u{301}",
        "\u{2800}",
        "\u{fffc}",
        "\u{e000}",
        "\u{fff9}",
        "\u{ffff}",
        "\u{e1000}",
    ] {
        assert_eq!(refused(id), [""; 0], "{id:?}");
    }
}

#[test]
fn the_invisible_characters_are_those_of_unicode() {
    let ours = ('\0'..=char::MAX).filter(|character| is_invisible(*character));
    assert!(ours.eq(crate::fuzz::invisible().iter().copied()));
}
