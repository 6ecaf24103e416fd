//! Tests of the cursor over histories of transactions: every call is read once, and none before one that it followed.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, prop_assert_eq, prop_oneof, proptest};

use super::{Cursor, Snapshot};
use crate::outbox::CallId;

/// A number that a logical restore left.
const BASE: i64 = 1_000;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// A transaction gets its number.
    Begin,
    /// The n-th open one is committed with so many calls, or rolled back.
    Commit(usize, i64),
    Rollback(usize),
    /// A page of so many calls at most is read.
    Read(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Begin),
        3 => (0..8_usize, 0..6_i64).prop_map(|(n, calls)| Step::Commit(n, calls)),
        1 => (0..8_usize).prop_map(Step::Rollback),
        4 => (1..8_usize).prop_map(Step::Read),
    ]
}

/// The server: which transactions are open, and which calls are visible.
#[derive(Default)]
struct Server {
    next: i64,
    /// The newest that has ended: a snapshot sees nothing behind it, though more may have begun.
    ended: i64,
    open: Vec<i64>,
    visible: BTreeSet<CallId>,
    /// What was visible when each transaction began.
    before: BTreeMap<i64, BTreeSet<CallId>>,
}

impl Server {
    fn run(&mut self, step: &Step) {
        match step {
            Step::Begin => {
                self.next += 1;
                self.open.push(self.next);
                self.before.insert(self.next, self.visible.clone());
            }
            Step::Commit(n, _) | Step::Rollback(n) if !self.open.is_empty() => {
                let transaction = self.open.remove(n % self.open.len());
                self.ended = self.ended.max(transaction);
                if let Step::Commit(_, calls) = step {
                    self.visible.extend((1..=*calls).map(|place| ((BASE + transaction) << 16) + place));
                }
            }
            _ => {}
        }
    }

    fn snapshot(&self) -> Snapshot {
        let xmax = self.ended + 1;
        let open: Vec<String> = self.open.iter().filter(|open| **open < xmax).map(i64::to_string).collect();
        let xmin = self.open.iter().copied().chain([xmax]).min().unwrap();
        Snapshot::parse(&format!("{xmin}:{xmax}:{}", open.join(",")), BASE).unwrap()
    }
}

fn read(server: &Server, cursor: &mut Cursor, limit: usize) -> Vec<CallId> {
    let (firsts, lasts) = cursor.ranges();
    let is_meant = |id: &CallId| {
        *id > cursor.tail() || firsts.iter().zip(&lasts).any(|(first, last)| (*first..=*last).contains(id))
    };
    let page: Vec<CallId> = server.visible.iter().copied().filter(is_meant).take(limit).collect();
    cursor.advance(&server.snapshot(), page.last().copied(), page.len() == limit);
    page
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn every_call_is_read_once_and_none_before_one_that_it_followed(steps in vec(step(), 1..80)) {
        let (mut server, mut cursor, mut seen) = (Server::default(), Cursor::default(), BTreeSet::new());
        let mut look = |server: &Server, limit| {
            for id in read(server, &mut cursor, limit) {
                assert!(seen.insert(id), "{id} was read twice");
                let before = &server.before[&((id >> 16) - BASE)];
                assert!(before.is_subset(&seen), "{id} was read before one that it followed");
            }
            let may_come: Vec<_> = server.visible.difference(&seen).filter(|id| **id <= cursor.read_to()).collect();
            assert!(may_come.is_empty(), "{may_come:?} are not behind {}", cursor.read_to());
            seen.len()
        };
        for step in &steps {
            server.run(step);
            if let Step::Read(limit) = step {
                look(&server, *limit);
            }
        }
        // Ended transactions leave nothing to remember.
        while !server.open.is_empty() {
            server.run(&Step::Commit(0, 2));
        }
        let mut last = usize::MAX;
        while last != look(&server, 3) {
            last = look(&server, 3);
        }
        prop_assert_eq!(last, server.visible.len());
        prop_assert_eq!(cursor.ranges().0.len(), 0);
    }
}

#[test]
fn a_text_that_is_no_snapshot_is_none() {
    for text in ["", "1:2", "1:x:", "1:9:3,,x", "1:9223372036854775807:"] {
        assert_eq!(Snapshot::parse(text, 1), None, "{text}");
    }
    let read = Snapshot::parse("10:20:10,14", 5).unwrap();
    assert_eq!(read, Snapshot { next: 25, in_progress: vec![15, 19] });
    assert!(Snapshot::parse("10:10:", 0).unwrap().in_progress.is_empty());
}
