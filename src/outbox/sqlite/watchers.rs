//! Who waits to hear what became of which call. Pure.

use std::collections::HashMap;

use tokio::sync::oneshot::Sender;

use crate::outbox::{CallId, Outcome};

#[derive(Default)]
pub(super) struct Watchers {
    by_call: HashMap<CallId, Vec<Sender<Outcome>>>,
}

impl Watchers {
    pub(super) fn add(&mut self, id: CallId, watcher: Sender<Outcome>) {
        self.by_call.entry(id).or_default().push(watcher);
    }

    /// Tells everybody who waits for this call.
    pub(super) fn tell(&mut self, id: CallId, outcome: &Outcome) {
        for watcher in self.by_call.remove(&id).unwrap_or_default() {
            // One who left is no error.
            let _ = watcher.send(outcome.clone());
        }
    }

    /// Drops those who left, so that what is kept is bounded by who still waits.
    pub(super) fn sweep(&mut self) {
        self.by_call.retain(|_, watchers| {
            watchers.retain(|watcher| !watcher.is_closed());
            !watchers.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::Watchers;
    use crate::outbox::Outcome;
    use tokio::sync::oneshot;

    #[test]
    fn everybody_who_waits_is_told_and_who_left_is_swept() {
        let mut watchers = Watchers::default();
        let (first, mut hears_first) = oneshot::channel();
        let (second, mut hears_second) = oneshot::channel();
        let (left, gone) = oneshot::channel();
        watchers.add(1, first);
        watchers.add(1, second);
        watchers.add(2, left);
        drop(gone);
        watchers.sweep();
        assert_eq!(watchers.by_call.len(), 1);
        watchers.tell(1, &Outcome::Accepted);
        watchers.tell(2, &Outcome::Accepted);
        assert_eq!(hears_first.try_recv().unwrap(), Outcome::Accepted);
        assert_eq!(hears_second.try_recv().unwrap(), Outcome::Accepted);
        assert!(watchers.by_call.is_empty());
    }
}
