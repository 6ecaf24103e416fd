//! How the relay is, in one sentence for whoever is on call. Pure: the reports and the time are arguments.

use jiff::Timestamp;
use serde::Serialize;

use super::report::{OutboxReport, SegmentReport};
use crate::outbox::FleetReport;

/// A call that waits for longer is worth a word while Segment is well.
const LONG_WAIT_SECONDS: u64 = 60;

/// So many failures in a row are worth a word while the gate is open. One or two are usual where a few calls fail.
const MANY_IN_A_ROW: u32 = 3;

/// Whether somebody has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Well,
    /// Something to look at, when there is time.
    Notice,
    /// Customers do not get through.
    Trouble,
}

/// One sentence, and how bad it is.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Summary {
    pub(super) level: Level,
    pub(super) text: String,
}

/// What the sentence is made of.
pub(super) struct Facts<'a> {
    pub(super) is_stopping: bool,
    pub(super) segment: &'a SegmentReport,
    pub(super) outbox: Option<&'a OutboxReport>,
    pub(super) fleet: Option<&'a FleetReport>,
    /// Calls that were refused or given up in the last 15 minutes.
    pub(super) refused_lately: u64,
    pub(super) delivered_per_second: Option<f64>,
    pub(super) now: Timestamp,
}

impl Summary {
    /// The worst of what is known comes first.
    pub(super) fn of(facts: &Facts<'_>) -> Self {
        let Facts { segment, outbox, .. } = facts;
        let (level, text) = if facts.is_stopping {
            (Level::Notice, format!("The relay is stopping; it finishes what is in flight{}.", waiting_then(*outbox)))
        } else if let Some(trouble) = outbox.and_then(|outbox| outbox.trouble) {
            (Level::Trouble, format!("No customer can be stored: {trouble}{}.", and_segment(facts)))
        } else if facts.fleet.is_some_and(|fleet| fleet.move_unfinished) {
            let text = "No relay delivers until `segment-relay move` into this outbox has ended";
            (Level::Trouble, format!("{text}{}.", consequence(*outbox)))
        } else if facts.fleet.is_some_and(|fleet| fleet.delivering.is_none()) {
            (Level::Trouble, format!("No relay delivers{}.", consequence(*outbox)))
        } else if segment.gate.shut {
            let level = match segment.gate.code {
                Some("segment_rate_limited") => Level::Notice,
                _ => Level::Trouble,
            };
            (level, format!("{}{}.", segments_trouble(facts), consequence(*outbox)))
        } else if let [first, ..] = &segment.refused_sources[..] {
            let others = match segment.refused_sources.len() {
                1 => String::new(),
                more => format!(" and {}", counted(more as u64 - 1, "other source", "other sources")),
            };
            (Level::Trouble, format!("Segment refuses the write key of {first}{others}{}.", consequence(*outbox)))
        } else if segment.failed_in_a_row >= MANY_IN_A_ROW {
            // The gate stays open for a while after acceptances, because each call may fail for a reason of its own.
            let waiting = outbox.map(|outbox| consequence(Some(outbox))).unwrap_or_default();
            (
                Level::Notice,
                format!("The last {} requests to Segment failed{waiting}.", thousands(segment.failed_in_a_row.into())),
            )
        } else if let Some(source) = outbox.and_then(|outbox| outbox.unconfigured_sources.first()) {
            let calls = counted(source.calls, "customer waits", "customers wait");
            (Level::Notice, format!("{calls} because the source {} is not configured any more.", source.name))
        } else if let Some(users) = outbox.map(|outbox| outbox.parked.users).filter(|users| *users > 0) {
            let parked = counted(
                users,
                "customer fails on its own and is tried again",
                "customers fail on their own and are tried again",
            );
            (Level::Notice, format!("Segment accepts calls, but {parked} (parked)."))
        } else if facts.refused_lately > 0 {
            let calls = counted(facts.refused_lately, "call", "calls");
            (Level::Notice, format!("Segment accepts calls, but {calls} failed for good in the last 15 minutes."))
        } else if let Some(age) = outbox.and_then(|outbox| outbox.oldest_seconds.filter(|age| *age > LONG_WAIT_SECONDS))
        {
            let waiting = counted(outbox.map_or(0, |outbox| outbox.waiting), "customer waits", "customers wait");
            (Level::Notice, format!("Segment accepts calls; {waiting}, the oldest for {}.", in_words(age)))
        } else {
            (Level::Well, well(facts))
        };
        Self { level, text }
    }
}

