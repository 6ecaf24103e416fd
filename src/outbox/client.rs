//! The client whose flush returns when the call is synced, or, for a caller that waits, when the call is settled.
//!
//! The store is injected. This client sends nothing to Segment.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::store::{Append, Appended, DeliveryOutcome, KeyRecord, Outbox, OutboxError, STORE_RETRY_AFTER};
use crate::customer::{JsonObject, SegmentIdentifyPayload};
use crate::segment::{
    Call, DeliveryState, ErrorCode, GroupTerms, IdempotencyKey, MIN_RETRY_AFTER, MessageIds, Origin, Receipt,
    SegmentClient, SegmentClients, SegmentError, SegmentGroup,
};
use crate::supervisor::Supervisor;
use crate::telemetry::{TARGET, TraceContext};

/// The start of the message to the caller of a call that was given up. The last failure follows, in the relay's own words.
const GAVE_UP: &str =
    "the relay gave this call up, after it failed on its own for too long or because an operator said so";

/// Makes clients that store calls in the outbox.
pub struct OutboxClients(Arc<StoreContext>);

/// What all clients share.
struct StoreContext {
    outbox: Arc<dyn Outbox>,
    message_ids: MessageIds,
    supervisor: Supervisor,
}

/// The customers of one request.
struct OutboxGroup {
    context: Arc<StoreContext>,
    terms: GroupTerms,
    wait_until: Option<Instant>,
    queued: Vec<(String, Append)>,
}

/// The client of one request.
struct OutboxClient {
    context: Arc<StoreContext>,
    deadline: Instant,
    key: Option<IdempotencyKey>,
    /// Until when the caller waits for the outcome.
    wait_until: Option<Instant>,
    /// Identified calls that were not flushed yet, each with its `messageId`.
    queued: VecDeque<(String, Append)>,
}

impl OutboxClients {
    /// Message ids are keyed with the write key.
    pub fn new(outbox: Arc<dyn Outbox>, message_ids: MessageIds, supervisor: &Supervisor) -> Self {
        Self(Arc::new(StoreContext { outbox, message_ids, supervisor: supervisor.clone() }))
    }
}

impl SegmentClients for OutboxClients {
    fn open(&self, deadline: Instant, key: Option<IdempotencyKey>, wait: Option<Duration>) -> Box<dyn SegmentClient> {
        Box::new(OutboxClient {
            context: self.0.clone(),
            deadline,
            key,
            wait_until: wait_until(wait, deadline),
            queued: VecDeque::new(),
        })
    }

    fn open_group(&self, terms: GroupTerms) -> Box<dyn SegmentGroup> {
        let wait_until = wait_until(terms.wait, terms.deadline);
        Box::new(OutboxGroup { context: self.0.clone(), terms, wait_until, queued: Vec::new() })
    }

    fn stores(&self) -> bool {
        true
    }
}

#[async_trait]
impl SegmentClient for OutboxClient {
    fn identify(&mut self, payload: &SegmentIdentifyPayload<'_>) -> Result<(), SegmentError> {
        let append = Append::new(payload, &self.context.message_ids, self.key.as_ref(), None, None, Timestamp::now())?;
        self.queued.push_back(watched(append, self.wait_until));
        Ok(())
    }

    async fn flush(&mut self) -> Result<Receipt, SegmentError> {
        let mut outcome = Err(SegmentError::new(ErrorCode::InvalidPayload, "there is nothing to flush"));
        while let Some((message_id, append)) = self.queued.pop_front() {
            outcome = Ok(self.store(message_id, append).await?);
        }
        outcome
    }

    async fn close_and_flush(mut self: Box<Self>) -> Result<(), SegmentError> {
        if self.queued.is_empty() { Ok(()) } else { self.flush().await.map(|_receipt| ()) }
    }
}

#[async_trait]
impl SegmentGroup for OutboxGroup {
    fn identify(&mut self, place: usize, payload: &SegmentIdentifyPayload<'_>) -> Result<(), SegmentError> {
        let GroupTerms { key, source, .. } = &self.terms;
        let ids = &self.context.message_ids;
        let append = Append::new(payload, ids, key.as_ref(), source.clone(), Some(place), Timestamp::now())?;
        self.queued.push(watched(append, self.wait_until));
        Ok(())
    }

