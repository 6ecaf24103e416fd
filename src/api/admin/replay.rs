//! Replays dead letters: calls go behind the waiting ones as they are, and events through the filter that their source has now.

use std::time::Duration;

use tokio::time::sleep;

use crate::api::error::{ApiError, ApiErrorCode};
use crate::outbox::{DeadLetters, LetterIds, OutboxError};
use crate::sources::{Replay, Sources};

/// The pause after which an event is tried again that found the queue of its source full.
const PAUSE: Duration = Duration::from_millis(100);

/// Tries of one event: 5 s in all. A queue that is full for longer is that of a filter that loops, and the event stays.
const MAX_TRIES: usize = 50;

/// Replays these letters, and adds to `replayed` how many are none any more. What is gone already does no harm, so this can be
/// called again after an error.
pub(super) async fn replay(
    letters: &dyn DeadLetters,
    sources: Option<&Sources>,
    found: &LetterIds,
    replayed: &mut u64,
) -> Result<(), OutboxError> {
    if found.events.len() < found.ids.len() {
        *replayed += letters.replay(found.ids.clone()).await?;
    }
    let Some(sources) = sources else { return Ok(()) };
    for id in &found.events {
        for _ in 0..MAX_TRIES {
            match sources.replay(*id).await? {
                Replay::Done => *replayed += 1,
                Replay::Overloaded => {
                    sleep(PAUSE).await;
                    continue;
                }
                Replay::Gone | Replay::Unmapped(_) | Replay::NotConfigured => {}
            }
            break;
        }
    }
    Ok(())
}

/// Replays one letter if it is an event. False: it is none, or there is no such letter.
///
/// # Errors
/// It stays a dead letter.
pub(super) async fn replay_event(sources: Option<&Sources>, id: i64) -> Result<bool, ApiError> {
    let Some(sources) = sources else { return Ok(false) };
    match sources.replay(id).await? {
        Replay::Done => Ok(true),
        Replay::Gone => Ok(false),
        // The operator may read what the sender may not.
        Replay::Unmapped(reason) => {
            Err(ApiError::new(ApiErrorCode::FilterFailed, format!("the event makes no valid customers: {reason}")))
        }
        Replay::NotConfigured => Err(ApiError::new(
            ApiErrorCode::FilterFailed,
            "the source of this event is not configured, so there is no filter for it",
        )),
        Replay::Overloaded => {
            Err(ApiError::overloaded("too many events of this source wait for its filter; try again"))
        }
    }
}
