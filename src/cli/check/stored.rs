//! The names of rows that an outbox has wherever it is, and the rows of what is stored of sources.

use std::collections::BTreeMap;

use super::row::Row;
use crate::outbox::sqlite::StoredOfSource;
use crate::sources::settings::SourceTable;

pub(super) const FILE: &str = "outbox";
pub(super) const VERSION: &str = "outbox-version";
pub(super) const SOURCES: &str = "outbox-sources";
pub(super) const SERVER: &str = "outbox-server";
pub(super) const RIGHTS: &str = "outbox-rights";
pub(super) const STANDBY: &str = "outbox-standby";

/// What is stored of sources that are not configured.
pub(super) fn sources(
    stored: BTreeMap<String, StoredOfSource>,
    table: Option<&SourceTable>,
    which_letters: &str,
) -> Vec<Row> {
    let mut rows = Vec::new();
    let Some(table) = table else {
        return vec![Row::skipped(SOURCES, "the sources are not right yet")];
    };
    for (name, StoredOfSource { calls, letters }) in stored {
        if table.get(&name).is_none() {
            let found =
                format!("the source {name} is not configured; its waiting calls: {calls}, {which_letters}: {letters}");
            rows.push(
                Row::warning(SOURCES, found).advise(
                    "They wait. Configure it again, or give its calls up (parked give-up, dead-letters discard).",
                ),
            );
        }
    }
    if rows.is_empty() {
        rows.push(Row::ok(SOURCES, "all that is stored is of sources that are configured, or of none"));
    }
    rows
}
