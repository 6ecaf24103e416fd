//! What a transaction changes of the counts. Each writes rows with its differences, so that no two wait for a common row.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_postgres::types::Type;

use super::connect::Connection;
use super::counts::Counts;
use super::database_error::DatabaseError;

/// Differences of the counts by source. `None`: `POST /customers`, and what belongs to no source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tallies(pub(super) BTreeMap<Option<Arc<str>>, Counts>);

const INSERT: &str = "
    INSERT INTO segment_relay.tallies (source, waiting, waiting_bytes, dead_letters, dead_letter_bytes, keys,
        parked_users, parked_calls, parked_bytes)
    SELECT source, waiting, waiting_bytes, dead_letters, dead_letter_bytes, keys, parked_users, parked_calls, parked_bytes
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
        $9::bigint[])
    AS t (source, waiting, waiting_bytes, dead_letters, dead_letter_bytes, keys, parked_users, parked_calls, parked_bytes)";

impl Tallies {
    /// The differences of a source, to be changed.
    pub(super) fn of(&mut self, source: Option<&str>) -> &mut Counts {
        self.0.entry(source.map(Arc::from)).or_default()
    }

    /// A call of this source does not wait any more.
    pub(super) fn left(&mut self, source: Option<&str>, bytes: i64) {
        let counts = self.of(source);
        (counts.waiting, counts.waiting_bytes) = (counts.waiting - 1, counts.waiting_bytes - bytes);
    }

    /// Adds the rows to the open transaction.
    pub(super) async fn write(&self, connection: &Connection) -> Result<(), DatabaseError> {
        let changed: Vec<_> = self.0.iter().filter(|(_, counts)| **counts != Counts::default()).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let sources: Vec<&str> = changed.iter().map(|(source, _)| source.as_deref().unwrap_or_default()).collect();
        let column = |value: fn(&Counts) -> i64| changed.iter().map(|(_, counts)| value(counts)).collect::<Vec<i64>>();
        let columns = [
            column(|counts| counts.waiting),
            column(|counts| counts.waiting_bytes),
            column(|counts| counts.dead_letters),
            column(|counts| counts.dead_letter_bytes),
            column(|counts| counts.keys),
            column(|counts| counts.parked_users),
            column(|counts| counts.parked_calls),
            column(|counts| counts.parked_bytes),
        ];
        let mut params: Vec<(&(dyn tokio_postgres::types::ToSql + Sync), Type)> = vec![(&sources, Type::TEXT_ARRAY)];
        params.extend(columns.iter().map(|column| (column as _, Type::INT8_ARRAY)));
        connection.execute(INSERT, &params).await.map(drop)
    }
}