fn well(facts: &Facts<'_>) -> String {
    let waiting = match facts.outbox.map(|outbox| outbox.waiting) {
        Some(0) => ", and none waits",
        _ => "",
    };
    match facts.delivered_per_second {
        Some(rate) if rate >= 1.5 => {
            format!("All is well: Segment accepts {} customers a second{waiting}.", thousands(rate.round() as u64))
        }
        Some(rate) if rate > 0.0 => format!("All is well: Segment accepts customers{waiting}."),
        _ => format!("All is well: no customer was delivered in the last seconds{waiting}."),
    }
}

/// What is wrong between the relay and Segment.
fn segments_trouble(facts: &Facts<'_>) -> String {
    let SegmentReport { endpoint, gate, last_trouble, .. } = facts.segment;
    let status = last_trouble.as_ref().and_then(|trouble| trouble.status);
    let reason = last_trouble.as_ref().map_or("the request failed", |trouble| trouble.why);
    let since = gate.since.as_ref().and_then(|since| since.parse::<Timestamp>().ok());
    let seconds = since.map_or(0, |since| facts.now.duration_since(since).as_secs().max(0).unsigned_abs());
    let time = in_words(seconds);
    match (gate.code.unwrap_or_default(), status) {
        ("segment_rate_limited", _) => {
            let until = gate.until.as_ref().and_then(|until| until.get(11..19)).unwrap_or("later");
            format!("Segment asks the relay to wait until {until} UTC (rate limit)")
        }
        ("segment_unauthorized", Some(407)) => {
            format!("The proxy has refused the relay's credentials for {time} (407)")
        }
        ("segment_unauthorized", Some(status)) => {
            format!("The relay's credentials have been refused for {time} ({status})")
        }
        ("segment_unauthorized", None) => format!("The relay's credentials have been refused for {time}"),
        ("segment_misconfigured", Some(status)) => {
            format!("What answers at {endpoint} has not been Segment for {time} ({status})")
        }
        ("segment_misconfigured", None) => format!("What answers at {endpoint} has not been Segment for {time}"),
        (_, Some(status)) => format!("Segment has answered {status} for {time}"),
        (_, None) => format!("Segment has not answered for {time} ({reason})"),
    }
}

/// The same behind another trouble.
fn and_segment(facts: &Facts<'_>) -> String {
    if facts.segment.gate.shut { format!("; {}", segments_trouble(facts)) } else { String::new() }
}

/// What it means for customers.
fn consequence(outbox: Option<&OutboxReport>) -> String {
    match outbox.map(|outbox| outbox.waiting) {
        None => "; each sender gets an error and must try again".to_owned(),
        Some(0) => "; no customer waits".to_owned(),
        Some(1) => "; 1 customer waits, none is lost".to_owned(),
        Some(waiting) => format!("; {} customers wait, none is lost", thousands(waiting)),
    }
}

fn waiting_then(outbox: Option<&OutboxReport>) -> String {
    match outbox.map_or(0, |outbox| outbox.waiting) {
        0 => String::new(),
        waiting => {
            format!(", and {} for the next start", counted(waiting, "stored customer waits", "stored customers wait"))
        }
    }
}

fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(number), if number == 1 { one } else { many })
}

