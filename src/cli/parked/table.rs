//! Parked users as a table for a terminal.

use comfy_table::{Table, presets};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::dead_letters::table::{MAX_ID_LENGTH, MAX_REASON_LENGTH, cut};
use crate::cli::operate::parse;

/// A page of parked users, each of whom is the relay's JSON object.
#[derive(Deserialize)]
pub(super) struct ParkedPage {
    pub(super) parked: Vec<Box<RawValue>>,
    pub(super) next: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ParkedRow {
    id: i64,
    user_id: String,
    message_id: String,
    calls: u64,
    since: String,
    attempts: u32,
    status: Option<u16>,
    reason: String,
    retry_at: String,
}

/// A heading, and a line for each parked user, without what would control a terminal.
pub(super) fn render(users: &[Box<RawValue>]) -> anyhow::Result<String> {
    if users.is_empty() {
        return Ok("Nobody is parked.".to_owned());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["ID", "SINCE", "CALLS", "ATTEMPTS", "NEXT ATTEMPT", "STATUS", "USER ID", "MESSAGE ID", "REASON"]);
    for user in users {
        let user: ParkedRow = parse(user.get())?;
        table.add_row([
            user.id.to_string(),
            cut(&user.since, MAX_ID_LENGTH),
            user.calls.to_string(),
            user.attempts.to_string(),
            cut(&user.retry_at, MAX_ID_LENGTH),
            user.status.map_or("-".to_owned(), |status| status.to_string()),
            cut(&user.user_id, MAX_ID_LENGTH),
            cut(&user.message_id, MAX_ID_LENGTH),
            cut(&user.reason, MAX_REASON_LENGTH),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    Ok(table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::{ParkedPage, render};

    const PAGE: &str = r#"{"parked":[
        {"id":12,"userId":"c-1042","messageId":"m-12","calls":3,"since":"2026-11-22T06:28:00.000Z","attempts":9,
         "status":null,"reason":"there was no answer","retryAt":"2026-11-22T06:33:00.000Z"},
        {"id":3,"userId":"c\u001b[2J","messageId":"m-3","calls":1,"since":"2026-11-22T06:27:00.000Z","attempts":40,
         "status":503,"reason":"status","retryAt":"2026-11-22T06:32:00.000Z"}],"next":3}"#;

    #[test]
    fn a_parked_user_is_a_line_and_its_cells_are_below_their_headings() {
        let page: ParkedPage = serde_json::from_str(PAGE).unwrap();
        assert_eq!(page.next, Some(3));
        let expected = "\
ID  SINCE                     CALLS  ATTEMPTS  NEXT ATTEMPT              STATUS  USER ID     MESSAGE ID  REASON
12  2026-11-22T06:28:00.000Z  3      9         2026-11-22T06:33:00.000Z  -       c-1042      m-12        there was no answer
3   2026-11-22T06:27:00.000Z  1      40        2026-11-22T06:32:00.000Z  503     c\\u{1b}[2J  m-3         status";
        assert_eq!(render(&page.parked).unwrap(), expected);
        assert_eq!(render(&[]).unwrap(), "Nobody is parked.");
    }
}
