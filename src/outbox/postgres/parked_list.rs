//! Reading parked users: a page of them, newest first, or one of them.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::letters::message_id;
use super::operators::{Param, column, text};
use super::shared::Shared;
use crate::outbox::client::digest;
use crate::outbox::columns::time_text;
use crate::outbox::{OutboxError, ParkedUser};

/// Users whom one statement reads: each comes with a call, which may be of the largest size.
const STEP_USERS: usize = 64;

/// Users below $1, with their first calls. No user: all.
const READ: &str = "
    SELECT p.id, p.user_id, first.call, first.source, p.calls, (extract(epoch FROM p.since) * 1000)::bigint, p.attempts, p.status,
        coalesce(p.reason, ''), (extract(epoch FROM p.retry_at) * 1000)::bigint
    FROM (SELECT id, user_key, user_id, calls, since, attempts, status, reason, retry_at FROM segment_relay.parked
        WHERE id < $1 AND since IS NOT NULL AND ($2::bytea IS NULL OR user_key = $2) ORDER BY id DESC LIMIT $3) AS p
    CROSS JOIN LATERAL (SELECT c.call, c.source FROM segment_relay.parked_calls c WHERE c.user_key = p.user_key
        ORDER BY c.user_key, c.id LIMIT 1) AS first
    ORDER BY p.id DESC";

impl Shared {
    /// At most `limit` parked users with ids below `before`, newest first.
    pub(super) async fn list_parked(
        &self,
        limit: usize,
        before: Option<i64>,
        user_id: Option<&str>,
    ) -> Result<Vec<ParkedUser>, OutboxError> {
        let (mut users, mut before) = (Vec::new(), before.unwrap_or(i64::MAX));
        let user_key = user_id.map(|user_id| digest(&[user_id.as_bytes()]));
        let user_key = user_key.as_ref().map(<[u8; 16]>::as_slice);
        loop {
            let step = STEP_USERS.min(limit - users.len());
            let params: [Param<'_>; 3] =
                [(&before, Type::INT8), (&user_key, Type::BYTEA), (&(step as i64), Type::INT8)];
            let rows = self.read_rows(READ, &params).await?;
            for row in &rows {
                users.push(parked_user(row)?);
            }
            match users.last() {
                Some(last) if rows.len() == step && users.len() < limit => before = last.id,
                _ => return Ok(users),
            }
        }
    }
}

fn parked_user(row: &Row) -> Result<ParkedUser, OutboxError> {
    let (calls, attempts, status): (i64, i32, Option<i32>) = (column(row, 4)?, column(row, 6)?, column(row, 7)?);
    Ok(ParkedUser {
        id: column(row, 0)?,
        user_id: text(row, 1)?,
        message_id: message_id(column(row, 2)?)?,
        source: column(row, 3)?,
        calls: calls.max(0).unsigned_abs(),
        since: time_text(column(row, 5)?),
        attempts: attempts.max(0).unsigned_abs(),
        status: status.and_then(|status| u16::try_from(status).ok()),
        reason: text(row, 8)?,
        retry_at: time_text(column(row, 9)?),
    })
}