/// With commas: 12,301.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// The largest unit of which there are two, rounded down: 90 seconds, 4 minutes, 3 hours, 2 days.
fn in_words(seconds: u64) -> String {
    match seconds {
        0 | 1 => "a second".to_owned(),
        2..120 => format!("{seconds} seconds"),
        120..7_200 => format!("{} minutes", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::{Facts, Level, Summary, in_words, thousands};
    use crate::api::admin::report::{
        OutboxReport, ParkedReport, SegmentReport, ShutGate, TroubleReport, UnconfiguredSource,
    };
    use crate::outbox::FleetReport;
    use crate::segment::{ErrorCode, FailureReason};

    fn segment(trouble: Option<(ErrorCode, FailureReason, u64)>) -> SegmentReport {
        let shut = trouble.map(|(code, _, seconds)| ShutGate {
            code: code.as_str(),
            shut_for: Duration::from_secs(seconds),
            opens_in: Duration::from_secs(1),
        });
        let last = trouble.map(|(code, reason, _)| TroubleReport::new(code, Some(reason), Duration::ZERO));
        SegmentReport { last_trouble: last, ..SegmentReport::new("https://api.segment.io".to_owned(), 0, shut) }
    }

    fn outbox(waiting: u64) -> OutboxReport {
        OutboxReport { waiting, ..OutboxReport::default() }
    }

    fn facts<'a>(segment: &'a SegmentReport, outbox: Option<&'a OutboxReport>) -> Facts<'a> {
        let delivered_per_second = Some(1_204.0);
        Facts {
            is_stopping: false,
            segment,
            outbox,
            fleet: None,
            refused_lately: 0,
            delivered_per_second,
            now: Timestamp::now(),
        }
    }

    fn says(facts: &Facts<'_>, level: Level, text: &str) {
        assert_eq!(Summary::of(facts), Summary { level, text: text.to_owned() });
    }

    #[test]
    fn while_all_is_well_it_says_so_with_the_rate() {
        let (well, quiet) = (segment(None), outbox(0));
        says(
            &facts(&well, Some(&quiet)),
            Level::Well,
            "All is well: Segment accepts 1,204 customers a second, and none waits.",
        );
        says(&facts(&well, None), Level::Well, "All is well: Segment accepts 1,204 customers a second.");
        let idle = Facts { delivered_per_second: None, ..facts(&well, Some(&quiet)) };
        says(&idle, Level::Well, "All is well: no customer was delivered in the last seconds, and none waits.");
    }

    #[test]
    fn while_no_relay_of_a_fleet_delivers_it_says_so_and_why() {
        let (well, waiting) = (segment(None), outbox(7));
        let nobody = FleetReport::default();
        let fleet = |fleet| Facts { fleet: Some(fleet), ..facts(&well, Some(&waiting)) };
        says(&fleet(&nobody), Level::Trouble, "No relay delivers; 7 customers wait, none is lost.");
        let moving = FleetReport { move_unfinished: true, ..FleetReport::default() };
        let text =
            "No relay delivers until `segment-relay move` into this outbox has ended; 7 customers wait, none is lost.";
        says(&fleet(&moving), Level::Trouble, text);
        let delivering = FleetReport { delivering: Some(Default::default()), ..FleetReport::default() };
        assert_eq!(Summary::of(&fleet(&delivering)).level, Level::Well);
    }

    #[test]
    fn in_an_outage_it_says_what_segment_answers_since_when_and_who_waits() {
        let outage = |reason| segment(Some((ErrorCode::Unavailable, reason, 241)));
        let (answers, refuses) = (outage(FailureReason::Status(503)), outage(FailureReason::ConnectionRefused));
        let waiting = outbox(12_301);
        says(
            &facts(&answers, Some(&waiting)),
            Level::Trouble,
            "Segment has answered 503 for 4 minutes; 12,301 customers wait, none is lost.",
        );
        says(
            &facts(&refuses, Some(&outbox(1))),
            Level::Trouble,
            "Segment has not answered for 4 minutes (the connection was refused); 1 customer waits, none is lost.",
        );
        says(
            &facts(&answers, None),
            Level::Trouble,
            "Segment has answered 503 for 4 minutes; each sender gets an error and must try again.",
        );
    }

    #[test]
    fn refused_credentials_a_wrong_address_and_a_rate_limit_have_their_own_words() {
        let none = outbox(0);
        let text = |code, reason| Summary::of(&facts(&segment(Some((code, reason, 30))), Some(&none)));
        let refused = text(ErrorCode::Unauthorized, FailureReason::Status(401));
        assert_eq!(refused.text, "The relay's credentials have been refused for 30 seconds (401); no customer waits.");
        let proxy = text(ErrorCode::Unauthorized, FailureReason::Proxy(Some(407)));
        assert_eq!(
            proxy.text,
            "The proxy has refused the relay's credentials for 30 seconds (407); no customer waits."
        );
        let other = text(ErrorCode::Misconfigured, FailureReason::Status(404));
        assert!(other.text.starts_with("What answers at https://api.segment.io has not been Segment"), "{other:?}");
        let limited = text(ErrorCode::RateLimited, FailureReason::Status(429));
        assert_eq!(limited.level, Level::Notice);
        assert!(limited.text.starts_with("Segment asks the relay to wait until "), "{limited:?}");
        assert!(limited.text.contains(" UTC (rate limit); no customer waits."), "{limited:?}");
    }

    #[test]
    fn an_outbox_that_cannot_store_comes_before_segments_trouble() {
        let full = OutboxReport { trouble: Some("the outbox is full"), ..outbox(9) };
        let outage = segment(Some((ErrorCode::Unavailable, FailureReason::Status(503), 10)));
        says(
            &facts(&outage, Some(&full)),
            Level::Trouble,
            "No customer can be stored: the outbox is full; Segment has answered 503 for 10 seconds.",
        );
    }

    #[test]
    fn what_is_left_to_look_at_is_a_notice() {
        let well = segment(None);
        let parked = OutboxReport { parked: ParkedReport { users: 3, ..ParkedReport::default() }, ..outbox(3) };
        let says_of = |outbox: &OutboxReport| Summary::of(&facts(&well, Some(outbox)));
        assert_eq!(
            says_of(&parked).text,
            "Segment accepts calls, but 3 customers fail on their own and are tried again (parked)."
        );
        let source = UnconfiguredSource { name: "shop".to_owned(), calls: 2, bytes: 300 };
        let unconfigured = OutboxReport { unconfigured_sources: vec![source], ..outbox(2) };
        assert_eq!(says_of(&unconfigured).text, "2 customers wait because the source shop is not configured any more.");
        let old = OutboxReport { oldest_seconds: Some(300), ..outbox(5_000) };
        assert_eq!(says_of(&old).text, "Segment accepts calls; 5,000 customers wait, the oldest for 5 minutes.");
        let refused = Facts { refused_lately: 1, ..facts(&well, None) };
        assert_eq!(
            Summary::of(&refused).text,
            "Segment accepts calls, but 1 call failed for good in the last 15 minutes."
        );
        for summary in [says_of(&parked), says_of(&unconfigured), says_of(&old), Summary::of(&refused)] {
            assert_eq!(summary.level, Level::Notice, "{summary:?}");
        }
    }

    #[test]
    fn while_nothing_is_accepted_it_does_not_say_that_segment_accepts_calls() {
        let failing = |failed_in_a_row| SegmentReport { failed_in_a_row, ..segment(None) };
        let parked = OutboxReport { parked: ParkedReport { users: 1, ..ParkedReport::default() }, ..outbox(1) };
        let text = "The last 4 requests to Segment failed; 1 customer waits, none is lost.";
        says(&facts(&failing(4), Some(&parked)), Level::Notice, text);
        says(&facts(&failing(3), None), Level::Notice, "The last 3 requests to Segment failed.");
        let text = "Segment accepts calls, but 1 customer fails on its own and is tried again (parked).";
        says(&facts(&failing(2), Some(&parked)), Level::Notice, text);
    }

    #[test]
    fn a_refused_write_key_names_its_source() {
        let mut some = segment(None);
        some.refused_sources = vec!["shop".to_owned(), "billing".to_owned()];
        says(
            &facts(&some, Some(&outbox(40))),
            Level::Trouble,
            "Segment refuses the write key of shop and 1 other source; 40 customers wait, none is lost.",
        );
    }

    #[test]
    fn a_relay_that_stops_says_what_waits_for_the_next_start() {
        let well = segment(None);
        let waiting = outbox(2);
        let stopping = Facts { is_stopping: true, ..facts(&well, Some(&waiting)) };
        assert_eq!(
            Summary::of(&stopping).text,
            "The relay is stopping; it finishes what is in flight, and 2 stored customers wait for the next start."
        );
    }

    #[test]
    fn numbers_have_commas_and_times_are_words() {
        let numbers = [0, 999, 1_000, 12_301, 1_000_000].map(thousands);
        assert_eq!(numbers, ["0", "999", "1,000", "12,301", "1,000,000"]);
        let times = [0, 1, 90, 120, 7_199, 7_200, 172_800].map(in_words);
        assert_eq!(times, ["a second", "a second", "90 seconds", "2 minutes", "119 minutes", "2 hours", "2 days"]);
    }
}
