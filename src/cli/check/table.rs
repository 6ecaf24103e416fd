//! The rows as a table for people, or as JSON for programs.

use std::io::{IsTerminal, stdout};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use serde::Serialize;

use super::row::{Row, Verdict};
use crate::cli::dead_letters::table::{escape, escape_json};

/// In a narrower terminal than this, in columns, the terminal breaks the lines.
const MIN_WIDTH: u16 = 60;

/// Begins what to do about a finding, on a line of its own.
const ADVICE: &str = "-> ";

/// The columns of the terminal on standard output. `None` if there is no terminal, or it does not say: then no line is broken.
pub(super) fn terminal_width() -> Option<u16> {
    let stdout = stdout();
    let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(stdout)).and_then(Result::ok);
    size.map(|size| size.ws_col).filter(|columns| *columns > 0)
}

/// A heading, a line or more for each row, and how many failed.
pub(super) fn render(rows: &[Row], width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.max(MIN_WIDTH));
    }
    table.set_header(["CHECK", "RESULT", "FOUND"]);
    for (number, row) in rows.iter().enumerate() {
        let found = row.found().lines().map(escape);
        // Rows with the same advice follow each other; it is behind the last one.
        let is_repeated = rows.get(number + 1).is_some_and(|next| next.advice() == row.advice());
        let advice = row.advice().filter(|_| !is_repeated).map(|advice| format!("{ADVICE}{}", escape(advice)));
        let lines: Vec<String> = found.chain(advice).collect();
        table.add_row([row.name(), row.verdict().as_str(), &lines.join("\n")]);
    }
    for (number, column) in table.column_iter_mut().enumerate() {
        let is_last = number == 2;
        column.set_padding((0, if is_last { 0 } else { 2 }));
        if !is_last {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    format!("{}\n\n{}", table.trim_fmt(), summary(rows))
}

fn summary(rows: &[Row]) -> String {
    let count = |verdict| rows.iter().filter(|row| row.verdict() == verdict).count();
    let warnings = match count(Verdict::Warning) {
        0 => "no warnings".to_owned(),
        1 => "1 warning".to_owned(),
        number => format!("{number} warnings"),
    };
    match count(Verdict::Failed) {
        0 => format!("Nothing failed, {warnings}."),
        number => format!("{number} failed, {warnings}."),
    }
}

/// One document on one line.
pub(super) fn json(rows: &[Row], ok: bool) -> anyhow::Result<String> {
    #[derive(Serialize)]
    struct Report<'a> {
        ok: bool,
        checks: &'a [Row],
    }
    Ok(escape_json(&serde_json::to_string(&Report { ok, checks: rows })?))
}

#[cfg(test)]
mod tests {
    use super::{json, render};
    use crate::cli::check::row::Row;

    fn rows() -> [Row; 4] {
        [
            Row::ok("settings", "all are right"),
            Row::failed("dns", "no answer").advise("Is the name right?"),
            Row::failed("dns", "no address for a\u{1b}[2J.example: nobody knows this name")
                .advise("Is the name right?"),
            Row::warning("clock", "first\n  second"),
        ]
    }

    #[test]
    fn a_row_is_a_line_and_its_advice_is_on_the_next_one() {
        let expected = "\
CHECK     RESULT   FOUND
settings  ok       all are right
dns       failed   no answer
dns       failed   no address for a\\u{1b}[2J.example: nobody knows this name
                   -> Is the name right?
clock     warning  first
                     second

2 failed, 1 warning.";
        assert_eq!(render(&rows(), None), expected);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let table = render(&rows(), Some(60));
        assert!(table.lines().all(|line| line.chars().count() <= 60) && table.lines().count() > 9, "{table}");
    }

    #[test]
    fn the_json_is_one_line_that_controls_no_terminal() {
        let json = json(&rows(), false).unwrap();
        let expected = r#"{"ok":false,"checks":[{"name":"settings","result":"ok","found":"all are right","advice":null},{"name":"dns","result":"failed","found":"no answer","advice":"Is the name right?"},{"name":"dns","result":"failed","found":"no address for a\u001b[2J.example: nobody knows this name","advice":"Is the name right?"},{"name":"clock","result":"warning","found":"first\n  second","advice":null}]}"#;
        assert_eq!(json, expected);
    }
}
