//! The command `dead-letters` with filters, and its export.

use serde_json::Value;

use super::{command, page, users, with_refused};
use crate::harness::eventually;

const FOUR: [&str; 4] = ["c-1", "c-2", "c-3", "c-4"];

#[tokio::test]
async fn the_command_line_lists_replays_and_discards_by_filter() {
    let durable = with_refused(&FOUR).await;
    durable.segment().heal().await;
    let letters = durable.dead_letters().await;
    let (code, lines, errors) = command(&durable, &["list", "--json", "--user-id", "c-2"]).await;
    assert_eq!((code, lines.len()), (Some(0), 1), "{errors:?}");
    assert_eq!(serde_json::from_str::<Value>(&lines[0]).unwrap(), letters[2]);
    let until = letters[0]["refusedAt"].as_str().unwrap();
    let (code, lines, _) = command(&durable, &["list", "--why", "gave_up", "--status", "null", "--until", until]).await;
    assert_eq!((code, &*lines), (Some(0), &["No dead letter fits.".to_owned()][..]));

    let (code, lines, errors) = command(&durable, &["replay", "--user-id", "c-1", "--per-second", "50"]).await;
    assert_eq!((code, &*lines), (Some(0), &["replaying 1 call, 50 a second".to_owned()][..]), "{errors:?}");
    eventually(async || durable.segment().received().await.len() == 1).await;
    let before = letters[1]["id"].to_string();
    let (code, lines, errors) = command(&durable, &["discard", "--before", &before]).await;
    assert_eq!((code, &*lines), (Some(0), &["discarded 1 dead letter".to_owned()][..]), "{errors:?}");
    assert_eq!(users(&page(&durable, "").await), ["c-4", "c-3"]);
    let (code, lines, _) = command(&durable, &["discard", "--all"]).await;
    assert_eq!((code, &*lines), (Some(0), &["discarded 2 dead letters".to_owned()][..]));
}

#[tokio::test]
async fn the_command_line_refuses_to_guess_which_letters_are_meant() {
    let durable = with_refused(&["c-1"]).await;
    for wrong in [
        &["replay"][..],
        &["discard"],
        &["replay", "1", "--user-id", "c-1"],
        &["discard", "1", "--all"],
        &["discard", "--all", "--user-id", "c-1"],
        &["replay", "--all", "--why", "refused"],
        &["replay", "1", "--per-second", "5"],
        &["replay", "--per-second", "5"],
    ] {
        let (code, lines, errors) = command(&durable, wrong).await;
        assert_eq!((code, lines.len(), errors.is_empty()), (Some(2), 0, false), "{wrong:?}: {lines:?}");
    }
    let (code, _, errors) = command(&durable, &["discard", "--status", "zero"]).await;
    assert_eq!(code, Some(1));
    assert!(errors[0].contains("invalid_payload"), "{errors:?}");
    assert_eq!(durable.dead_letters().await.len(), 1);
}

#[tokio::test]
async fn the_export_has_every_letter_that_fits_one_on_a_line() {
    let durable = with_refused(&FOUR).await;
    let letters = durable.dead_letters().await;
    let parse =
        |lines: Vec<String>| -> Vec<Value> { lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let (code, lines, errors) = command(&durable, &["export"]).await;
    assert_eq!((code, errors.len()), (Some(0), 0), "{errors:?}");
    assert_eq!(parse(lines), letters);
    let before = letters[1]["id"].to_string();
    let (code, lines, _) = command(&durable, &["export", "--before", &before, "--why", "refused"]).await;
    assert_eq!((code, parse(lines)), (Some(0), letters[2..].to_vec()));
    let (code, lines, _) = command(&durable, &["export", "--user-id", "c-9"]).await;
    assert_eq!((code, lines.len()), (Some(0), 0));
}
