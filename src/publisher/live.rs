//! The client whose flush returns Segment's own answer to its call.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::batch::PendingCall;
use super::completion::{Completion, CompletionHandle, completion};
use super::dispatch::{Dispatch, run_dispatch};
use crate::config::{SegmentSettings, WriteKeys};
use crate::customer::SegmentIdentifyPayload;
use crate::metrics::Metrics;
use crate::segment::{
    Call, ErrorCode, FailureReason, GroupTerms, IdempotencyKey, MessageIds, Origin, Receipt, SegmentClient,
    SegmentClients, SegmentError, SegmentGroup, SendFence, SettledCall,
};
use crate::supervisor::Supervisor;
use crate::telemetry::TraceContext;

/// Makes clients that send directly to Segment, over shared slots.
pub struct LiveClients {
    dispatch: Arc<Dispatch>,
    message_ids: MessageIds,
}

struct LiveClient {
    dispatch: Arc<Dispatch>,
    message_ids: MessageIds,
    deadline: Instant,
    key: Option<IdempotencyKey>,
    /// The calls that are not flushed yet.
    unflushed: VecDeque<(Receipt, CompletionHandle)>,
    /// The outcome of this flush so far: the first error, otherwise the last receipt.
    outcome: Option<Result<Receipt, SegmentError>>,
}

/// The customers of one request.
struct LiveGroup {
    dispatch: Arc<Dispatch>,
    message_ids: MessageIds,
    terms: GroupTerms,
    unflushed: Vec<(Receipt, CompletionHandle)>,
}

impl LiveClients {
    /// Starts the dispatch loop, which runs until the supervisor cuts it off.
    ///
    /// # Errors
    /// If HTTPS cannot be set up.
    pub fn start(
        settings: SegmentSettings,
        write_keys: &WriteKeys,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Self> {
        let message_ids = MessageIds::new(write_keys)?;
        let dispatch = Arc::new(Dispatch::new(settings, write_keys, metrics, supervisor)?);
        supervisor.supervise("dispatch", run_dispatch(dispatch.clone()));
        Ok(Self { dispatch, message_ids })
    }

    /// Sends a call that is in the outbox under `id`, and reports to `delivered` what became of it. Until then the call is
    /// retried, or until the process drains. Calls of one user are sent in the order of the calls of this function. A call that
    /// `is_parked` is sent once, alone.
    ///
    /// # Errors
    /// If the queue has no room. The room that [`wait_for_room`](Self::wait_for_room) tells is far smaller than the queue, so
    /// delivery never sees this.
    pub fn deliver(
        &self,
        id: i64,
        call: Call,
        is_parked: bool,
        delivered: &mpsc::UnboundedSender<SettledCall>,
    ) -> Result<(), SegmentError> {
        let completion = Completion::Stored { id, delivered: delivered.clone() };
        let pending = PendingCall::new(call, completion);
        self.dispatch.enqueue(if is_parked { pending.parked() } else { pending })
    }

    /// Waits until there is room for more stored calls, and returns it, in bytes of JSON.
    pub async fn wait_for_room(&self) -> usize {
        self.dispatch.wait_for_room().await
    }

    /// The outbox has parked these users: what it gives of them from now on may be sent.
    pub fn confirm_parked(&self, users: &[Arc<str>]) {
        self.dispatch.confirm_parked(users);
    }

    /// Gives stored calls of this user back to delivery, as far as they are in no request.
    pub fn take_back(&self, user_id: &str, ids: &HashSet<i64>) {
        self.dispatch.take_back(user_id, ids);
    }

    /// From now on stored calls are sent only while this fence is open.
    pub fn set_fence(&self, fence: Arc<SendFence>) {
        self.dispatch.set_fence(fence);
    }

    /// The fence was shut: gives all stored calls that are in no request back to delivery. The others come when their request ends.
    pub fn take_back_all(&self) {
        self.dispatch.take_back_all();
    }

    /// The generator of message ids.
    pub fn message_ids(&self) -> MessageIds {
        self.message_ids.clone()
    }

    /// Sends with other write keys from the next request on. Message ids that are made of callers' keys change with them.
    pub fn replace_write_keys(&self, write_keys: &WriteKeys) {
        self.message_ids.replace_write_keys(write_keys);
        self.dispatch.replace_write_keys(write_keys);
    }

    /// When the gate opens, and why it is shut. `None` while it is open.
    pub fn gate_shut_until(&self) -> Option<(Instant, ErrorCode)> {
        self.dispatch.schedule.lock().trouble.shut_until().map(|(until, error)| (until, error.code))
    }

    /// Since when the gate is shut. `None` while it is open.
    pub fn gate_shut_since(&self) -> Option<Instant> {
        self.dispatch.schedule.lock().trouble.shut_since()
    }

    /// For how long Segment cannot be reached. `None` while the gate is open, or shut by a rate limit.
    pub fn outage_lasts(&self) -> Option<Duration> {
        let schedule = self.dispatch.schedule.lock();
        schedule.trouble.shut_until().filter(|(_, error)| error.code != ErrorCode::RateLimited)?;
        schedule.trouble.shut_since().map(|since| since.elapsed())
    }

    /// The sources whose write key Segment refuses while it may accept another one. `POST /customers` is one of them.
    pub fn refused_sources(&self) -> Vec<String> {
        let schedule = self.dispatch.schedule.lock();
        schedule.keys.refused().flat_map(|(_, key)| key.trouble.sources()).cloned().collect()
    }

    /// Number of requests that failed since the last accepted one. Refusals and failures of parked calls do not count.
    pub fn failed_in_a_row(&self) -> u32 {
        self.dispatch.schedule.lock().trouble.failed_in_a_row()
    }

    /// The last failed request that says something about Segment: its code, why it failed, and when.
    pub fn last_failure(&self) -> Option<(ErrorCode, Option<FailureReason>, Instant)> {
        self.dispatch.schedule.lock().trouble.last_failure().map(|failure| (failure.code, failure.reason, failure.at))
    }

    /// Sets the gauges whose values are read only when metrics are collected.
    pub fn update_gauges(&self, metrics: &Metrics) {
        let as_gauge = |number: usize| number.try_into().unwrap_or(i64::MAX);
        {
            let schedule = self.dispatch.schedule.lock();
            metrics.calls_waiting.set(as_gauge(schedule.queue.len()));
            metrics.write_keys_refused.set(as_gauge(schedule.keys.refused().count()));
            metrics.failures_in_a_row.set(schedule.trouble.failed_in_a_row().into());
        }
        metrics.gate_shut.set(self.gate_shut_until().is_some().into());
    }
}

impl SegmentClients for LiveClients {
    /// `wait` has no effect: every flush waits for Segment's answer.
    fn open(&self, deadline: Instant, key: Option<IdempotencyKey>, _wait: Option<Duration>) -> Box<dyn SegmentClient> {
        Box::new(LiveClient {
            dispatch: self.dispatch.clone(),
            message_ids: self.message_ids.clone(),
            deadline,
            key,
            unflushed: VecDeque::new(),
            outcome: None,
        })
    }

