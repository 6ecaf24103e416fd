//! The requests that wait for the appender.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::shared::Shared;
use crate::outbox::limits::{MAX_TRANSACTION_BYTES, group_bytes};
use crate::outbox::{Append, Appended, OutboxError};

/// Requests that may wait: as many as may be in flight by default (`RELAY_MAX_IN_FLIGHT`), so that callers wait here, in order.
const QUEUE_CAPACITY: usize = 2048;

/// Requests in one statement: half of the queue, so that the other half can fill up during the commit.
const MAX_REQUESTS: usize = 1024;

/// Whether the appender has begun with a request, or its caller has left before.
const WAITS: u8 = 0;
const BEGUN: u8 = 1;
const LEFT: u8 = 2;

/// The result of each call, or the error of all.
pub(super) type Answer = Result<Vec<Result<Appended, OutboxError>>, OutboxError>;

/// The calls of a caller.
pub(super) struct Request {
    pub(super) appends: Vec<Append>,
    pub(super) is_all_or_nothing: bool,
    turn: Arc<AtomicU8>,
    reply: oneshot::Sender<Answer>,
}

impl Request {
    pub(super) fn answer(self, answer: Answer) {
        // The caller may have left.
        let _ = self.reply.send(answer);
    }

    /// False if the caller was told that nothing is stored.
    fn begin(&self) -> bool {
        self.turn.compare_exchange(WAITS, BEGUN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The callers' end of the queue.
pub(super) struct Appends {
    requests: mpsc::Sender<Request>,
    shared: Arc<Shared>,
}

impl Appends {
    pub(super) fn new(shared: &Arc<Shared>) -> (Self, Queue) {
        let (requests, received) = mpsc::channel(QUEUE_CAPACITY);
        (Self { requests, shared: shared.clone() }, Queue { requests: received })
    }

    /// Stores calls. The deadline ends the wait, and nothing that has begun.
    pub(super) async fn store(&self, appends: Vec<Append>, is_all_or_nothing: bool, deadline: Instant) -> Answer {
        if deadline <= Instant::now() {
            return Err(OutboxError::Busy);
        }
        if self.shared.closing.is_cancelled() {
            return Err(OutboxError::Closed);
        }
        if self.shared.figures.lock().is_away {
            return Err(OutboxError::Away);
        }
        // Permits are granted in the order of the requests, so calls are stored in that order.
        let permit = timeout_at(deadline, self.requests.reserve()).await.map_err(|_late| OutboxError::Busy)?;
        let (reply, answer) = oneshot::channel();
        let turn = Arc::new(AtomicU8::new(WAITS));
        let request = Request { appends, is_all_or_nothing, turn: turn.clone(), reply };
        permit.map_err(|_closed| OutboxError::Closed)?.send(request);
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Err(_late) if turn.compare_exchange(WAITS, LEFT, Ordering::AcqRel, Ordering::Acquire).is_ok() => {
                Err(OutboxError::Busy)
            }
            Ok(Err(_)) | Err(_) => Err(OutboxError::Unconfirmed),
        }
    }
}

/// The appender's end of the queue.
pub(super) struct Queue {
    requests: mpsc::Receiver<Request>,
}

impl Queue {
    /// The next requests, in the order of their arrival: as many as one statement stores. `None` when the queue is closed and empty.
    pub(super) async fn next(&mut self) -> Option<Vec<Request>> {
        let (mut requests, mut bytes) = (Vec::new(), 0);
        let mut next = Some(self.requests.recv().await?);
        while let Some(request) = next.take() {
            if request.begin() {
                bytes += group_bytes(&request.appends);
                requests.push(request);
            }
            if requests.len() < MAX_REQUESTS && bytes < MAX_TRANSACTION_BYTES {
                next = self.requests.try_recv().ok();
            }
        }
        Some(requests)
    }

    /// Does some work, and meanwhile tells all who come that the database is away.
    pub(super) async fn refuse_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some(request) = self.requests.recv() => {
                    if request.begin() {
                        request.answer(Err(OutboxError::Away));
                    }
                }
            }
        }
    }

    /// Takes no more requests.
    pub(super) fn close(&mut self) {
        self.requests.close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }
}
