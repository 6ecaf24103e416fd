//! Which event is mapped next: the sources in turn, each in the order in which its events came.
//!
//! A source has at most a share of the workers and of the room to wait, so that one whose filter loops keeps no other from going on.
//! All costly sources together have no more workers than that, so that several of them keep no other from going on, either.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most events of one source that wait: a source's share of the places in flight at their default number (a quarter of
/// 2,048), so that who got a place finds room. They wait half a second at most if each takes 1 ms.
pub(super) const MAX_WAITING: usize = 512;

/// How long a source is costly after an event that ended its worker. Events that end well do not shorten it: a source with one event
/// in a hundred that loops has a worker almost all the time. Sixty costly sources whose events take 1 s each have a turn in it.
const COSTLY_FOR: Duration = Duration::from_secs(60);

/// Events that wait, by source.
pub(super) struct Queue<J> {
    lines: HashMap<Arc<str>, Line<J>>,
    /// The sources with events that wait, the next one first.
    turns: VecDeque<Arc<str>>,
    /// The costly sources, and when each was it last.
    costly: HashMap<Arc<str>, Instant>,
    /// The most workers that one source has, and that all costly ones have.
    share: usize,
}

struct Line<J> {
    waiting: VecDeque<J>,
    running: usize,
}

impl<J> Queue<J> {
    /// An empty queue.
    pub(super) fn new(share: usize) -> Self {
        Self { lines: HashMap::new(), turns: VecDeque::new(), costly: HashMap::new(), share }
    }

    /// How many events of this source wait.
    pub(super) fn waiting(&self, source: &str) -> usize {
        self.lines.get(source).map_or(0, |line| line.waiting.len())
    }

    /// Adds an event. `false`: too many of its source wait.
    pub(super) fn push(&mut self, source: &str, job: J) -> bool {
        let source = self.lines.get_key_value(source).map_or_else(|| source.into(), |(name, _)| name.clone());
        let new = || Line { waiting: VecDeque::new(), running: 0 };
        let line = self.lines.entry(source.clone()).or_insert_with(new);
        if line.waiting.len() >= MAX_WAITING {
            return false;
        }
        if line.waiting.is_empty() {
            self.turns.push_back(source);
        }
        line.waiting.push_back(job);
        true
    }

    /// Takes the next event that is still wanted. [`finish`](Self::finish) must be called for its source.
    pub(super) fn take(&mut self, now: Instant, is_wanted: impl Fn(&J) -> bool) -> Option<(Arc<str>, J)> {
        self.costly.retain(|_, last| now.saturating_duration_since(*last) < COSTLY_FOR);
        let costly_lines = self.costly.keys().filter_map(|source| self.lines.get(source));
        let may_be_costly = costly_lines.map(|line| line.running).sum::<usize>() < self.share;
        let mut place = 0;
        while let Some(source) = self.turns.get(place).cloned() {
            let line = self.lines.get_mut(&source)?;
            if line.running >= self.share || !may_be_costly && self.costly.contains_key(&source) {
                // It keeps its place, so that others that take their turns do not overtake it again and again.
                place += 1;
                continue;
            }
            self.turns.remove(place);
            while let Some(job) = line.waiting.pop_front() {
                if !is_wanted(&job) {
                    continue;
                }
                line.running += 1;
                if !line.waiting.is_empty() {
                    self.turns.push_back(source.clone());
                }
                return Some((source, job));
            }
            self.forget_idle(&source);
        }
        None
    }

    /// An event of this source ended its worker: it took too long or too much memory, or it crashed.
    pub(super) fn mark_costly(&mut self, source: &Arc<str>, now: Instant) {
        self.costly.insert(source.clone(), now);
    }

    /// An event of this source is done.
    pub(super) fn finish(&mut self, source: &str) {
        if let Some(line) = self.lines.get_mut(source) {
            line.running = line.running.saturating_sub(1);
        }
        self.forget_idle(source);
    }

    /// Names come and go with the file of sources.
    fn forget_idle(&mut self, source: &str) {
        if self.lines.get(source).is_some_and(|line| line.running == 0 && line.waiting.is_empty()) {
            self.lines.remove(source);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{COSTLY_FOR, MAX_WAITING, Queue};

    fn next(queue: &mut Queue<u32>) -> Option<(String, u32)> {
        next_at(queue, Instant::now())
    }

    fn next_at(queue: &mut Queue<u32>, now: Instant) -> Option<(String, u32)> {
        queue.take(now, |_| true).map(|(source, job)| (source.to_string(), job))
    }

    #[test]
    fn sources_have_their_turns_and_events_their_order() {
        let mut queue = Queue::new(10);
        for (source, job) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5), ("c", 6)] {
            assert!(queue.push(source, job));
        }
        let order: Vec<_> =
            std::iter::from_fn(|| next(&mut queue)).map(|(source, job)| format!("{source}{job}")).collect();
        assert_eq!(order, ["a1", "b4", "c6", "a2", "b5", "a3"]);
    }

