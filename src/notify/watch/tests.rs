//! Each rule of what is told, second by second.

use std::time::Duration;

use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};
use tokio::time::Instant;

use super::{Figures, HOLD, OutboxFigures, ShutGate, Told, Watch};
use crate::notify::notice::{Kind, Notice};

/// A watch whose clock goes on by a second with each look.
struct Clock {
    watch: Watch,
    now: Instant,
    time: Timestamp,
    seconds: u64,
}

impl Clock {
    fn new(figures: &Figures) -> Self {
        let time = "2026-11-27T10:00:00Z".parse().unwrap();
        Self { watch: Watch::new(figures), now: Instant::now(), time, seconds: 0 }
    }

    fn look(&mut self, figures: &Figures) -> Told {
        self.seconds += 1;
        self.now += Duration::from_secs(1);
        self.time += Duration::from_secs(1);
        self.watch.look(figures, self.now, self.time)
    }

    /// The kinds told within so many seconds, each with its second, and how many were held back.
    fn pass(&mut self, seconds: u64, figures: &Figures) -> (Vec<(u64, Kind)>, u64) {
        let (mut kinds, mut held_back) = (Vec::new(), 0);
        for _ in 0..seconds {
            let told = self.look(figures);
            kinds.extend(told.notices.iter().map(|notice| (self.seconds, notice.kind())));
            held_back += told.held_back;
        }
        (kinds, held_back)
    }

    fn told(&mut self, seconds: u64, figures: &Figures) -> Vec<Kind> {
        self.pass(seconds, figures).0.into_iter().map(|(_, kind)| kind).collect()
    }
}

fn shut() -> Figures {
    let gate = ShutGate {
        shut_for: Duration::ZERO,
        is_rate_limit: false,
        code: "segment_unavailable",
        reason: Some("status"),
        status: Some(503),
    };
    Figures { gate: Some(gate), ..Figures::default() }
}

fn limited() -> Figures {
    let gate = shut().gate.map(|gate| ShutGate { is_rate_limit: true, code: "segment_rate_limited", ..gate });
    Figures { gate, ..Figures::default() }
}

fn open() -> Figures {
    Figures::default()
}

fn outbox(parked_users: u64, bytes: u64) -> Figures {
    let outbox = OutboxFigures {
        parked_users,
        parked_calls: 2 * parked_users,
        bytes,
        max_bytes: 100,
        ..OutboxFigures::default()
    };
    Figures { outbox: Some(outbox), ..Figures::default() }
}

const HOLD_SECONDS: u64 = HOLD.as_secs();

#[test]
fn an_outage_is_told_when_it_has_lasted_and_again_when_it_is_over() {
    let mut clock = Clock::new(&open());
    clock.told(5, &open());
    let mut figures = shut();
    figures.gate = figures.gate.map(|gate| ShutGate { shut_for: Duration::from_millis(500), ..gate });
    figures.outbox = Some(OutboxFigures { waiting: 7, ..OutboxFigures::default() });
    assert_eq!(clock.told(HOLD_SECONDS - 1, &figures), []);
    let begun = clock.look(&figures).notices;
    assert_eq!(
        begun,
        [Notice::OutageBegun {
            since: "2026-11-27T10:00:05.500Z".to_owned(),
            code: "segment_unavailable",
            reason: Some("status"),
            status: Some(503),
            waiting: Some(7),
        }]
    );
    assert_eq!(clock.told(3600, &figures), []);
    assert_eq!(clock.told(HOLD_SECONDS - 1, &open()), []);
    let over = clock.look(&open()).notices;
    let (since, until) = ("2026-11-27T10:00:05.500Z".to_owned(), "2026-11-27T11:00:16.000Z".to_owned());
    assert_eq!(over, [Notice::OutageOver { since, until, seconds: 3610, waiting: None }]);
    assert_eq!(clock.told(3600, &open()), []);
}

#[test]
fn a_gate_that_is_shut_for_a_moment_is_no_outage() {
    let mut clock = Clock::new(&open());
    for _ in 0..100 {
        assert_eq!(clock.told(HOLD_SECONDS - 1, &shut()), []);
        assert_eq!(clock.told(HOLD_SECONDS, &open()), []);
    }
}

