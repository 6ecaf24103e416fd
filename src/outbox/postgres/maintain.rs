//! What the deliverer does once a second, in between: it folds the tallies, publishes the figures, and deletes what is too old or
//! too much.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::database_error::DatabaseError;
use super::deliverer::Deliverer;
use super::prune::PRUNE_PAUSE;
use super::transaction::{Effects, Transaction, column};
use crate::outbox::OutboxError;

/// Between two looks at what is due: the figures of the whole outbox are so old at most.
const INTERVAL: Duration = Duration::from_secs(1);

/// Between two deletions of what relays left behind: it grows by a few thousand small rows meanwhile.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Dead letters that one transaction deletes: a few milliseconds, for which delivery waits.
const MAX_PUSHED_OUT: i64 = 256;

/// Users who are published while the share of parked calls is used up. Beyond, calls of a parked user are stored although they
/// should not be; the limit of the whole outbox holds.
const MAX_PUBLISHED: i64 = 10_000;

/// Adds the visible tallies to the totals. If two relays do it at once, each row is deleted, and so added, by one of them.
const FOLD: &str = "
    WITH d AS (DELETE FROM segment_relay.tallies RETURNING source, waiting, waiting_bytes, dead_letters, dead_letter_bytes, keys,
        parked_users, parked_calls, parked_bytes)
    INSERT INTO segment_relay.totals AS t (source, waiting, waiting_bytes, dead_letters, dead_letter_bytes, keys,
        parked_users, parked_calls, parked_bytes)
    SELECT source, sum(waiting), sum(waiting_bytes), sum(dead_letters), sum(dead_letter_bytes), sum(keys),
        sum(parked_users), sum(parked_calls), sum(parked_bytes) FROM d GROUP BY source
    ON CONFLICT (source) DO UPDATE SET waiting = t.waiting + excluded.waiting,
        waiting_bytes = t.waiting_bytes + excluded.waiting_bytes, dead_letters = t.dead_letters + excluded.dead_letters,
        dead_letter_bytes = t.dead_letter_bytes + excluded.dead_letter_bytes, keys = t.keys + excluded.keys,
        parked_users = t.parked_users + excluded.parked_users, parked_calls = t.parked_calls + excluded.parked_calls,
        parked_bytes = t.parked_bytes + excluded.parked_bytes";

const TOTALS: &str = "SELECT coalesce(sum(parked_bytes), 0)::bigint, coalesce(sum(dead_letter_bytes), 0)::bigint,
    coalesce(sum(dead_letters), 0)::bigint FROM segment_relay.totals";

const OLDEST_LETTERS: &str = "
    SELECT id, octet_length(call)::bigint + octet_length(reason) + coalesce(octet_length(headers), 0) + 128
    FROM segment_relay.dead_letters ORDER BY id LIMIT $1";

const PUBLISH: &str = "
    UPDATE segment_relay.published SET made_at = clock_timestamp(), oldest_stored_at = least(
            (SELECT stored_at FROM segment_relay.calls ORDER BY id LIMIT 1),
            (SELECT stored_at FROM segment_relay.parked_calls ORDER BY id LIMIT 1)),
        used_up_users = $1::bytea[] || CASE WHEN $2 THEN ARRAY(SELECT user_key FROM segment_relay.parked WHERE since IS NOT NULL
            ORDER BY id LIMIT $3) ELSE '{}' END";

/// Groups are kept while their relay may repeat them: the last one for as long as the relay lives, earlier ones for an hour.
const SWEEP: [&str; 4] = [
    "DELETE FROM segment_relay.groups g WHERE made_at < now() - interval '1 hour'
        AND n < (SELECT n FROM segment_relay.groups WHERE relay = g.relay ORDER BY relay DESC, n DESC LIMIT 1)",
    "DELETE FROM segment_relay.groups g WHERE made_at < now() - interval '30 days'
        AND NOT EXISTS (SELECT FROM segment_relay.members WHERE relay = g.relay)",
    "DELETE FROM segment_relay.requests WHERE asked_at < now() - interval '1 day'",
    "DELETE FROM segment_relay.members WHERE seen_at < now() - interval '1 minute'",
];