    #[test]
    fn a_source_has_no_more_than_its_share_of_the_workers() {
        let mut queue = Queue::new(2);
        for job in 1..=4 {
            assert!(queue.push("a", job));
        }
        assert_eq!((next(&mut queue).unwrap().1, next(&mut queue).unwrap().1), (1, 2));
        assert_eq!(next(&mut queue), None);
        assert!(queue.push("b", 9));
        assert_eq!(next(&mut queue), Some(("b".to_owned(), 9)));
        queue.finish("b");
        assert_eq!(next(&mut queue), None);
        queue.finish("a");
        assert_eq!(next(&mut queue), Some(("a".to_owned(), 3)));
        assert_eq!(next(&mut queue), None);
    }

    #[test]
    fn all_costly_sources_together_have_no_more_workers_than_one() {
        let (mut queue, now) = (Queue::new(1), Instant::now());
        for (source, job) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
            assert!(queue.push(source, job));
        }
        for source in ["a", "b"] {
            queue.mark_costly(&source.into(), now);
        }
        assert_eq!(next_at(&mut queue, now), Some(("a".to_owned(), 1)));
        assert_eq!(next_at(&mut queue, now), Some(("c".to_owned(), 4)));
        assert_eq!(next_at(&mut queue, now), None);
        // They have their turns.
        queue.finish("a");
        assert_eq!(next_at(&mut queue, now), Some(("b".to_owned(), 2)));
        assert_eq!(next_at(&mut queue, now), None);
        // After a while they are as the others.
        assert_eq!(next_at(&mut queue, now + COSTLY_FOR), Some(("a".to_owned(), 3)));
        assert!(queue.costly.is_empty());
    }

    #[test]
    fn a_source_that_had_no_worker_left_keeps_its_turn() {
        let (mut queue, now) = (Queue::new(1), Instant::now());
        queue.mark_costly(&"a".into(), now);
        queue.mark_costly(&"b".into(), now);
        assert!(queue.push("b", 1) && queue.push("b", 2));
        assert_eq!(next_at(&mut queue, now).unwrap().1, 1);
        assert!(queue.push("a", 3) && queue.push("c", 4));
        // b, a, c: the third goes on.
        assert_eq!(next_at(&mut queue, now).unwrap().1, 4);
        queue.finish("b");
        assert_eq!(next_at(&mut queue, now).unwrap().1, 2);
        assert!(queue.push("b", 5) && queue.push("d", 6));
        // a, b, d.
        assert_eq!(next_at(&mut queue, now).unwrap().1, 6);
        queue.finish("b");
        assert_eq!(next_at(&mut queue, now).unwrap().1, 3);
    }

    #[test]
    fn a_source_with_too_many_waiting_events_gets_no_more_in_and_another_does() {
        let mut queue = Queue::new(1);
        assert!((0..MAX_WAITING).all(|_| queue.push("a", 1)));
        assert!(!queue.push("a", 2));
        assert!(queue.push("b", 3));
        assert_eq!((queue.waiting("a"), queue.waiting("b"), queue.waiting("c")), (MAX_WAITING, 1, 0));
        assert_eq!(next(&mut queue).unwrap().1, 1);
        assert!(queue.push("a", 2));
    }

    #[test]
    fn an_event_that_nobody_waits_for_is_dropped() {
        let mut queue = Queue::new(1);
        for (source, job) in [("a", 1), ("a", 2), ("b", 1), ("a", 3)] {
            assert!(queue.push(source, job));
        }
        let mut wanted = || queue.take(Instant::now(), |job| *job > 1).map(|(source, job)| (source.to_string(), job));
        assert_eq!(wanted(), Some(("a".to_owned(), 2)));
        assert_eq!(wanted(), None);
        queue.finish("a");
        assert_eq!(next(&mut queue).unwrap().1, 3);
    }

    #[test]
    fn nothing_is_kept_of_a_source_that_has_no_event() {
        let mut queue = Queue::new(1);
        assert!(queue.push("a", 1) && queue.push("b", 0));
        assert!(queue.take(Instant::now(), |job| *job > 0).is_some());
        assert!(queue.take(Instant::now(), |job| *job > 0).is_none());
        queue.finish("a");
        assert!(queue.lines.is_empty() && queue.turns.is_empty());
    }
}