#[test]
fn a_gate_that_is_wait_until_shut_and_again_is_an_outage_and_a_gate_that_opens_for_a_moment_is_no_end() {
    let mut clock = Clock::new(&open());
    let mut told = Vec::new();
    for _ in 0..100 {
        told.extend(clock.told(4, &shut()));
        told.extend(clock.told(1, &open()));
    }
    assert_eq!(told, [Kind::OutageBegun]);
}

#[test]
fn a_rate_limit_alone_is_no_outage_and_one_in_an_outage_does_not_end_it() {
    let mut clock = Clock::new(&open());
    assert_eq!(clock.told(3600, &limited()), []);
    assert_eq!(clock.told(HOLD_SECONDS, &shut()), [Kind::OutageBegun]);
    assert_eq!(clock.told(3600, &limited()), []);
    assert_eq!(clock.told(HOLD_SECONDS, &open()), [Kind::OutageOver]);
}

#[test]
fn an_outage_that_ends_within_the_pause_is_told_in_the_end() {
    let mut clock = Clock::new(&open());
    clock.told(5, &open());
    assert_eq!(clock.told(HOLD_SECONDS, &shut()), [Kind::OutageBegun]);
    assert_eq!(clock.told(HOLD_SECONDS, &open()), [Kind::OutageOver]);
    // The second begins and ends while the pause of the first one lasts: nobody hears of it.
    assert_eq!(clock.pass(100, &shut()), (vec![], 1));
    assert_eq!(clock.pass(100, &open()), (vec![], 0));
    // The third lasts until the pause is over.
    assert_eq!(clock.pass(600, &shut()), (vec![(615, Kind::OutageBegun)], 1));
    assert_eq!(clock.told(HOLD_SECONDS, &open()), [Kind::OutageOver]);
    // The fourth is told, and ends before an end may be told again.
    assert_eq!(clock.told(390, &open()), []);
    assert_eq!(clock.told(HOLD_SECONDS, &shut()), [Kind::OutageBegun]);
    let (told, held_back) = clock.pass(600, &open());
    assert_eq!((told, held_back), (vec![(1435, Kind::OutageOver)], 1));
}

#[test]
fn a_process_that_was_suspended_finds_no_outage() {
    let mut clock = Clock::new(&open());
    clock.look(&open());
    clock.now += Duration::from_secs(3600);
    assert_eq!(clock.told(5, &shut()), []);
}

#[test]
fn the_state_at_the_start_wakes_nobody() {
    let mut figures = outbox(3, 80);
    figures.dead_letters = [4, 5, 6];
    figures.worker_restarts = [1, 2, 3];
    let mut clock = Clock::new(&figures);
    assert_eq!(clock.pass(7200, &figures), (vec![], 0));
    // When it is over and comes again, it is told.
    assert_eq!(clock.told(1, &outbox(0, 0)), []);
    assert_eq!(clock.told(HOLD_SECONDS, &outbox(1, 60)), [Kind::OutboxHalfFull, Kind::UserParked]);
}

#[test]
fn the_first_parked_user_is_told_and_a_second_one_is_not() {
    let mut clock = Clock::new(&outbox(0, 0));
    clock.look(&outbox(0, 0));
    assert_eq!(clock.told(HOLD_SECONDS - 1, &outbox(1, 0)), []);
    assert_eq!(clock.look(&outbox(2, 0)).notices, [Notice::UserParked { users: 2, calls: 4 }]);
    assert_eq!(clock.pass(7200, &outbox(5, 0)), (vec![], 0));
    assert_eq!(clock.told(1, &outbox(0, 0)), []);
    assert_eq!(clock.told(HOLD_SECONDS, &outbox(1, 0)), [Kind::UserParked]);
    // Within the pause it waits, and is told if it is still so.
    clock.told(1, &outbox(0, 0));
    assert_eq!(clock.pass(20, &outbox(1, 0)), (vec![], 1));
    clock.told(1, &outbox(0, 0));
    assert_eq!(clock.pass(600, &outbox(1, 0)).0.len(), 1);
}

