//! Takes over the outbox of an SQLite file: `segment-relay move`.
//!
//! A row of `requests` holds how far the move is. It changes in the transaction that stores the rows of a page. So a page is stored
//! once, wherever the move is interrupted. Until the move has ended nobody delivers: it holds the lease.
//!
//! A call keeps its place: its id is its old one and an offset. The base of new ids is raised above the last one at the beginning.

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio_postgres::types::{ToSql, Type};

use super::connect::{Connection, Connector};
use super::durable_commit::settings;
use super::schema::{self, MIGRATIONS};
use super::server;
use crate::config::PostgresUrl;
use crate::outbox::moved::{
    MoveHead, MovePage, MoveProgress, MoveStep, MovedCall, MovedKey, MovedLetter, MovedParkedUser, MovedRows,
    MovedSettledKey,
};

/// The verb of the row that holds the progress. It has an answer from the beginning, so that nobody takes it for a request.
const VERB: &str = "move";

/// What a commit needs: that it is on disk, whatever the server's default is.
const BEGIN: &str = concat!("BEGIN; SELECT ", settings!());

/// The time of a number of milliseconds since 1970.
macro_rules! time {
    ($ms:literal) => {
        concat!("timestamptz 'epoch' + ", $ms, " * interval '1 millisecond'")
    };
}

/// The database to which an outbox is moved.
pub struct MoveTarget {
    connection: Connection,
    state: MoveState,
}

/// What stands in the row.
#[derive(Clone, Serialize, Deserialize)]
struct MoveState {
    token: i64,
    /// The new id of a call is its old one and this.
    offset: i64,
    moved: u64,
    progress: MoveProgress,
}

impl MoveTarget {
    /// Connects, and makes the tables if there are none.
    ///
    /// # Errors
    /// If the database cannot be used.
    pub async fn connect(url: &PostgresUrl) -> anyhow::Result<Self> {
        let open = async {
            let connection = Connector::new(url)?.open("move").await?;
            server::refuse_unsafe(&connection).await?;
            schema::prepare(&connection, MIGRATIONS).await?;
            let state = MoveState { token: 0, offset: 0, moved: 0, progress: MoveProgress::at(MoveStep::Keys) };
            Ok::<_, anyhow::Error>(Self { connection, state })
        };
        open.await.with_context(|| format!("the outbox {url} cannot be used"))
    }

    /// Refuses a database that holds an outbox, unless it is what this file's move has stored.
    ///
    /// # Errors
    /// If it is refused, or cannot be read.
    pub async fn check(&self, token: Option<i64>) -> anyhow::Result<()> {
        match self.read().await? {
            Some(state) if Some(state.token) == token => Ok(()),
            Some(state) if state.progress.step != MoveStep::Done => {
                bail!("another outbox is being moved there; finish that move first")
            }
            _ => self.refuse_content().await,
        }
    }

    /// Begins the move, or goes on where it was interrupted.
    ///
    /// # Errors
    /// If the database holds another outbox, or cannot be written.
    pub async fn begin(&mut self, head: &MoveHead) -> anyhow::Result<()> {
        // It waits for appends that run, and keeps new ones from running.
        self.connection.batch(BEGIN).await?;
        self.connection.batch("LOCK TABLE segment_relay.meta IN ACCESS EXCLUSIVE MODE").await?;
        self.check(Some(head.token)).await?;
        if let Some(state) = self.read().await?.filter(|state| state.token == head.token) {
            if state.progress.step != MoveStep::Done {
                self.guard().await?;
            }
            self.state = state;
            return self.commit().await;
        }
        // Of a move that is at its end.
        self.connection.execute("DELETE FROM segment_relay.requests WHERE verb = $1", &[(&VERB, Type::TEXT)]).await?;
        let sql = "UPDATE segment_relay.meta AS new SET base = new.base + x.first + 2 + ($1::bigint >> 16)
                   FROM (SELECT pg_current_xact_id()::text::bigint AS first) AS x
                   RETURNING (new.base - 1 - ($1::bigint >> 16)) << 16";
        let rows = self.connection.query(sql, &[(&head.last_call, Type::INT8)]).await?;
        let offset = rows.first().context("the tables have lost their version")?.try_get(0)?;
        self.state = MoveState { token: head.token, offset, moved: 0, progress: MoveProgress::at(MoveStep::Keys) };
        for (table, last) in [("dead_letters", head.last_letter), ("parked", head.last_parked)] {
            let sql = format!("SELECT setval(pg_get_serial_sequence('segment_relay.{table}', 'id'), $1, false)");
            self.connection.query(&sql, &[(&(last + 1), Type::INT8)]).await?;
        }
        self.guard().await?;
        let sql = "INSERT INTO segment_relay.requests (verb, arguments, answer) VALUES ($1, $2::text::json, '{}')";
        let arguments = serde_json::to_string(&self.state)?;
        self.connection.execute(sql, &[(&VERB, Type::TEXT), (&arguments, Type::TEXT)]).await?;
        self.commit().await
    }

