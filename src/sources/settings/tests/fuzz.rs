//! Fuzz target `sources`: any file of sources.

use std::path::Path;

use toml::{Table, Value};

use crate::fuzz::hold;
use crate::sources::settings::secrets::Secrets;
use crate::sources::settings::{ReadOptions, SourceTable};

/// The text in the corpus that stands for a secret.
const CANARY: &str = "canary";

const TOKENS: &[&str] = &[
    "\n",
    "\"",
    "'",
    "'''",
    "=",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    ".",
    ",",
    "#",
    "canary",
    "env:SET",
    "env:CANARY",
    "file:canary",
    "env:",
    "verify",
    "secrets",
    "map",
    "map_file",
    "key",
    "window",
    "write_key",
    "answer",
    "max_body",
    "on_error",
    "challenge",
    "url",
    "header",
    "example",
    "none",
    "token",
    "bearer",
    "basic",
    "shopify",
    "stripe",
    "{body}",
    "{timestamp}",
    "{signature}",
    "{url}",
    "{secret}",
    "header:x",
    "body:/a",
    "~2",
    "200",
    "8d",
    "1MiB",
    "99999999999999999999",
    "é",
    "\u{0}",
];

/// Whether a name in the file holds it: a key, or what stands in braces in a template. Names are shown.
fn names_hold_canary(value: &Value) -> bool {
    match value {
        Value::Table(table) => table.iter().any(|(name, value)| name.contains(CANARY) || names_hold_canary(value)),
        Value::Array(values) => values.iter().any(names_hold_canary),
        Value::String(text) => {
            let names = text.split('{').skip(1).map(|rest| rest.split('}').next().unwrap_or_default());
            names.into_iter().any(|name| name.contains(CANARY))
        }
        _ => false,
    }
}

#[test]
fn a_file_of_sources_is_right_or_every_problem_has_a_place_and_no_secret_is_shown() {
    hold("sources", TOKENS, |input| {
        let text = String::from_utf8_lossy(input);
        let options = ReadOptions {
            // Every value is one that no message may show.
            variable: &|name| (name == "SET").then(|| "whsec_canarycanarycanarycanarycana".to_owned()),
            has_outbox: true,
            admin_token: None,
            has_stand_ins: false,
        };
        // Nothing is there.
        let secrets = Secrets { directory: Path::new("/dev/null"), options: &options };
        let shows_names = text.parse::<Table>().is_ok_and(|table| names_hold_canary(&Value::Table(table)));
        let lines = match SourceTable::parse("sources.toml", &text, &secrets) {
            Ok(table) => {
                assert!(table.iter().all(|source| source.max_body <= 1024 * 1024 && !source.window.is_zero()));
                table.warnings()
            }
            Err(problems) => {
                assert!(!problems.lines().is_empty() && problems.lines().len() <= 101);
                let has_place = |line: &String| line.starts_with("sources.toml:") && !line.contains('\n');
                assert!(problems.lines().iter().all(has_place), "{problems}");
                problems.lines().to_vec()
            }
        };
        assert!(shows_names || lines.iter().all(|line| !line.contains(CANARY)), "{lines:?}");
    });
}
