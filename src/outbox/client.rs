//! The client whose flush returns when the call is on disk, or, for a caller who waits, when it is settled.
//!
//! It knows no store: that is injected. Nothing is sent from here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{Append, KeyRecord, LATER, Outbox, OutboxError, Outcome};
use crate::customer::SegmentIdentifyPayload;
use crate::segment::{
    Call, DeliveryState, ErrorCode, IdempotencyKey, MIN_RETRY_AFTER, MessageIds, Receipt, SegmentClient,
    SegmentClients, SegmentError,
};
use crate::supervisor::Supervisor;

/// Makes clients that store.
pub struct OutboxClients {
    shared: Arc<Shared>,
}

/// What all clients share.
struct Shared {
    outbox: Arc<dyn Outbox>,
    message_ids: MessageIds,
    supervisor: Supervisor,
}

/// One caller's handle.
struct OutboxClient {
    shared: Arc<Shared>,
    deadline: Instant,
    key: Option<IdempotencyKey>,
    /// Until when the caller waits for the outcome.
    wait_until: Option<Instant>,
    /// What was handed over and not yet flushed.
    handed_over: VecDeque<(String, Append)>,
}

impl OutboxClients {
    /// Clients that store in `outbox`; message ids are keyed with the write key.
    pub fn new(outbox: Arc<dyn Outbox>, message_ids: MessageIds, supervisor: &Supervisor) -> Self {
        Self { shared: Arc::new(Shared { outbox, message_ids, supervisor: supervisor.clone() }) }
    }
}

impl SegmentClients for OutboxClients {
    fn open(&self, deadline: Instant, key: Option<IdempotencyKey>, wait: Option<Duration>) -> Box<dyn SegmentClient> {
        Box::new(OutboxClient {
            shared: self.shared.clone(),
            deadline,
            key,
            wait_until: wait.map(|wait| Instant::now().checked_add(wait).map_or(deadline, |until| until.min(deadline))),
            handed_over: VecDeque::new(),
        })
    }

    fn stores(&self) -> bool {
        true
    }
}

#[async_trait]
impl SegmentClient for OutboxClient {
    fn identify(&mut self, payload: &SegmentIdentifyPayload<'_>) -> Result<(), SegmentError> {
        let (message_id, has_key) = self.shared.message_ids.id_for(payload, self.key.as_ref());
        let call = Call::new(payload, &message_id, Timestamp::now())?;
        let record = || KeyRecord { key: digest(&[message_id.as_bytes()]), body: fingerprint(payload) };
        let key = has_key.then(record);
        self.handed_over.push_back((message_id, Append { call, key, watch: self.wait_until.is_some() }));
        Ok(())
    }

    async fn flush(&mut self) -> Result<Receipt, SegmentError> {
        let nothing = SegmentError::new(ErrorCode::InvalidPayload, "there is nothing to flush");
        let mut outcome = Err(nothing);
        while let Some((message_id, append)) = self.handed_over.pop_front() {
            outcome = Ok(self.store(message_id, append).await?);
        }
        outcome
    }

    async fn close_and_flush(mut self: Box<Self>) -> Result<(), SegmentError> {
        if self.handed_over.is_empty() { Ok(()) } else { self.flush().await.map(|_receipt| ()) }
    }
}

impl OutboxClient {
    async fn store(&self, message_id: String, append: Append) -> Result<Receipt, SegmentError> {
        let appended = self.shared.outbox.append(append, self.deadline).await.map_err(not_stored)?;
        let stored = Receipt { message_id, standing: DeliveryState::Stored, replayed: appended.replayed };
        let (Some(until), Some(outcome)) = (self.wait_until, appended.outcome) else { return Ok(stored) };
        tokio::select! {
            // An outcome that is known is told, however short the wait.
            biased;
            outcome = outcome => match outcome {
                Ok(Outcome::Accepted) => Ok(Receipt { standing: DeliveryState::Accepted, ..stored }),
                Ok(Outcome::Refused(words)) => Err(SegmentError::new(ErrorCode::Rejected, words)),
                // The store was closed: it is there, and that is all that can be said.
                Err(_) => Ok(stored),
            },
            () = tokio::time::sleep_until(until) => Ok(stored),
            // Nothing that waits is sent any more.
            () = self.shared.supervisor.draining() => Ok(stored),
        }
    }
}

fn not_stored(error: OutboxError) -> SegmentError {
    match error {
        OutboxError::Full => {
            SegmentError::new(ErrorCode::Overloaded, "the outbox is full or cannot be written; the call was not stored")
                .retry_after(LATER)
        }
        OutboxError::Busy => {
            SegmentError::new(ErrorCode::Overloaded, "the outbox had no time for the call; it was not stored")
                .retry_after(MIN_RETRY_AFTER)
        }
        OutboxError::KeyReused => SegmentError::new(
            ErrorCode::KeyReused,
            "this messageId or idempotency key came with another payload before; nothing was stored",
        ),
        OutboxError::Unconfirmed | OutboxError::Unreadable => SegmentError::new(
            ErrorCode::OutboxTimeout,
            "the outbox did not confirm the call in time: whether it is stored is unknown; trying again with the same \
             key is safe",
        )
        .retry_after(MIN_RETRY_AFTER),
        OutboxError::Closed => {
            SegmentError::new(ErrorCode::ShuttingDown, "the relay is shutting down; the call was not stored")
                .retry_after(MIN_RETRY_AFTER)
        }
    }
}

/// What a repeated request has in common with the first: its body, or what a program put into the payload.
fn fingerprint(payload: &SegmentIdentifyPayload<'_>) -> [u8; 16] {
    let of_parts = || {
        let context = payload.context.as_ref().map_or("", |context| context.as_json());
        let integrations = payload.integrations.as_deref().unwrap_or_default();
        let anonymous_id = payload.anonymous_id.as_deref().unwrap_or_default();
        let timestamp = payload.timestamp.map(|timestamp| timestamp.to_string()).unwrap_or_default();
        let traits = payload.traits.as_json();
        let parts = [&*payload.user_id, traits, context, integrations, anonymous_id, &timestamp];
        digest(&parts.map(|part| digest(&[part.as_bytes()])).each_ref().map(|part| &part[..]))
    };
    payload.body.map_or_else(of_parts, |body| digest(&[body]))
}

fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize()[..16]);
    first
}

#[cfg(test)]
mod tests;
