//! Escapes text for a terminal.
//!
//! Ids and reasons come from strangers. Some characters would change the terminal's colours, cursor, title or direction of
//! writing, so they are shown escaped.

use std::fmt::Write;

/// Escapes such characters as `\u{1b}`, and line breaks as `\n`.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    escaped
}

/// The same JSON document on one line, with such characters escaped as JSON does it. In JSON they stand only within strings.
/// Line breaks and tabs stand only between tokens, and become spaces.
pub(super) fn escape_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' | '\r' | '\t' => escaped.push(' '),
            // Four digits suffice for all of them. Writing into a string cannot fail.
            c if is_unsafe(c) => drop(write!(escaped, "\\u{:04x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Control characters, and characters that change the direction of writing or break a line.
fn is_unsafe(c: char) -> bool {
    let is_direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || is_direction || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::{escape, escape_json};

    #[test]
    fn characters_that_control_a_terminal_are_escaped() {
        assert_eq!(
            escape("a\u{1b}[31m\u{9b}0m\u{202e}\u{7f}\r\u{2028}é\\\"'"),
            "a\\u{1b}[31m\\u{9b}0m\\u{202e}\\u{7f}\\r\\u{2028}é\\\"'"
        );
    }

    #[test]
    fn escaped_json_is_the_same_document_on_one_line() {
        let json = "{\n\t\"reason\":\"a\u{9b}31m\u{202e}\u{7f}é\"}";
        let escaped = escape_json(json);
        assert_eq!(escaped, "{  \"reason\":\"a\\u009b31m\\u202e\\u007fé\"}");
        let parse = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(parse(&escaped), parse(json));
    }
}