#[test]
fn users_who_are_parked_because_an_outage_begins_are_not_told() {
    let mut clock = Clock::new(&outbox(0, 0));
    clock.look(&outbox(0, 0));
    assert_eq!(clock.told(3, &outbox(1, 0)), []);
    let shut = Figures { outbox: outbox(2, 0).outbox, ..shut() };
    assert_eq!(clock.told(3600, &shut), [Kind::OutageBegun]);
    assert_eq!(clock.told(5, &outbox(2, 0)), []);
    assert_eq!(clock.told(3600, &outbox(0, 0)), [Kind::OutageOver]);
    // Who stays parked after it is told.
    assert_eq!(clock.told(3600, &shut), [Kind::OutageBegun]);
    assert_eq!(clock.told(3600, &outbox(2, 0)), [Kind::OutageOver, Kind::UserParked]);
}

#[test]
fn an_outbox_around_its_half_is_told_once() {
    let mut clock = Clock::new(&outbox(0, 0));
    assert_eq!(clock.told(1, &outbox(0, 50)), []);
    let expected = Notice::OutboxHalfFull { bytes: 51, max_bytes: 100, waiting: 0, dead_letters: 0 };
    assert_eq!(clock.look(&outbox(0, 51)).notices, [expected]);
    for _ in 0..1000 {
        assert_eq!(clock.pass(2, &outbox(0, 41)), (vec![], 0));
        assert_eq!(clock.pass(2, &outbox(0, 60)), (vec![], 0));
    }
    assert_eq!(clock.told(1, &outbox(0, 40)), []);
    assert_eq!(clock.told(1, &outbox(0, 60)), [Kind::OutboxHalfFull]);
}

#[test]
fn the_first_dead_letter_in_an_hour_is_told_with_all_since_the_one_before() {
    let letters = |dead_letters| Figures { dead_letters, ..outbox(0, 0) };
    let first = |refused, gave_up, unmapped| vec![Notice::FirstDeadLetter { refused, gave_up, unmapped, kept: 0 }];
    let mut clock = Clock::new(&letters([0; 3]));
    assert_eq!(clock.look(&letters([1, 0, 0])).notices, first(1, 0, 0));
    assert_eq!(clock.pass(1800, &letters([1, 0, 0])), (vec![], 0));
    assert_eq!(clock.pass(1799, &letters([3, 1, 0])), (vec![], 1));
    // The hour is over, and nobody is woken for what came in it.
    assert_eq!(clock.pass(3600, &letters([3, 1, 0])), (vec![], 0));
    assert_eq!(clock.look(&letters([3, 1, 2])).notices, first(2, 1, 2));
}

#[test]
fn restarts_of_workers_are_told_once_in_ten_minutes_with_all_since_the_one_before() {
    let restarts = |worker_restarts| Figures { worker_restarts, ..open() };
    let mut clock = Clock::new(&restarts([0; 3]));
    let restarted = |time, memory, crash| vec![Notice::MapWorkerRestarted { time, memory, crash }];
    assert_eq!(clock.look(&restarts([1, 0, 0])).notices, restarted(1, 0, 0));
    for number in 2..600 {
        assert_eq!(clock.look(&restarts([number, 0, 0])), Told { notices: vec![], held_back: 1 });
    }
    clock.look(&restarts([599, 0, 0]));
    assert_eq!(clock.look(&restarts([599, 1, 1])).notices, restarted(598, 1, 1));
}

#[test]
fn a_total_that_shrinks_is_a_new_beginning() {
    let letters = |unmapped| Figures { dead_letters: [2, 0, unmapped], ..open() };
    let mut clock = Clock::new(&letters(9));
    assert_eq!(clock.pass(10, &letters(0)), (vec![], 0));
    let expected = Notice::FirstDeadLetter { refused: 0, gave_up: 0, unmapped: 1, kept: 0 };
    assert_eq!(clock.look(&letters(1)).notices, [expected]);
}