impl Deliverer {
    /// Does what is due. `now`: whether it is due or not.
    pub(super) async fn maintain(&mut self, now: bool) -> Result<(), OutboxError> {
        if self.connection.is_some() && (now || self.maintenance.next_prune <= Instant::now()) {
            self.prune_some().await;
        }
        if self.connection.is_none() || !now && Instant::now() < self.maintenance.next {
            return Ok(());
        }
        self.maintenance.next = Instant::now() + INTERVAL;
        match self.maintain_now().await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.warn(&error);
                Err(error.of_change())
            }
        }
    }

    async fn prune_some(&mut self) {
        let pause = match self.prune().await {
            Ok(true) => PRUNE_PAUSE,
            Ok(false) => INTERVAL,
            Err(error) => {
                self.warn(&error);
                INTERVAL
            }
        };
        self.maintenance.next_prune = Instant::now() + pause;
    }

    async fn maintain_now(&mut self) -> Result<(), DatabaseError> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let folded = connection.execute(FOLD, &[]).await;
        self.checked(folded)?;
        self.push_out().await?;
        self.expire().await?;
        let is_share_used_up = self.totals().await?.0 > self.maintenance.parked_share();
        let users: Vec<Vec<u8>> = self.maintenance.user_bytes.keys().map(|user| user.to_vec()).collect();
        let params: [super::transaction::Param<'_>; 3] =
            [(&users, Type::BYTEA_ARRAY), (&is_share_used_up, Type::BOOL), (&MAX_PUBLISHED, Type::INT8)];
        let Some(connection) = &self.connection else { return Ok(()) };
        let published = connection.execute(PUBLISH, &params).await;
        self.checked(published)?;
        if self.maintenance.next_sweep <= Instant::now() {
            self.maintenance.next_sweep = Instant::now() + SWEEP_INTERVAL;
            for sql in SWEEP {
                let Some(connection) = &self.connection else { return Ok(()) };
                let swept = connection.execute(sql, &[]).await;
                self.checked(swept)?;
            }
        }
        Ok(())
    }

    /// Bytes of parked calls and of dead letters, and the number of these.
    async fn totals(&mut self) -> Result<(i64, i64, i64), DatabaseError> {
        let Some(connection) = &self.connection else { return Ok((0, 0, 0)) };
        let rows = connection.query(TOTALS, &[]).await;
        let rows = self.checked(rows)?;
        let Some(row) = rows.first() else { return Ok((0, 0, 0)) };
        Ok((column(row, 0)?, column(row, 1)?, column(row, 2)?))
    }

    /// Deletes the oldest dead letters, while they and parked calls take more than their share.
    async fn push_out(&mut self) -> Result<(), DatabaseError> {
        let (parked, letters, count) = self.totals().await?;
        let too_many = parked.saturating_add(letters) - self.maintenance.parked_share();
        if too_many <= 0 || count <= 0 {
            return Ok(());
        }
        let Some(connection) = &self.connection else { return Ok(()) };
        let rows = connection.query(OLDEST_LETTERS, &[(&MAX_PUSHED_OUT, Type::INT8)]).await;
        let (mut ids, mut bytes) = (Vec::new(), 0);
        for row in self.checked(rows)? {
            if bytes >= too_many {
                break;
            }
            bytes += column::<i64>(&row, 1)?;
            ids.push(column(&row, 0)?);
        }
        self.delete_letters(&ids, |effects, deleted| effects.pushed_out += deleted).await
    }

    /// Deletes dead letters in a transaction of their own.
    pub(super) async fn delete_letters(
        &mut self,
        ids: &[i64],
        count: impl FnOnce(&mut Effects, u64),
    ) -> Result<(), DatabaseError> {
        let Some(connection) = self.connection.as_ref().filter(|_| !ids.is_empty()) else { return Ok(()) };
        let done = match Transaction::begin(connection, self.owner).await {
            Ok(Some(mut transaction)) => {
                let deleted = transaction.delete_letters(ids).await;
                if let Ok(deleted) = &deleted {
                    count(&mut transaction.effects, *deleted);
                }
                transaction.end(deleted).await.map(Some)
            }
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        match self.checked(done)? {
            Some((_, effects)) => self.committed(&effects),
            None => self.end_tenure(),
        }
        Ok(())
    }
}
