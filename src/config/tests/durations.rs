//! Tests of the formats of durations.

use std::time::Duration;

use super::read::{KEY, problem, settings};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn window(text: &str) -> Duration {
    let outbox = ("RELAY_OUTBOX_URL", "sqlite:///var/lib/segment-relay/outbox.db");
    let settings = settings(&[KEY, outbox, ("RELAY_IDEMPOTENCY_WINDOW", text)]);
    settings.unwrap_or_else(|problems| panic!("{text}: {problems:?}")).outbox.unwrap().window
}

#[test]
fn the_documented_formats_are_read() {
    for (text, expected) in [
        ("5s", Duration::from_secs(5)),
        ("250ms", Duration::from_millis(250)),
        ("2m", Duration::from_secs(2 * MINUTE)),
        ("24h", Duration::from_secs(DAY)),
        ("30days", Duration::from_secs(30 * DAY)),
        ("365days", Duration::from_secs(365 * DAY)),
    ] {
        assert_eq!(window(text), expected, "{text}");
    }
}

#[test]
fn every_unit_of_a_fixed_length_is_read_by_all_its_names() {
    let units: [(&[&str], Duration); 8] = [
        (&["ns", "nsec"], Duration::from_nanos(7)),
        (&["us", "usec", "µs"], Duration::from_micros(7)),
        (&["ms", "msec", "millis"], Duration::from_millis(7)),
        (&["s", "sec", "secs", "second", "seconds"], Duration::from_secs(7)),
        (&["m", "min", "mins", "minute", "minutes"], Duration::from_secs(7 * MINUTE)),
        (&["h", "hr", "hrs", "hour", "hours"], Duration::from_secs(7 * HOUR)),
        (&["d", "day", "days"], Duration::from_secs(7 * DAY)),
        (&["w", "wk", "wks", "week", "weeks"], Duration::from_secs(7 * 7 * DAY)),
    ];
    for (names, expected) in units {
        for name in names {
            assert_eq!(window(&format!("7{name}")), expected, "{name}");
            assert_eq!(window(&format!("7 {name}")), expected, "{name}");
        }
    }
}

#[test]
fn several_units_are_added() {
    let hour_and_a_half = Duration::from_secs(90 * MINUTE);
    for text in ["1h30m", "1h 30m", "1hour 30min", "90m", " 90m ", "5400s", "89m60s", "1h 29m 59s 1000ms"] {
        assert_eq!(window(text), hour_and_a_half, "{text}");
    }
    assert_eq!(window("1day 12h"), Duration::from_secs(36 * HOUR));
    assert_eq!(window("2w1d"), Duration::from_secs(15 * DAY));
    assert_eq!(window("3s500us"), Duration::from_micros(3_000_500));
}

#[test]
fn zero_needs_no_unit() {
    for text in ["0", "0s", "0ms"] {
        assert_eq!(settings(&[KEY, ("RELAY_SHUTDOWN_DELAY", text)]).unwrap().shutdown_delay, Duration::ZERO, "{text}");
    }
}

#[test]
fn an_idle_connection_stays_open_for_a_second_to_a_day() {
    for (text, seconds) in [("1s", 1), ("1000ms", 1), ("620s", 620), ("24h", DAY)] {
        let settings = settings(&[KEY, ("RELAY_KEEP_ALIVE", text)]).unwrap();
        assert_eq!(settings.keep_alive, Duration::from_secs(seconds), "{text}");
    }
    for text in ["0", "0s", "999ms", "25h", "never", "-1s"] {
        assert!(settings(&[KEY, ("RELAY_KEEP_ALIVE", text)]).is_err(), "{text}");
    }
}

#[test]
fn dead_letters_are_kept_for_up_to_ten_years_or_for_ever() {
    let outbox = ("RELAY_OUTBOX_URL", "sqlite:///var/lib/segment-relay/outbox.db");
    let retention = |text| {
        let settings = settings(&[KEY, outbox, ("RELAY_DEAD_LETTER_RETENTION", text)]);
        settings.unwrap_or_else(|problems| panic!("{text}: {problems:?}")).outbox.unwrap().dead_letter_retention
    };
    assert_eq!(
        settings(&[KEY, outbox]).unwrap().outbox.unwrap().dead_letter_retention,
        Some(Duration::from_secs(30 * DAY))
    );
    assert_eq!(retention("3650days"), Some(Duration::from_secs(3650 * DAY)));
    assert_eq!([retention("never"), retention(" never ")], [None, None]);
    for (text, expected) in [
        ("3651days", "must be at most 3650days, or never"),
        ("0s", "must be more than 0s, or never"),
        ("Never", "must be a duration such as 5s, 250ms or 2m, or never"),
        ("off", "must be a duration such as 5s, 250ms or 2m, or never"),
    ] {
        let problem = problem("RELAY_DEAD_LETTER_RETENTION", text);
        assert!(problem.ends_with(expected), "{text}: {problem}");
    }
}

#[test]
fn other_formats_and_units_of_a_varying_length_are_refused() {
    for text in [
        "5",
        "1.5",
        "s",
        "soon",
        "-5s",
        "5s ago",
        "5 parsecs",
        "5s secret",
        "1month",
        "1y",
        "9223372036854775807s",
        "99999999999999999999s",
        "-9223372036854775808s",
    ] {
        let problem = problem("RELAY_SHUTDOWN_GRACE", text);
        assert!(problem.ends_with("must be a duration such as 5s, 250ms or 2m"), "{text}: {problem}");
    }
    assert!(problem("RELAY_SHUTDOWN_GRACE", "25h").ends_with("must be at most 24h"));
    assert!(problem("SEGMENT_TIMEOUT", "0s").ends_with("must be more than 0s"));
}
