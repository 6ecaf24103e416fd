//! The fence before stored calls: a request with stored calls starts only while it is open. Once it is shut, all stored calls go
//! back to the store: those that wait at once, those in a request when it ends without their outcome.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Request, Schedule};
use crate::publisher::answer::users_of;
use crate::publisher::queue::Standing;
use crate::segment::SendFence;

impl Schedule {
    /// From now on stored calls are sent only while this fence is open.
    pub(in crate::publisher) fn set_fence(&mut self, fence: Arc<SendFence>) {
        self.fence = Some(fence);
        self.look_at_fence();
    }

    /// If the fence was shut since the last look, the stored calls that wait go back.
    pub(in crate::publisher) fn look_at_fence(&mut self) {
        if let Some(fence) = &self.fence {
            self.queue.set_fence(fence.is_open());
        }
    }

    /// The request, if it may start at this boot time. Otherwise its stored calls go back. Asked before each attempt.
    pub(in crate::publisher) fn start(
        &mut self,
        request: Request,
        boot_time: Duration,
        now: Instant,
    ) -> Option<Request> {
        let Some(fence) = &self.fence else { return Some(request) };
        if fence.may_send_at(boot_time) || !request.batch.iter().any(|pending| pending.completion.is_stored()) {
            return Some(request);
        }
        self.look_at_fence();
        self.not_started(request, now);
        None
    }

    /// Nothing is known about the calls of this request. Those of callers wait in line again.
    fn not_started(&mut self, request: Request, now: Instant) {
        tracing::debug!(calls = request.batch.len(), "request not started: the fence is shut");
        self.has_left_flight(request.class);
        self.queue.put_in_company(request.rest);
        // No answer comes, so the next probe may be sent: soon, as nothing was learned.
        self.trouble.refused(request.is_probe, now);
        if let Some(trouble) = self.keys.trouble(request.key) {
            trouble.refused(request.is_key_probe, now);
        }
        request.batch.mark_not_accepted();
        let users = users_of(&request.batch);
        self.queue.give_back(request.batch.into_calls());
        for user_id in users {
            self.queue.release(&user_id, Standing::Sound);
        }
    }
}