    /// `wait` and `is_all_or_nothing` have no effect: every flush waits for Segment's answers.
    fn open_group(&self, terms: GroupTerms) -> Box<dyn SegmentGroup> {
        Box::new(LiveGroup {
            dispatch: self.dispatch.clone(),
            message_ids: self.message_ids.clone(),
            terms,
            unflushed: Vec::new(),
        })
    }

    fn stores(&self) -> bool {
        false
    }
}

#[async_trait]
impl SegmentClient for LiveClient {
    fn identify(&mut self, payload: &SegmentIdentifyPayload<'_>) -> Result<(), SegmentError> {
        let (message_id, _has_key) = self.message_ids.id_for(payload, self.key.as_ref(), Origin::default());
        let call = Call::new(payload, &message_id, Timestamp::now())?.in_trace(TraceContext::current());
        let (completion, handle) = completion(self.deadline);
        self.dispatch.enqueue(PendingCall::new(call, completion))?;
        self.unflushed.push_back((Receipt::accepted(message_id), handle));
        Ok(())
    }

    async fn flush(&mut self) -> Result<Receipt, SegmentError> {
        let nothing = SegmentError::new(ErrorCode::InvalidPayload, "there is nothing to flush");
        // A call stays in the list until its outcome is known, so that a flush that was dropped can be called again.
        while let Some((receipt, handle)) = self.unflushed.front_mut() {
            let settled = handle.outcome().await.map(|()| receipt.clone());
            self.unflushed.pop_front();
            self.outcome = match self.outcome.take() {
                Some(Err(first)) => Some(Err(first)),
                _ => Some(settled),
            };
        }
        self.outcome.take().unwrap_or(Err(nothing))
    }

    async fn close_and_flush(mut self: Box<Self>) -> Result<(), SegmentError> {
        if self.unflushed.is_empty() && self.outcome.is_none() { Ok(()) } else { self.flush().await.map(|_receipt| ()) }
    }
}

#[async_trait]
impl SegmentGroup for LiveGroup {
    fn identify(&mut self, place: usize, payload: &SegmentIdentifyPayload<'_>) -> Result<(), SegmentError> {
        let GroupTerms { deadline, key, source, .. } = &self.terms;
        let origin = Origin { source: source.as_deref(), place: Some(place) };
        let (message_id, _has_key) = self.message_ids.id_for(payload, key.as_ref(), origin);
        let call = Call::new(payload, &message_id, Timestamp::now())?;
        let call = call.of_source(source.clone()).in_trace(TraceContext::current());
        let (completion, handle) = completion(*deadline);
        self.dispatch.enqueue(PendingCall::new(call, completion))?;
        self.unflushed.push((Receipt::accepted(message_id), handle));
        Ok(())
    }

    async fn flush(&mut self) -> Vec<Result<Receipt, SegmentError>> {
        let mut outcomes = Vec::with_capacity(self.unflushed.len());
        for (receipt, mut handle) in self.unflushed.drain(..) {
            outcomes.push(handle.outcome().await.map(|()| receipt));
        }
        outcomes
    }
}

#[cfg(test)]
mod tests;