    /// Keeps relays from delivering before everything is there. The time is finite, because relays subtract from it.
    async fn guard(&self) -> anyhow::Result<()> {
        let sql = "UPDATE segment_relay.lease SET owner = 0, since = now(), expires = now() + interval '10 years'
                   WHERE owner = 0 OR expires < clock_timestamp()";
        let changed = self.connection.execute(sql, &[]).await?;
        ensure!(
            changed == 1,
            "a relay delivers what is there already; stop the relays, and run the same command again"
        );
        Ok(())
    }

    /// How far the move is, and how many rows are moved.
    pub fn progress(&self) -> (&MoveProgress, u64) {
        (&self.state.progress, self.state.moved)
    }

    /// Stores the rows of a page, in one transaction.
    ///
    /// # Errors
    /// If they may not be stored. The move can be repeated.
    pub async fn store(&mut self, page: &MovePage) -> anyhow::Result<()> {
        let next = MoveState {
            moved: self.state.moved + page.rows.len() as u64,
            progress: page.after.clone(),
            ..self.state.clone()
        };
        self.connection.batch(BEGIN).await?;
        self.advance(&next).await?;
        match &page.rows {
            MovedRows::Keys(rows) => self.store_keys(rows).await?,
            MovedRows::SettledKeys(rows) => self.store_settled_keys(rows).await?,
            MovedRows::ParkedUsers(rows) => self.store_parked_users(rows).await?,
            MovedRows::Calls(rows) => self.store_calls(rows).await?,
            MovedRows::DeadLetters(rows) => self.store_letters(rows).await?,
        }
        self.commit().await?;
        self.state = next;
        Ok(())
    }

