//! The client whose flush is Segment's own answer to this very call.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::batch::Taken;
use super::dispatch::Dispatch;
use super::ticket::{Claim, Ticket, ticket};
use crate::config::SegmentSettings;
use crate::customer::SegmentIdentifyPayload;
use crate::metrics::Metrics;
use crate::segment::Call;
use crate::segment::{Delivered, Receipt, SegmentClient, SegmentClients};
use crate::segment::{ErrorCode, SegmentError};
use crate::segment::{IdempotencyKey, MessageIds};
use crate::supervisor::Supervisor;

/// Makes clients that send straight to Segment, over shared slots.
pub struct LiveClients {
    dispatch: Arc<Dispatch>,
    message_ids: Arc<MessageIds>,
}

/// One caller's handle.
struct LiveClient {
    dispatch: Arc<Dispatch>,
    message_ids: Arc<MessageIds>,
    deadline: Instant,
    key: Option<IdempotencyKey>,
    /// What was handed over and not yet flushed.
    handed_over: VecDeque<(Receipt, Claim)>,
    /// What this flush heard so far: the first error, else the last receipt.
    outcome: Option<Result<Receipt, SegmentError>>,
}

impl LiveClients {
    /// Starts the shared machinery, which runs until `life` is cut.
    ///
    /// # Errors
    /// If HTTPS cannot be set up.
    pub fn start(settings: SegmentSettings, metrics: Arc<Metrics>, supervisor: &Supervisor) -> anyhow::Result<Self> {
        let message_ids = Arc::new(MessageIds::new(&settings.write_key)?);
        Ok(Self { dispatch: Dispatch::start(settings, metrics, supervisor)?, message_ids })
    }

    /// Sends a call that is in the outbox under `id`. When Segment accepted it or refused it for good, `delivered` hears;
    /// until then it is tried for as long as it takes, or until the process drains. Calls of one user are sent in the order
    /// in which they were handed over.
    ///
    /// # Errors
    /// If there is no room: more is in hand than the outbox's delivery ever lets be.
    pub fn deliver(
        &self,
        id: i64,
        call: Call,
        delivered: &mpsc::UnboundedSender<Delivered>,
    ) -> Result<(), SegmentError> {
        self.dispatch.hand_over(Taken { call, ticket: Ticket::Stored { id, delivered: delivered.clone() } })
    }

    /// What makes ids for calls to this source.
    pub fn message_ids(&self) -> MessageIds {
        MessageIds::clone(&self.message_ids)
    }

    /// When something is sent again, and why nothing is now; `None` while it is.
    pub fn shut(&self) -> Option<(Instant, ErrorCode)> {
        self.dispatch.gate.shut_until().map(|(until, why)| (until, why.code))
    }

    /// How many requests failed in a way that passes since one was accepted.
    pub fn failed_in_a_row(&self) -> u32 {
        self.dispatch.failed_in_a_row()
    }

    /// Brings the gauges that nobody counts along the way up to date.
    pub fn measure(&self, metrics: &Metrics) {
        metrics.calls_waiting.set(self.dispatch.waiting().try_into().unwrap_or(i64::MAX));
        metrics.gate_shut.set(self.dispatch.gate.is_shut().into());
    }
}

impl SegmentClients for LiveClients {
    /// Here every flush waits for Segment's answer: `wait` changes nothing.
    fn open(&self, deadline: Instant, key: Option<IdempotencyKey>, _wait: Option<Duration>) -> Box<dyn SegmentClient> {
        Box::new(LiveClient {
            dispatch: self.dispatch.clone(),
            message_ids: self.message_ids.clone(),
            deadline,
            key,
            handed_over: VecDeque::new(),
            outcome: None,
        })
    }

    fn stores(&self) -> bool {
        false
    }
}

#[async_trait]
impl SegmentClient for LiveClient {
    fn identify(&mut self, payload: &SegmentIdentifyPayload<'_>) -> Result<(), SegmentError> {
        let (message_id, _has_key) = self.message_ids.id_for(payload, self.key.as_ref());
        let call = Call::new(payload, &message_id, Timestamp::now())?;
        let (ticket, claim) = ticket(self.deadline);
        self.dispatch.hand_over(Taken { call, ticket })?;
        self.handed_over.push_back((Receipt::accepted(message_id), claim));
        Ok(())
    }

    async fn flush(&mut self) -> Result<Receipt, SegmentError> {
        let nothing = SegmentError::new(ErrorCode::InvalidPayload, "there is nothing to flush");
        // A call stays in the list until its outcome is there: a flush that is broken off can be called again.
        while let Some((receipt, claim)) = self.handed_over.front_mut() {
            let settled = claim.outcome().await.map(|()| receipt.clone());
            self.handed_over.pop_front();
            self.outcome = match self.outcome.take() {
                Some(Err(first)) => Some(Err(first)),
                _ => Some(settled),
            };
        }
        self.outcome.take().unwrap_or(Err(nothing))
    }

    async fn close_and_flush(mut self: Box<Self>) -> Result<(), SegmentError> {
        if self.handed_over.is_empty() && self.outcome.is_none() {
            Ok(())
        } else {
            self.flush().await.map(|_receipt| ())
        }
    }
}
