//! Dead letters as a reader sees them: a table, in which nothing can fool a terminal.
//!
//! Ids and reasons come from strangers. A terminal takes some characters for orders (colours, the cursor, the title) or
//! turns the direction of writing, so these are shown escaped.

use std::fmt::Write;

use anyhow::Context;
use serde::Deserialize;

/// The longest user id or messageId that is shown whole, in characters: a UUID with a prefix fits.
const LONGEST_ID: usize = 48;

/// The longest reason that is shown whole, in characters. What is left out is in `--json`.
const LONGEST_REASON: usize = 60;

const HEADINGS: [&str; 7] = ["ID", "REFUSED AT", "STATUS", "ATTEMPTS", "USER ID", "MESSAGE ID", "REASON"];

/// A page, without the calls themselves.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    pub(super) dead_letters: Vec<Letter>,
    pub(super) next: Option<i64>,
}

/// What the table shows of a letter.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Letter {
    id: i64,
    message_id: String,
    user_id: String,
    status: u16,
    reason: String,
    attempts: u32,
    refused_at: String,
}

/// The relay's answer, read.
pub(super) fn page(answer: &str) -> anyhow::Result<Page> {
    serde_json::from_str(answer).context("the answer is not that of a relay")
}

/// How many calls were replayed, in the relay's answer.
pub(super) fn replayed(answer: &str) -> anyhow::Result<u64> {
    #[derive(Deserialize)]
    struct Replayed {
        replayed: u64,
    }
    let Replayed { replayed } = serde_json::from_str(answer).context("the answer is not that of a relay")?;
    Ok(replayed)
}

/// The table, with a line for each letter.
pub(super) fn of(page: &Page) -> String {
    if page.dead_letters.is_empty() {
        return "There are no dead letters.\n".to_owned();
    }
    let rows: Vec<_> = page.dead_letters.iter().map(row).collect();
    let heading = HEADINGS.map(str::to_owned);
    let width = |column: usize| {
        let cells = rows.iter().chain([&heading]).map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(width);
    let mut table = String::new();
    for row in [&heading].into_iter().chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing into a string cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

fn row(letter: &Letter) -> [String; HEADINGS.len()] {
    [
        letter.id.to_string(),
        cut(&letter.refused_at, LONGEST_ID),
        letter.status.to_string(),
        letter.attempts.to_string(),
        cut(&letter.user_id, LONGEST_ID),
        cut(&letter.message_id, LONGEST_ID),
        cut(&letter.reason, LONGEST_REASON),
    ]
}

/// Harmless, on one line, and no longer than so many characters.
fn cut(text: &str, longest: usize) -> String {
    let text = harmless(text);
    match text.char_indices().nth(longest) {
        None => text,
        Some(_) => text.chars().take(longest - 1).chain(['…']).collect(),
    }
}

/// The text with what a terminal might obey escaped as `\u{1b}`, and line breaks as `\n`.
pub(super) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// JSON with the same characters escaped as JSON does it. They stand only within strings there, but for line breaks and tabs,
/// which stand only outside: it stays the same document.
pub(super) fn harmless_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if is_obeyed(c) && !matches!(c, '\n' | '\r' | '\t') {
            // All of these have four digits.
            let _ = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Control characters, and those that turn the direction of writing or break a line.
fn is_obeyed(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::{cut, harmless, harmless_json, of, page, replayed};

    const PAGE: &str = r#"{"deadLetters":[
        {"id":12,"messageId":"m-12","userId":"c-1042","call":{"traits":{"age":1e999}},"status":400,"reason":"no such user",
         "attempts":3,"storedAt":"2026-11-22T06:28:00.000Z","refusedAt":"2026-11-22T06:28:01.000Z"},
        {"id":3,"messageId":"m-3","userId":"c\u001b[2J","call":{},"status":413,"reason":"too\nlarge","attempts":1,
         "storedAt":"2026-11-22T06:27:00.000Z","refusedAt":"2026-11-22T06:27:01.000Z"}],"next":3}"#;

    #[test]
    fn a_letter_is_a_line_and_the_columns_stand_below_their_headings() {
        let page = page(PAGE).unwrap();
        assert_eq!(page.next, Some(3));
        let expected = "\
ID  REFUSED AT                STATUS  ATTEMPTS  USER ID     MESSAGE ID  REASON
12  2026-11-22T06:28:01.000Z  400     3         c-1042      m-12        no such user
3   2026-11-22T06:27:01.000Z  413     1         c\\u{1b}[2J  m-3         too\\nlarge
";
        assert_eq!(of(&page), expected);
        assert_eq!(of(&super::page(r#"{"deadLetters":[],"next":null}"#).unwrap()), "There are no dead letters.\n");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        assert_eq!(
            harmless("a\u{1b}[31m\u{9b}0m\u{202e}\u{7f}\r\u{2028}é\\\"'"),
            "a\\u{1b}[31m\\u{9b}0m\\u{202e}\\u{7f}\\r\\u{2028}é\\\"'"
        );
    }

    #[test]
    fn json_stays_the_same_document() {
        let json = "{\n\t\"reason\":\"a\u{9b}31m\u{202e}\u{7f}é\"}";
        let shown = harmless_json(json);
        assert_eq!(shown, "{\n\t\"reason\":\"a\\u009b31m\\u202e\\u007fé\"}");
        let read = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(read(&shown), read(json));
    }

    #[test]
    fn what_is_too_long_is_cut_by_characters() {
        assert_eq!(cut("ééééé", 5), "ééééé");
        assert_eq!(cut("éééééé", 5), "éééé…");
    }

    #[test]
    fn an_answer_that_is_not_the_relays_is_no_page() {
        assert!(page("<html>").is_err() && replayed("{}").is_err());
        assert_eq!(replayed(r#"{"replayed":7}"#).unwrap(), 7);
    }
}
