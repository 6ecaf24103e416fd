//! Callers who wait for the outcomes of their calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::plan::End;
use crate::publisher::completion::Completion;
use crate::segment::{ErrorCode, SegmentError};

#[derive(Default)]
pub(super) struct Callers {
    waiting: BTreeMap<i64, oneshot::Receiver<Result<(), SegmentError>>>,
}

impl Callers {
    pub(super) fn add(&mut self, id: i64, deadline: Instant) -> Completion {
        let (reply, receiver) = oneshot::channel();
        self.waiting.insert(id, receiver);
        Completion::Caller { state: Arc::new(AtomicU8::new(0)), reply: Some(reply), deadline }
    }

    /// The caller waits no longer. False if it waits no more anyway.
    pub(super) fn leave(&mut self, id: i64) -> bool {
        self.waiting.remove(&id).is_some()
    }

    /// Who has heard something.
    pub(super) fn heard(&mut self) -> Vec<(i64, End)> {
        let heard = self.waiting.iter_mut().filter_map(|(id, receiver)| {
            let end = match receiver.try_recv() {
                Ok(Ok(())) => End::Accepted,
                Ok(Err(error)) if error.code == ErrorCode::Rejected => End::Refused,
                Ok(Err(error)) => End::Told(error.code),
                Err(_) => return None,
            };
            Some((*id, end))
        });
        let heard: Vec<(i64, End)> = heard.collect();
        heard.iter().for_each(|(id, _)| drop(self.waiting.remove(id)));
        heard
    }
}