    /// Goes on to the next step. At the end whoever wants to deliver may.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    pub async fn end_step(&mut self) -> anyhow::Result<()> {
        let progress = MoveProgress::at(self.state.progress.step.next());
        let next = MoveState { progress, ..self.state.clone() };
        self.connection.batch(BEGIN).await?;
        self.advance(&next).await?;
        if next.progress.step == MoveStep::Done {
            let sql = "UPDATE segment_relay.lease SET expires = '-infinity'";
            self.connection.execute(sql, &[]).await?;
        }
        self.commit().await?;
        self.state = next;
        Ok(())
    }

    /// Notes the next state, if the present one is still the last. Another process that moves the same waits meanwhile, and fails.
    async fn advance(&self, next: &MoveState) -> anyhow::Result<()> {
        let sql = "UPDATE segment_relay.requests SET arguments = $2::text::json
                   WHERE verb = $1 AND arguments::text = $3
                       AND EXISTS (SELECT FROM segment_relay.lease WHERE owner = 0 AND expires > clock_timestamp())";
        let (next, now) = (serde_json::to_string(next)?, serde_json::to_string(&self.state)?);
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&VERB, Type::TEXT), (&next, Type::TEXT), (&now, Type::TEXT)];
        let changed = self.connection.execute(sql, &parameters).await?;
        ensure!(
            changed == 1,
            "another process moves the same outbox, or somebody changed the lease that keeps relays from delivering"
        );
        Ok(())
    }

    async fn commit(&self) -> anyhow::Result<()> {
        let is_confirmed = self.connection.commit().await?;
        ensure!(is_confirmed, "no standby has confirmed the rows; run the same command to go on");
        Ok(())
    }

    async fn read(&self) -> anyhow::Result<Option<MoveState>> {
        let sql = "SELECT arguments::text FROM segment_relay.requests WHERE verb = $1";
        let rows = self.connection.query(sql, &[(&VERB, Type::TEXT)]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(serde_json::from_str(row.try_get(0)?).context("the progress of the move cannot be read")?))
    }

    async fn refuse_content(&self) -> anyhow::Result<()> {
        let sql = "SELECT EXISTS (SELECT 1 FROM segment_relay.calls) OR EXISTS (SELECT 1 FROM segment_relay.parked_calls)
                       OR EXISTS (SELECT 1 FROM segment_relay.dead_letters) OR EXISTS (SELECT 1 FROM segment_relay.keys)
                       OR EXISTS (SELECT 1 FROM segment_relay.settled_keys) OR EXISTS (SELECT 1 FROM segment_relay.parked),
                   EXISTS (SELECT 1 FROM segment_relay.members WHERE seen_at > now() - interval '1 minute')";
        let rows = self.connection.query(sql, &[]).await?;
        let row = rows.first().context("the database answers without a row")?;
        ensure!(!row.try_get::<_, bool>(0)?, "the database holds an outbox already; name an empty one");
        let is_used = row.try_get::<_, bool>(1)?;
        ensure!(!is_used, "a relay uses the database, or did less than a minute ago; start relays after the move");
        Ok(())
    }

    async fn store_keys(&self, rows: &[MovedKey]) -> anyhow::Result<()> {
        let keys: Vec<_> = rows.iter().map(|row| &row.key[..]).collect();
        let bodies: Vec<_> = rows.iter().map(|row| &row.body[..]).collect();
        let calls: Vec<_> = rows.iter().map(|row| self.call_id(row.call_id)).collect();
        let letters: Vec<_> = rows.iter().map(|row| row.dead_letter_id).collect();
        let sql = "WITH k AS (INSERT INTO segment_relay.keys (key, body, call_id, dead_letter_id)
                           SELECT key, body, call_id, letter
                           FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bigint[]) AS t (key, body, call_id, letter)
                           ON CONFLICT DO NOTHING RETURNING 1)
                   INSERT INTO segment_relay.tallies (source, keys) SELECT '', count(*) FROM k";
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&keys, Type::BYTEA_ARRAY),
            (&bodies, Type::BYTEA_ARRAY),
            (&calls, Type::INT8_ARRAY),
            (&letters, Type::INT8_ARRAY),
        ];
        self.connection.execute(sql, &parameters).await?;
        Ok(())
    }

    async fn store_settled_keys(&self, rows: &[MovedSettledKey]) -> anyhow::Result<()> {
        let sources: Vec<_> = rows.iter().map(|row| &*row.source).collect();
        let times: Vec<_> = rows.iter().map(|row| row.settled_at).collect();
        let keys: Vec<_> = rows.iter().map(|row| &row.key[..]).collect();
        let calls: Vec<_> = rows.iter().map(|row| self.call_id(row.call_id)).collect();
        let sql = concat!(
            "INSERT INTO segment_relay.settled_keys (source, settled_at, key, call_id) SELECT source, ",
            time!("settled_at"),
            ", key, call_id FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::bigint[]) WITH ORDINALITY
             AS t (source, settled_at, key, call_id, place) ORDER BY place"
        );
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&sources, Type::TEXT_ARRAY),
            (&times, Type::INT8_ARRAY),
            (&keys, Type::BYTEA_ARRAY),
            (&calls, Type::INT8_ARRAY),
        ];
        self.connection.execute(sql, &parameters).await?;
        Ok(())
    }

    /// Their calls are counted when they come.
    async fn store_parked_users(&self, rows: &[MovedParkedUser]) -> anyhow::Result<()> {
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let users: Vec<_> = rows.iter().map(|row| row.user_id.as_bytes()).collect();
        let since: Vec<_> = rows.iter().map(|row| row.since).collect();
        let attempts: Vec<_> = rows.iter().map(|row| row.attempts).collect();
        let failures: Vec<_> = rows.iter().map(|row| row.failures).collect();
        let statuses: Vec<_> = rows.iter().map(|row| row.status).collect();
        let reasons: Vec<_> = rows.iter().map(|row| row.reason.as_ref().map(String::as_bytes)).collect();
        let retry: Vec<_> = rows.iter().map(|row| row.retry_at).collect();
        let sql = concat!(
            "WITH t AS (SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::integer[], $5::integer[], $6::integer[],
                 $7::bytea[], $8::bigint[]) AS t (id, user_id, since, attempts, failures, status, reason, retry_at)),
             p AS (INSERT INTO segment_relay.parked (id, user_key, user_id, calls, bytes, since, attempts, failures, status, reason,
                       retry_at, turn) OVERRIDING SYSTEM VALUE
                 SELECT id, substring(sha256(user_id) FOR 16), user_id, 0, 0, ",
            time!("since"),
            ", attempts, failures, status, reason, CASE WHEN since IS NULL THEN now() ELSE ",
            time!("retry_at"),
            " END, CASE WHEN since IS NULL THEN retry_at ELSE 0 END FROM t RETURNING since)
             INSERT INTO segment_relay.tallies (source, parked_users) SELECT '', count(since) FROM p"
        );
        let parameters: [(&(dyn ToSql + Sync), Type); 8] = [
            (&ids, Type::INT8_ARRAY),
            (&users, Type::BYTEA_ARRAY),
            (&since, Type::INT8_ARRAY),
            (&attempts, Type::INT4_ARRAY),
            (&failures, Type::INT4_ARRAY),
            (&statuses, Type::INT4_ARRAY),
            (&reasons, Type::BYTEA_ARRAY),
            (&retry, Type::INT8_ARRAY),
        ];
        self.connection.execute(sql, &parameters).await?;
        Ok(())
    }

    async fn store_calls(&self, rows: &[MovedCall]) -> anyhow::Result<()> {
        let ids: Vec<_> = rows.iter().map(|row| self.call_id(row.id)).collect();
        let users: Vec<_> = rows.iter().map(|row| row.user_id.as_bytes()).collect();
        let times: Vec<_> = rows.iter().map(|row| row.stored_at).collect();
        let keys: Vec<_> = rows.iter().map(|row| row.key.as_deref()).collect();
        let sources: Vec<_> = rows.iter().map(|row| row.source.as_deref()).collect();
        let traces: Vec<_> = rows.iter().map(|row| row.trace.as_deref()).collect();
        let calls: Vec<_> = rows.iter().map(|row| &row.call[..]).collect();
        let apart: Vec<_> = rows.iter().map(|row| row.is_apart).collect();
        let sql = concat!(
            "WITH t AS MATERIALIZED (SELECT id, substring(sha256(user_id) FOR 16) AS user_key, user_id, ",
            time!("stored_at"),
            " AS stored_at, key, source, trace, call, is_apart, octet_length(call) + 128 AS bytes
                 FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bytea[], $5::text[], $6::bytea[], $7::bytea[], $8::boolean[])
                 AS t (id, user_id, stored_at, key, source, trace, call, is_apart)),
             c AS (INSERT INTO segment_relay.calls (id, user_key, user_id, stored_at, key, source, trace, call)
                 SELECT id, user_key, user_id, stored_at, key, source, trace, call FROM t WHERE NOT is_apart),
             a AS (INSERT INTO segment_relay.parked_calls (id, user_key, user_id, stored_at, key, source, trace, call)
                 SELECT id, user_key, user_id, stored_at, key, source, trace, call FROM t WHERE is_apart),
             p AS (UPDATE segment_relay.parked SET calls = parked.calls + more.calls, bytes = parked.bytes + more.bytes
                 FROM (SELECT user_key, count(*) AS calls, sum(bytes) AS bytes FROM t WHERE is_apart GROUP BY user_key) AS more
                 WHERE parked.user_key = more.user_key
                 RETURNING CASE WHEN since IS NULL THEN 0 ELSE more.bytes END AS failing_bytes)
             INSERT INTO segment_relay.tallies (source, waiting, waiting_bytes, parked_calls, parked_bytes)
                 SELECT coalesce(source, ''), count(*), sum(bytes), count(*) FILTER (WHERE is_apart), 0 FROM t GROUP BY 1
                 UNION ALL SELECT '', 0, 0, 0, coalesce(sum(failing_bytes), 0) FROM p"
        );
        let parameters: [(&(dyn ToSql + Sync), Type); 8] = [
            (&ids, Type::INT8_ARRAY),
            (&users, Type::BYTEA_ARRAY),
            (&times, Type::INT8_ARRAY),
            (&keys, Type::BYTEA_ARRAY),
            (&sources, Type::TEXT_ARRAY),
            (&traces, Type::BYTEA_ARRAY),
            (&calls, Type::BYTEA_ARRAY),
            (&apart, Type::BOOL_ARRAY),
        ];
        self.connection.execute(sql, &parameters).await?;
        Ok(())
    }

    async fn store_letters(&self, rows: &[MovedLetter]) -> anyhow::Result<()> {
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let users: Vec<_> = rows.iter().map(|row| row.user_id.as_ref().map(String::as_bytes)).collect();
        let times: [Vec<_>; 2] =
            [rows.iter().map(|row| row.stored_at).collect(), rows.iter().map(|row| row.refused_at).collect()];
        let statuses: Vec<_> = rows.iter().map(|row| row.status).collect();
        let attempts: Vec<_> = rows.iter().map(|row| row.attempts).collect();
        let keys: Vec<_> = rows.iter().map(|row| row.key.as_deref()).collect();
        let bodies: Vec<_> = rows.iter().map(|row| row.body.as_deref()).collect();
        let reasons: Vec<_> = rows.iter().map(|row| row.reason.as_bytes()).collect();
        let calls: Vec<_> = rows.iter().map(|row| &row.call[..]).collect();
        let why: Vec<_> = rows.iter().map(|row| &*row.why).collect();
        let sources: Vec<_> = rows.iter().map(|row| row.source.as_deref()).collect();
        let headers: Vec<_> = rows.iter().map(|row| row.headers.as_deref()).collect();
        let sql = concat!(
            "WITH t AS MATERIALIZED (SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::integer[],
                 $6::integer[], $7::bytea[], $8::bytea[], $9::bytea[], $10::bytea[], $11::text[], $12::text[], $13::bytea[])
                 AS t (id, user_id, stored_at, refused_at, status, attempts, key, body, reason, call, why, source, headers)),
             l AS (INSERT INTO segment_relay.dead_letters (id, user_id, stored_at, refused_at, status, attempts, key, body, reason,
                       call, why, source, headers) OVERRIDING SYSTEM VALUE
                 SELECT id, user_id, ",
            time!("stored_at"),
            ", ",
            time!("refused_at"),
            ", status, attempts, key, body, reason, call, why, source, headers FROM t)
             INSERT INTO segment_relay.tallies (source, dead_letters, dead_letter_bytes)
                 SELECT coalesce(source, ''), count(*),
                     sum(octet_length(call) + octet_length(reason) + coalesce(octet_length(headers), 0) + 128)
                 FROM t GROUP BY 1"
        );
        let parameters: [(&(dyn ToSql + Sync), Type); 13] = [
            (&ids, Type::INT8_ARRAY),
            (&users, Type::BYTEA_ARRAY),
            (&times[0], Type::INT8_ARRAY),
            (&times[1], Type::INT8_ARRAY),
            (&statuses, Type::INT4_ARRAY),
            (&attempts, Type::INT4_ARRAY),
            (&keys, Type::BYTEA_ARRAY),
            (&bodies, Type::BYTEA_ARRAY),
            (&reasons, Type::BYTEA_ARRAY),
            (&calls, Type::BYTEA_ARRAY),
            (&why, Type::TEXT_ARRAY),
            (&sources, Type::TEXT_ARRAY),
            (&headers, Type::BYTEA_ARRAY),
        ];
        self.connection.execute(sql, &parameters).await?;
        Ok(())
    }

    /// The new id of a call. 0 stays: it is no call.
    fn call_id(&self, id: i64) -> i64 {
        if id == 0 { 0 } else { self.state.offset + id }
    }
}

#[cfg(test)]
mod tests;
