//! Deleting what is too old, from the heads of queues: the keys of accepted calls whose window is over, and dead letters. The clock
//! is the server's.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::database_error::DatabaseError;
use super::deliverer::Deliverer;
use super::transaction::{Param, column};
use crate::config::SOURCE_WINDOW;

/// Keys of a source that one transaction forgets: a few milliseconds, for which delivery waits.
const MAX_KEYS: i64 = 1_024;

/// For how long keys are forgotten before delivery goes on, and the pause until more are: half of the time, and a twentieth of a second
/// more for a call that is delivered meanwhile. A key takes 30 us, so these are more than 10,000 keys a second.
const PRUNE_TIME: Duration = Duration::from_millis(50);
pub(super) const PRUNE_PAUSE: Duration = Duration::from_millis(50);

/// Letters that one transaction deletes: a few milliseconds. There is one a second, so these are 22 million a day.
const MAX_LETTERS: i64 = 256;

const SOURCES: &str = "SELECT source FROM segment_relay.totals ORDER BY source";

/// A key that was settled in the future is one of before the clock was set back: its window begins now.
const SET_BACK: &str = "
    UPDATE segment_relay.settled_keys SET settled_at = clock_timestamp() WHERE source = $1 AND seq = ANY(ARRAY(
        SELECT seq FROM (SELECT seq, settled_at FROM segment_relay.settled_keys WHERE source = $1 ORDER BY source, seq LIMIT $2) AS h
        WHERE settled_at > clock_timestamp() + interval '1 minute'))";

const PRUNE: &str = "
    WITH head AS MATERIALIZED (SELECT seq, key, call_id, settled_at FROM segment_relay.settled_keys WHERE source = $1
            ORDER BY source, seq LIMIT $2),
        due AS MATERIALIZED (SELECT seq, key, call_id FROM head
            WHERE settled_at < clock_timestamp() - $3 * interval '1 millisecond'),
        q AS (DELETE FROM segment_relay.settled_keys WHERE source = $1 AND seq = ANY(ARRAY(SELECT seq FROM due)) RETURNING 1),
        k AS (DELETE FROM segment_relay.keys WHERE key = ANY(ARRAY(SELECT key FROM due))
            AND call_id = ANY(ARRAY(SELECT call_id FROM due)) AND dead_letter_id IS NULL RETURNING 1),
        t AS (INSERT INTO segment_relay.tallies (source, keys) SELECT '', -count(*) FROM k HAVING count(*) > 0)
    SELECT (SELECT count(*) FROM q), (SELECT count(*) FROM k),
        (SELECT count(*) FROM head WHERE settled_at > clock_timestamp() + interval '1 minute')";

const OLD_LETTERS: &str = "
    SELECT id FROM (SELECT id, refused_at FROM segment_relay.dead_letters ORDER BY id LIMIT $1) AS h
    WHERE refused_at < clock_timestamp() - $2 * interval '1 millisecond' ORDER BY id";

const NOW: &str = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

impl Deliverer {
    /// Forgets keys whose window is over, for a while. True if there are more.
    pub(super) async fn prune(&mut self) -> Result<bool, DatabaseError> {
        let Some(connection) = &self.connection else { return Ok(false) };
        let rows = connection.query(SOURCES, &[]).await;
        let mut sources = vec![String::new()];
        for row in self.checked(rows)? {
            sources.push(column(&row, 0)?);
        }
        sources.dedup();
        // There may be no time for all of them.
        fastrand::shuffle(&mut sources);
        let began = Instant::now();
        while let Some(source) = sources.pop() {
            let Some(window) = self.window_of(&source) else { continue };
            if self.prune_source(&source, window).await? >= MAX_KEYS as u64 {
                sources.insert(0, source);
            }
            if began.elapsed() >= PRUNE_TIME {
                return Ok(!sources.is_empty());
            }
        }
        Ok(false)
    }

    /// How long keys of a source are remembered, in milliseconds. `None`: nobody has said it yet.
    fn window_of(&self, source: &str) -> Option<i64> {
        let window = if source.is_empty() {
            self.shared.rules.window
        } else {
            let windows = self.shared.windows.lock();
            windows.as_ref()?.get(source).copied().unwrap_or(SOURCE_WINDOW)
        };
        Some(i64::try_from(window.as_millis()).unwrap_or(i64::MAX))
    }

    async fn prune_source(&mut self, source: &str, window: i64) -> Result<u64, DatabaseError> {
        let Some(connection) = &self.connection else { return Ok(0) };
        let params: [Param<'_>; 3] = [(&source, Type::TEXT), (&MAX_KEYS, Type::INT8), (&(window as f64), Type::FLOAT8)];
        let mut done = connection.query(PRUNE, &params).await;
        let future = done.as_ref().ok().and_then(|rows| rows.first()).and_then(|row| row.try_get::<_, i64>(2).ok());
        if future.is_some_and(|future| future > 0)
            && let Err(error) = connection.execute(SET_BACK, &params[..2]).await
        {
            done = Err(error);
        }
        let rows = self.checked(done)?;
        let Some(row) = rows.first() else { return Ok(0) };
        let (settled, keys): (i64, i64) = (column(row, 0)?, column(row, 1)?);
        let counts = super::counts::Counts { keys: -keys, ..super::counts::Counts::default() };
        self.shared.figures.lock().note(None::<&Arc<str>>, counts);
        Ok(settled.unsigned_abs())
    }

    /// Deletes dead letters that are too old.
    pub(super) async fn expire(&mut self) -> Result<(), DatabaseError> {
        let Some(retention) = self.shared.rules.dead_letter_retention else { return Ok(()) };
        let Some(connection) = &self.connection else { return Ok(()) };
        let rows = connection.query(NOW, &[]).await;
        let rows = self.checked(rows)?;
        let now = rows.first().map(|row| column(row, 0)).transpose()?.unwrap_or(0);
        if !self.maintenance.clock.look(now, Instant::now().into_std()) {
            return Ok(());
        }
        let Some(connection) = &self.connection else { return Ok(()) };
        let retention = retention.as_millis() as f64;
        let rows = connection.query(OLD_LETTERS, &[(&MAX_LETTERS, Type::INT8), (&retention, Type::FLOAT8)]).await;
        let mut ids = Vec::new();
        for row in self.checked(rows)? {
            ids.push(column(&row, 0)?);
        }
        self.delete_letters(&ids, |effects, deleted| effects.expired += deleted).await
    }
}