#[test]
fn a_notice_is_written_as_the_document_shows_it() {
    let page = include_str!("../../../docs/notify.md");
    let none = || None;
    let since = || "2026-11-27T10:00:05.500Z".to_owned();
    let until = "2026-11-27T10:31:00.000Z".to_owned();
    for notice in [
        Notice::OutageBegun {
            since: since(),
            code: "segment_unavailable",
            reason: Some("status"),
            status: Some(503),
            waiting: Some(1042),
        },
        Notice::OutageOver { since: since(), until, seconds: 1854, waiting: none() },
        Notice::FirstDeadLetter { refused: 1, gave_up: 0, unmapped: 0, kept: 12 },
        Notice::UserParked { users: 1, calls: 3 },
        Notice::OutboxHalfFull {
            bytes: 5_368_709_248,
            max_bytes: 10_737_418_240,
            waiting: 10_324_440,
            dead_letters: 12,
        },
        Notice::MapWorkerRestarted { time: 1, memory: 0, crash: 0 },
    ] {
        let time = "2026-11-27T10:31:10.250Z".parse().unwrap();
        let json = String::from_utf8(notice.to_json(time).unwrap()).unwrap();
        assert!(page.lines().any(|line| line == json), "docs/notify.md has no line {json}");
    }
}

/// What happens in some seconds.
#[derive(Clone, Debug)]
struct Span {
    seconds: u64,
    gate: u8,
    parked: u64,
    bytes: u64,
    letters: u64,
    restarts: u64,
}

fn span() -> impl Strategy<Value = Span> {
    let seconds = prop_oneof![6 => 1..15_u64, 6 => 1..700_u64, 1 => 3_000..4_000_u64];
    (seconds, 0..3_u8, 0..2_u64, 0..100_u64, 0..2_u64, 0..2_u64).prop_map(
        |(seconds, gate, parked, bytes, letters, restarts)| Span { seconds, gate, parked, bytes, letters, restarts },
    )
}

proptest! {
    #[test]
    fn no_kind_is_told_twice_within_its_pause_and_what_was_told_last_is_right_in_the_end(spans in vec(span(), 1..12)) {
        let mut clock = Clock::new(&outbox(0, 0));
        let (mut letters, mut restarts) = (0, 0);
        let mut told: Vec<(u64, Kind)> = Vec::new();
        let mut last = outbox(0, 0);
        for span in &spans {
            for _ in 0..span.seconds {
                (letters, restarts) = (letters + span.letters, restarts + span.restarts);
                let gate = match span.gate { 0 => None, 1 => shut().gate, _ => limited().gate };
                last = Figures {
                    gate,
                    dead_letters: [letters, 0, 0],
                    worker_restarts: [0, restarts, 0],
                    ..outbox(span.parked, span.bytes)
                };
                told.extend(clock.pass(1, &last).0);
            }
        }
        // Long enough for what is held back.
        told.extend(clock.pass(1300, &last).0);
        for kind in [
            Kind::OutageBegun, Kind::OutageOver, Kind::FirstDeadLetter, Kind::UserParked, Kind::OutboxHalfFull,
            Kind::MapWorkerRestarted,
        ] {
            let at: Vec<u64> = told.iter().filter(|(_, other)| *other == kind).map(|(at, _)| *at).collect();
            prop_assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= kind.pause().as_secs()), "{kind:?} {at:?}");
        }
        let outages: Vec<Kind> =
            told.iter().map(|(_, kind)| *kind).filter(|kind| [Kind::OutageBegun, Kind::OutageOver].contains(kind)).collect();
        prop_assert!(outages.first().is_none_or(|first| *first == Kind::OutageBegun));
        prop_assert!(outages.windows(2).all(|pair| pair[0] != pair[1]), "{outages:?}");
        let is_told = outages.last() == Some(&Kind::OutageBegun);
        match &last.gate {
            None => prop_assert!(!is_told),
            Some(gate) if !gate.is_rate_limit => prop_assert!(is_told),
            Some(_) => {}
        }
        if letters > 0 {
            prop_assert_eq!(told.iter().filter(|(_, kind)| *kind == Kind::FirstDeadLetter).count() > 0, true);
        }
    }
}
