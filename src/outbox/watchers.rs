//! The callers that wait for the outcomes of calls.

use std::collections::HashMap;

use tokio::sync::oneshot;

use super::store::{CallId, DeliveryOutcome};

/// The callers that wait for the outcome of a call.
#[derive(Default)]
pub(super) struct Watchers {
    by_call: HashMap<CallId, Vec<oneshot::Sender<DeliveryOutcome>>>,
}

impl Watchers {
    pub(super) fn add(&mut self, id: CallId, watcher: oneshot::Sender<DeliveryOutcome>) {
        self.by_call.entry(id).or_default().push(watcher);
    }

    /// Sends the outcome to every watcher of this call.
    pub(super) fn notify(&mut self, id: CallId, outcome: &DeliveryOutcome) {
        for watcher in self.by_call.remove(&id).unwrap_or_default() {
            // The caller may have left.
            let _ = watcher.send(outcome.clone());
        }
    }

    /// Whether anybody waits for the outcome of this call.
    pub(super) fn has(&self, id: CallId) -> bool {
        self.by_call.contains_key(&id)
    }

    /// Tells every watcher of this call that its outcome is not known.
    pub(super) fn remove(&mut self, id: CallId) {
        self.by_call.remove(&id);
    }

    /// Removes watchers whose callers left, so that the memory is bounded by the callers that still wait.
    pub(super) fn remove_closed(&mut self) {
        self.by_call.retain(|_, watchers| {
            watchers.retain(|watcher| !watcher.is_closed());
            !watchers.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::Watchers;
    use crate::outbox::DeliveryOutcome;
    use tokio::sync::oneshot;

    #[test]
    fn every_watcher_is_notified_and_closed_ones_are_removed() {
        let mut watchers = Watchers::default();
        let (first, mut first_receiver) = oneshot::channel();
        let (second, mut second_receiver) = oneshot::channel();
        let (left, gone) = oneshot::channel();
        watchers.add(1, first);
        watchers.add(1, second);
        watchers.add(2, left);
        drop(gone);
        watchers.remove_closed();
        assert_eq!(watchers.by_call.len(), 1);
        watchers.notify(1, &DeliveryOutcome::Accepted);
        watchers.notify(2, &DeliveryOutcome::Accepted);
        assert_eq!(first_receiver.try_recv().unwrap(), DeliveryOutcome::Accepted);
        assert_eq!(second_receiver.try_recv().unwrap(), DeliveryOutcome::Accepted);
        assert!(watchers.by_call.is_empty());
    }
}
