//! Dead letters as text for a terminal: a table, or JSON.
//!
//! Ids and reasons come from strangers. Some characters would change the terminal's colours, cursor, title or direction of
//! writing, so they are shown escaped.

use std::fmt::Write;

use anyhow::Context;
use comfy_table::{Table, presets};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The maximum length of an id, in characters: a UUID with a prefix fits. `--json` shows what the table cuts.
pub(in crate::cli) const MAX_ID_LENGTH: usize = 48;

/// The maximum length of a reason, in characters. The usual reasons fit, and a row stays readable.
pub(in crate::cli) const MAX_REASON_LENGTH: usize = 60;

/// A page of dead letters, each of which is the relay's JSON object.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeadLetterPage {
    pub(super) dead_letters: Vec<Box<RawValue>>,
    pub(super) next: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeadLetterRow {
    id: i64,
    /// An event has neither message id nor user.
    message_id: Option<String>,
    user_id: Option<String>,
    why: String,
    /// Nothing: `POST /customers`.
    source: Option<String>,
    /// There may have been no answer.
    status: Option<u16>,
    reason: String,
    attempts: u32,
    refused_at: String,
}

/// A heading, and a line for each dead letter, without what would control a terminal; or else `nothing`.
pub(super) fn render(letters: &[Box<RawValue>], nothing: &str) -> anyhow::Result<String> {
    if letters.is_empty() {
        return Ok(nothing.to_owned());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let or_dash = |text: Option<&str>| text.map_or("-".to_owned(), |text| cut(text, MAX_ID_LENGTH));
    table.set_header(["ID", "REFUSED AT", "WHY", "SOURCE", "STATUS", "ATTEMPTS", "USER ID", "MESSAGE ID", "REASON"]);
    for letter in letters {
        let letter: DeadLetterRow = serde_json::from_str(letter.get()).context("the answer is not that of a relay")?;
        table.add_row([
            letter.id.to_string(),
            cut(&letter.refused_at, MAX_ID_LENGTH),
            cut(&letter.why, MAX_ID_LENGTH),
            or_dash(letter.source.as_deref()),
            letter.status.map_or("-".to_owned(), |status| status.to_string()),
            letter.attempts.to_string(),
            or_dash(letter.user_id.as_deref()),
            or_dash(letter.message_id.as_deref()),
            cut(&letter.reason, MAX_REASON_LENGTH),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    Ok(table.trim_fmt())
}

/// Escapes the text and cuts it to `max` characters.
pub(in crate::cli) fn cut(text: &str, max: usize) -> String {
    let text = escape(text);
    match text.char_indices().nth(max) {
        None => text,
        Some(_) => text.chars().take(max - 1).chain(['…']).collect(),
    }
}

/// Escapes such characters as `\u{1b}`, and line breaks as `\n`.
pub(in crate::cli) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    escaped
}

/// The same JSON document on one line, with such characters escaped as JSON does it. In JSON they stand only within strings.
/// Line breaks and tabs stand only between tokens, and become spaces.
pub(in crate::cli) fn escape_json(json: &str) -> String {
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
    use super::{DeadLetterPage, cut, escape, escape_json, render};

    const PAGE: &str = r#"{"deadLetters":[
        {"id":12,"messageId":"m-12","userId":"c-1042","why":"refused","call":{"traits":{"age":1e999}},"status":400,"reason":"no such user",
         "attempts":3,"storedAt":"2026-11-22T06:28:00.000Z","refusedAt":"2026-11-22T06:28:01.000Z"},
        {"id":7,"messageId":null,"userId":null,"why":"unmapped","source":"shop","call":null,"event":"{}","headers":{},"status":null,
         "reason":"no id","attempts":0,"storedAt":"2026-11-22T06:27:00.000Z","refusedAt":"2026-11-22T06:27:02.000Z"},
        {"id":3,"messageId":"m-3","userId":"c\u001b[2J","why":"gave_up","source":null,"call":{},"status":null,"reason":"too\nlarge","attempts":1,
         "storedAt":"2026-11-22T06:27:00.000Z","refusedAt":"2026-11-22T06:27:01.000Z"}],"next":3}"#;

    #[test]
    fn a_dead_letter_is_a_line_and_its_cells_are_below_their_headings() {
        let page: DeadLetterPage = serde_json::from_str(PAGE).unwrap();
        assert_eq!(page.next, Some(3));
        let expected = "\
ID  REFUSED AT                WHY       SOURCE  STATUS  ATTEMPTS  USER ID     MESSAGE ID  REASON
12  2026-11-22T06:28:01.000Z  refused   -       400     3         c-1042      m-12        no such user
7   2026-11-22T06:27:02.000Z  unmapped  shop    -       0         -           -           no id
3   2026-11-22T06:27:01.000Z  gave_up   -       -       1         c\\u{1b}[2J  m-3         too\\nlarge";
        assert_eq!(render(&page.dead_letters, "nothing").unwrap(), expected);
        assert_eq!(render(&[], "nothing").unwrap(), "nothing");
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        assert_eq!(cut("ééééé", 5), "ééééé");
        assert_eq!(cut("éééééé", 5), "éééé…");
    }

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
