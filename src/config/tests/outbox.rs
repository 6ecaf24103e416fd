//! Tests of the outbox's settings.

use super::read::{KEY, problem, settings};
use crate::config::OutboxPlace;
use std::time::Duration;

const URL: (&str, &str) = ("RELAY_OUTBOX_URL", "sqlite:///var/lib/segment-relay/outbox.db");

#[test]
fn the_outbox_is_on_only_if_its_url_is_set() {
    assert_eq!(settings(&[KEY]).unwrap().outbox, None);
    let others = [KEY, ("RELAY_OUTBOX_MAX_SIZE", "64MiB"), ("RELAY_IDEMPOTENCY_WINDOW", "1h")];
    assert_eq!(settings(&others).unwrap().outbox, None, "compose passes defaults");
    let outbox = settings(&[KEY, URL]).unwrap().outbox.unwrap();
    assert_eq!(outbox.place, OutboxPlace::Sqlite("/var/lib/segment-relay/outbox.db".into()));
    assert_eq!(outbox.max_bytes, 10 * 1024 * 1024 * 1024);
    assert_eq!(outbox.window, Duration::from_secs(24 * 60 * 60));
}

#[test]
fn sizes_are_bytes_or_have_a_unit() {
    let max_bytes = |size| settings(&[KEY, URL, ("RELAY_OUTBOX_MAX_SIZE", size)]).unwrap().outbox.unwrap().max_bytes;
    assert_eq!(max_bytes("64MiB"), 64 * 1024 * 1024);
    assert_eq!(max_bytes("1GiB"), 1024 * 1024 * 1024);
    assert_eq!(max_bytes("5MB"), 5_000_000);
    assert_eq!(max_bytes("1048576"), 1024 * 1024);
    for wrong in
        ["10", "1048575", "0", "-1", "-64MiB", "257TiB", "99999999999999999999GiB", "inf", "NaN", "much", "64 bits"]
    {
        problem("RELAY_OUTBOX_MAX_SIZE", wrong);
    }
}

#[test]
fn the_idempotency_window_is_at_most_a_year() {
    let window = |text| settings(&[KEY, URL, ("RELAY_IDEMPOTENCY_WINDOW", text)]).unwrap().outbox.unwrap().window;
    assert_eq!(window("250ms"), Duration::from_millis(250));
    assert_eq!(window("30days"), Duration::from_secs(30 * 24 * 60 * 60));
    assert!(problem("RELAY_IDEMPOTENCY_WINDOW", "366days").ends_with("at most 365days"));
    for wrong in ["0s", "24", "for ever"] {
        problem("RELAY_IDEMPOTENCY_WINDOW", wrong);
    }
}

#[test]
fn a_failing_call_is_given_up_after_a_day_or_a_time_of_at_most_a_year_or_never() {
    let give_up_after =
        |text| settings(&[KEY, URL, ("RELAY_GIVE_UP_AFTER", text)]).unwrap().outbox.unwrap().give_up_after;
    let day = Duration::from_secs(24 * 60 * 60);
    assert_eq!(settings(&[KEY, URL]).unwrap().outbox.unwrap().give_up_after, Some(day));
    assert_eq!(give_up_after("250ms"), Some(Duration::from_millis(250)));
    assert_eq!(give_up_after("365days"), Some(365 * day));
    for never in ["never", " never "] {
        assert_eq!(give_up_after(never), None);
    }
    assert!(problem("RELAY_GIVE_UP_AFTER", "366days").ends_with("must be at most 365days, or never"));
    for wrong in ["0s", "0", "-1s", "24", "Never", "never 5s", "for ever"] {
        problem("RELAY_GIVE_UP_AFTER", wrong);
    }
}

#[test]
fn any_other_url_is_refused_and_never_repeated() {
    for url in [
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite::memory:",
        "sqlite:outbox-s3cret.db",
        "sqlite:/var/outbox-s3cret.db",
        "sqlite://var/outbox-s3cret.db",
        "sqlite:///var/outbox-s3cret/",
        "sqlite:///var/s3cret/..",
        "sqlite:///var/outbox.db?mode=s3cret",
        "sqlite:///var/outbox.db#s3cret",
        "sqlite:///var/out%20box-s3cret.db",
        "sqlite:///var/\u{fffd}.db",
        "mysql://relay:s3cret@db/relay",
        "/var/lib/s3cret.db",
    ] {
        let problem = problem("RELAY_OUTBOX_URL", url);
        assert!(!problem.contains("s3cret"), "{problem}");
    }
}
