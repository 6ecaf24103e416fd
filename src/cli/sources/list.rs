//! `segment-relay sources list`: the sources of the file, and the presets.

use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{Table, presets};

use crate::auth;
use crate::cli::output::print;
use crate::sources::settings::{KeyPart, SourceSettings, SourceTable, StandIn};

pub(super) fn run(table: &SourceTable) -> anyhow::Result<ExitCode> {
    if table.names().next().is_none() {
        print("no sources: RELAY_SOURCES is not set, or its file has none")?;
    } else {
        let rows = table.iter().map(|source| of_source(source));
        print(aligned(["SOURCE", "VERIFY", "KEY", "WINDOW", "ANSWER", "EXAMPLES"], rows))?;
    }
    for StandIn { place, .. } in table.stand_ins() {
        print(format_args!("missing:  {place} is not set, or cannot be read"))?;
    }
    for warning in table.warnings() {
        print(format_args!("warning:  {warning}"))?;
    }
    let rows = auth::presets().iter().map(|preset| {
        let answer = preset.answer.map_or("-".to_owned(), |answer| answer.to_string());
        [preset.name.to_owned(), key(preset.key.iter().map(ToString::to_string)), answer, preset.known.to_owned()]
    });
    print(format_args!("\n{}", aligned(["PRESET", "KEY", "ANSWER", "WHAT IS KNOWN"], rows)))?;
    Ok(ExitCode::SUCCESS)
}

fn of_source(source: &SourceSettings) -> [String; 6] {
    let parts = source.key.iter().map(|part| match part {
        KeyPart::Header(name) => format!("header:{name}"),
        KeyPart::Body(pointer) => format!("body:{pointer}"),
    });
    [
        source.name.to_string(),
        source.verify.clone(),
        key(parts),
        in_days(source.window),
        source.answer.map_or("-".to_owned(), |answer| answer.to_string()),
        source.examples.len().to_string(),
    ]
}

/// Whole days, or seconds: `8d`, `5400s`.
fn in_days(window: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    let seconds = window.as_secs();
    if seconds.is_multiple_of(DAY) { format!("{}d", seconds / DAY) } else { format!("{seconds}s") }
}

fn key(parts: impl Iterator<Item = String>) -> String {
    let text = parts.collect::<Vec<_>>().join(" ");
    if text.is_empty() { "-".to_owned() } else { text }
}

fn aligned<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}
