//! `GET /backup`: a consistent copy of the outbox, streamed.
//!
//! The copy is complete before the first byte is sent, so a slow reader holds back nothing but the space of the copy, and
//! not for ever. The answer says its length: whoever gets fewer bytes has no backup.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::IntoResponse;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::state::AdminState;
use crate::api::error::ApiError;
use crate::api::request_id::RequestId;
use crate::api::state::{Admin, AppState};
use crate::outbox::{Backups, StoreCopy};
use crate::telemetry::EVERY_LINE;

/// Bytes that are read at once. Two of these are in memory.
const PIECE_BYTES: u64 = 256 * 1024;

/// The slowest reader that gets the whole copy, in bytes a second. A slower one holds the space of the copy for too long.
const MIN_RATE: u64 = 256 * 1024;

/// What every reader has beside the time at that rate.
const MIN_TIME: Duration = Duration::from_secs(60);

/// The headers of every answer that is, or would be, a copy.
const HEADERS: [(HeaderName, &str); 2] =
    [(CONTENT_TYPE, "application/vnd.sqlite3"), (CONTENT_DISPOSITION, "attachment; filename=\"outbox.db\"")];

/// `GET /backup`. It has no time limit: a copy of a large outbox takes minutes.
pub(super) async fn get(
    State(state): State<Arc<AppState>>,
    Admin(admin): Admin,
    request_id: RequestId,
) -> Result<impl IntoResponse, ApiError> {
    let copy = backups(&admin)?.back_up().await?;
    let bytes = copy.bytes;
    let (pieces, received) = mpsc::channel(1);
    let request_id = request_id.as_str().to_owned();
    state.supervisor.spawn("backup", async move {
        let sent = send(copy, pieces).await;
        tracing::info!(name: EVERY_LINE, request_id, bytes, sent, "a backup was sent");
    });
    Ok((HEADERS, [(CONTENT_LENGTH, HeaderValue::from(bytes))], body(received, bytes)))
}

/// `HEAD /backup`. It makes no copy, so it does not know the length of one.
pub(super) async fn head(Admin(admin): Admin) -> Result<impl IntoResponse, ApiError> {
    backups(&admin)?;
    // A body that is known to be empty would be announced as one.
    Ok((HEADERS, Body::from_stream(stream::empty::<io::Result<Bytes>>())))
}

fn backups(admin: &AdminState) -> Result<&Arc<dyn Backups>, ApiError> {
    let missing = || match (admin.fleet_report)() {
        Some(_) => "the outbox is in PostgreSQL; back up the database with pg_basebackup or pg_dump (docs/fleet.md)",
        None => "no outbox is configured (RELAY_OUTBOX_URL), so there is nothing to back up",
    };
    admin.backups.as_ref().ok_or_else(|| ApiError::not_found(missing()))
}

/// Reads the copy and hands it on, and closes it. Returns the bytes that were handed on.
async fn send(copy: StoreCopy, pieces: mpsc::Sender<io::Result<Bytes>>) -> u64 {
    let StoreCopy { file, bytes, permit: _permit } = copy;
    let (file, mut sent) = (Arc::new(file), 0);
    let deadline = Instant::now() + MIN_TIME + Duration::from_secs(bytes / MIN_RATE);
    while sent < bytes {
        let (from, length) = (sent, PIECE_BYTES.min(bytes - sent));
        let file = file.clone();
        let piece = tokio::task::spawn_blocking(move || read(&file, from, length)).await;
        let piece = piece.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        let is_error = piece.is_err();
        match timeout_at(deadline, pieces.send(piece)).await {
            Ok(Ok(())) if !is_error => sent += length,
            _ => break,
        }
    }
    sent
}

fn read(file: &File, from: u64, length: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut piece, from)?;
    Ok(piece.into())
}

/// A body that fails if the pieces end early.
fn body(received: mpsc::Receiver<io::Result<Bytes>>, bytes: u64) -> Body {
    Body::from_stream(stream::unfold((received, bytes), |(mut received, left)| async move {
        if left == 0 {
            return None;
        }
        let piece = received.recv().await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()));
        let left = piece.as_ref().map_or(0, |piece| left.saturating_sub(piece.len() as u64));
        Some((piece, (received, left)))
    }))
}