    async fn flush(&mut self) -> Vec<Result<Receipt, SegmentError>> {
        let (message_ids, group): (Vec<String>, Vec<Append>) = self.queued.drain(..).unzip();
        let GroupTerms { deadline, is_all_or_nothing, .. } = self.terms;
        let span = store_span(group.len());
        let storing = self.context.outbox.append_group(group, is_all_or_nothing, deadline).instrument(span);
        let results = match storing.await {
            Ok(results) => results,
            Err(error) => return message_ids.iter().map(|_| Err(to_segment_error(error))).collect(),
        };
        let mut outcomes = Vec::with_capacity(results.len());
        for (message_id, result) in message_ids.into_iter().zip(results) {
            outcomes.push(match result {
                Ok(appended) => self.context.outcome(message_id, appended, self.wait_until).await,
                Err(error) => Err(to_segment_error(error)),
            });
        }
        outcomes
    }
}

/// The span of a commit that so many calls of a request wait for.
fn store_span(calls: usize) -> Span {
    tracing::info_span!(target: TARGET, "store", segment_relay.calls = calls)
}

fn wait_until(wait: Option<Duration>, deadline: Instant) -> Option<Instant> {
    wait.map(|wait| Instant::now().checked_add(wait).map_or(deadline, |until| until.min(deadline)))
}

impl OutboxClient {
    async fn store(&self, message_id: String, append: Append) -> Result<Receipt, SegmentError> {
        let storing = self.context.outbox.append(append, self.deadline).instrument(store_span(1));
        let appended = storing.await.map_err(to_segment_error)?;
        self.context.outcome(message_id, appended, self.wait_until).await
    }
}

/// The same call, which the caller watches if it waits for the outcome.
fn watched((message_id, append): (String, Append), wait_until: Option<Instant>) -> (String, Append) {
    (message_id, Append { watch: wait_until.is_some(), ..append })
}

impl Append {
    /// The call of a payload, and its id. It came by `source` (`None`: `POST /customers`), and was at this place of a request
    /// with several.
    ///
    /// # Errors
    /// The call is too large.
    pub fn new(
        payload: &SegmentIdentifyPayload<'_>,
        message_ids: &MessageIds,
        key: Option<&IdempotencyKey>,
        source: Option<Arc<str>>,
        place: Option<usize>,
        received_at: Timestamp,
    ) -> Result<(String, Self), SegmentError> {
        let origin = Origin { source: source.as_deref(), place };
        let (message_id, has_key) = message_ids.id_for(payload, key, origin);
        let body = || if source.is_some() { event_fingerprint(payload) } else { fingerprint(payload) };
        let key = has_key.then(|| KeyRecord { key: digest(&[message_id.as_bytes()]), body: body() });
        let call = Call::new(payload, &message_id, received_at)?.of_source(source).in_trace(TraceContext::current());
        Ok((message_id, Self { call, key, watch: false }))
    }
}

impl StoreContext {
    async fn outcome(
        &self,
        message_id: String,
        appended: Appended,
        wait_until: Option<Instant>,
    ) -> Result<Receipt, SegmentError> {
        let replayed = appended.replayed;
        let stored = Receipt { message_id, state: DeliveryState::Stored, replayed };
        let Some(outcome) = appended.outcome else { return Ok(stored) };
        // A caller who does not wait gets an outcome only if it is known: that of a dead letter.
        let until = wait_until.unwrap_or_else(Instant::now);
        let outcome = tokio::select! {
            // Checked first: a known outcome is returned even if the wait is zero.
            biased;
            outcome = outcome => match outcome {
                Ok(DeliveryOutcome::Accepted) => Ok(Receipt { state: DeliveryState::Accepted, ..stored }),
                Ok(DeliveryOutcome::Refused(reason)) => {
                    Err(SegmentError { replayed, ..SegmentError::new(ErrorCode::Rejected, reason) })
                }
                Ok(DeliveryOutcome::GaveUp(reason)) => {
                    let message = format!("{GAVE_UP}: {reason}");
                    Err(SegmentError { replayed, ..SegmentError::new(ErrorCode::GaveUp, message) })
                }
                // The store was closed before the outcome: the call is stored, and no more is known.
                Err(_) => Ok(stored),
            },
            () = tokio::time::sleep_until(until) => Ok(stored),
            // A draining relay sends no waiting calls any more.
            () = self.supervisor.draining() => Ok(stored),
        };
        match outcome {
            Ok(Receipt { state: DeliveryState::Stored, .. }) if self.outbox.stats().is_lost => {
                Err(to_segment_error(OutboxError::Unconfirmed))
            }
            outcome => outcome,
        }
    }
}

