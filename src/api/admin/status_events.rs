//! `GET /status/events`: what the operators' page shows, as server-sent events.
//!
//! `history` comes once: the last 15 minutes. `status` comes at once and then each second: the JSON of `GET /status`. `point` comes
//! with each new sample of the history. A stream ends when the relay takes no new connections, so it never holds up a shutdown, and
//! when its token is valid no longer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderName};
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::AdminState;
use super::status::StatusReport;
use crate::api::error::ApiError;
use crate::api::state::{Admin, AppState};

/// Time from one `status` to the next.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// The first tells nginx to pass each event on at once.
const HEADERS: [(HeaderName, &str); 2] =
    [(HeaderName::from_static("x-accel-buffering"), "no"), (CACHE_CONTROL, "no-store")];

/// One reader of events.
struct Reader {
    state: Arc<AppState>,
    admin: Arc<AdminState>,
    /// With the token.
    headers: HeaderMap,
    ticks: tokio::time::Interval,
    /// Events that are due now, the last one first.
    due: Vec<Event>,
    /// The samples that the reader has.
    samples: u64,
    _permit: OwnedSemaphorePermit,
}

/// `GET /status/events`
pub(super) async fn get(
    State(state): State<Arc<AppState>>,
    Admin(admin): Admin,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let permit = admin.stream_permits.clone().try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::overloaded("too many streams of events are open; close one"))?;
    let mut ticks = interval_at(Instant::now() + STATUS_INTERVAL, STATUS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let samples = admin.history.taken();
    let due = vec![event("status", &StatusReport::now(&state, &admin)), event("history", &admin.history.report())];
    let reader = Reader { state, admin, headers, ticks, due, samples, _permit: permit };
    let events = stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    Ok((HEADERS, Sse::new(events)))
}

impl Reader {
    /// The next event. `None` ends the stream.
    async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.due.pop() {
            return Some(event);
        }
        tokio::select! {
            () = self.state.supervisor.closing() => return None,
            _ = self.ticks.tick() => {}
        }
        self.admin.token.read().verify_bearer(&self.headers).ok()?;
        let samples = self.admin.history.taken();
        if samples != self.samples {
            let is_next = samples == self.samples + 1;
            self.samples = samples;
            // A slow reader missed some.
            let history = || event("history", &self.admin.history.report());
            let point = || self.admin.history.point().map(|point| event("point", &point));
            self.due.extend(if is_next { point() } else { Some(history()) });
        }
        Some(event("status", &StatusReport::now(&self.state, &self.admin)))
    }
}

/// An event with JSON as its data. The reports hold nothing that cannot be JSON.
fn event(name: &str, report: &impl Serialize) -> Event {
    Event::default().event(name).data(serde_json::to_string(report).unwrap_or_default())
}
