//! The rows of the environment: what is wrong with it, what is allowed and probably a mistake, and how senders prove who they are.

use super::row::Row;
use crate::config::{Problems, Settings};

const SETTINGS: &str = "settings";
const SENDERS: &str = "senders";
const ADVICE: &str = "docs/settings.md and config/relay.env explain every setting.";

pub(super) fn rows(settings: &Settings, problems: &Problems) -> Vec<Row> {
    let mut rows: Vec<Row> = problems.lines().iter().map(|line| Row::failed(SETTINGS, line).advise(ADVICE)).collect();
    let is_stand_in = problems.name_any(&["SEGMENT_WRITE_KEY", "SEGMENT_ENDPOINT"]);
    let warnings = if is_stand_in { Vec::new() } else { settings.other_warnings() };
    rows.extend(warnings.into_iter().map(|warning| Row::warning(SETTINGS, warning)));
    if rows.is_empty() {
        rows.push(Row::ok(SETTINGS, "all are right"));
    }
    rows.extend(senders(settings, problems));
    rows
}

fn senders(settings: &Settings, problems: &Problems) -> Vec<Row> {
    if problems.name_any(&["RELAY_AUTH"]) {
        return vec![Row::skipped(SENDERS, "RELAY_AUTH or a setting of it is wrong")];
    }
    let warnings: Vec<Row> =
        settings.auth.warnings().into_iter().map(|warning| Row::warning(SENDERS, warning)).collect();
    if settings.auth.is_none() {
        let advice = "Set RELAY_AUTH and RELAY_AUTH_SECRETS, unless a proxy or a firewall keeps others away.";
        return warnings.into_iter().map(|row| row.advise(advice)).collect();
    }
    let (name, count) = (settings.auth.name(), settings.auth.secrets.len());
    let plural = if count == 1 { "" } else { "s" };
    let proven = Row::ok(SENDERS, format!("RELAY_AUTH is {name}, with {count} secret{plural}"));
    let advice = "Make a new secret, for example with openssl rand -hex 32, and give it to the sender too.";
    if warnings.is_empty() { vec![proven] } else { warnings.into_iter().map(|row| row.advise(advice)).collect() }
}