fn to_segment_error(error: OutboxError) -> SegmentError {
    let (code, message) = match error {
        OutboxError::Full => {
            (ErrorCode::Overloaded, "the outbox is full or cannot be written; the call was not stored")
        }
        OutboxError::UserShare => (
            ErrorCode::Overloaded,
            "the waiting calls of this user take the whole share of one user in the outbox; the call was not stored",
        ),
        OutboxError::ParkedShare => (
            ErrorCode::Overloaded,
            "an earlier call of this user fails, and such calls take their whole share of the outbox; the call was not stored",
        ),
        OutboxError::SourceShare => (
            ErrorCode::Overloaded,
            "the outbox is half full, and the waiting calls of this source take the whole share of one source; nothing was stored",
        ),
        OutboxError::TooLarge => {
            (ErrorCode::MessageTooLarge, "the calls of this request take more than 4 MiB together; nothing was stored")
        }
        OutboxError::Busy => (ErrorCode::Overloaded, "the outbox is busy; the call was not stored"),
        OutboxError::KeyReused => (
            ErrorCode::KeyReused,
            "this messageId or idempotency key came with another payload before; nothing was stored",
        ),
        OutboxError::Unconfirmed | OutboxError::Unreadable => (
            ErrorCode::OutboxTimeout,
            "the outbox did not confirm the call in time: whether it is stored is unknown; trying again with the same \
             key is safe",
        ),
        OutboxError::Away => {
            (ErrorCode::Overloaded, "the outbox's database cannot be reached; the call was not stored")
        }
        OutboxError::Closed => (ErrorCode::ShuttingDown, "the relay is shutting down; the call was not stored"),
    };
    let failure = SegmentError::new(code, message);
    match error {
        OutboxError::KeyReused | OutboxError::TooLarge => failure,
        OutboxError::Full | OutboxError::UserShare | OutboxError::ParkedShare | OutboxError::SourceShare => {
            failure.retry_after(STORE_RETRY_AFTER)
        }
        _ => failure.retry_after(MIN_RETRY_AFTER),
    }
}

/// Digest of what a repeated request has in common with the first: the body, or the fields of a payload that was built
/// without one.
fn fingerprint(payload: &SegmentIdentifyPayload<'_>) -> [u8; 16] {
    let timestamp = || payload.timestamp.map(|timestamp| timestamp.to_string()).unwrap_or_default();
    payload.body.map_or_else(|| digest_of_fields(payload, &timestamp()), |body| digest(&[body]))
}

/// Digest of what a repeated event has in common with the first: the customer that its source's filter makes of it, but for the
/// timestamp, which a filter may take from the time of the request.
fn event_fingerprint(payload: &SegmentIdentifyPayload<'_>) -> [u8; 16] {
    digest_of_fields(payload, "")
}

fn digest_of_fields(payload: &SegmentIdentifyPayload<'_>, timestamp: &str) -> [u8; 16] {
    let context = payload.context.as_ref().map_or("", |context| context.as_json());
    let integrations = payload.integrations.as_ref().map_or("", JsonObject::as_json);
    let anonymous_id = payload.anonymous_id.as_deref().unwrap_or_default();
    let traits = payload.traits.as_json();
    let parts = [&*payload.user_id, traits, context, integrations, anonymous_id, timestamp];
    digest(&parts.map(|part| digest(&[part.as_bytes()])).each_ref().map(|part| &part[..]))
}

/// The first 16 bytes of a SHA-256: what is stored of a key.
pub(super) fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize()[..16]);
    first
}

#[cfg(test)]
mod tests;
