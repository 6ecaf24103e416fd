//! Reads which relays have the outbox, who delivers, and how the database is.

use tokio_postgres::types::Type;

use super::connect::Connection;
use crate::outbox::columns::time_text;
use crate::outbox::{FleetDatabase, FleetDeliverer, FleetMember, FleetReport};

/// The most members that are shown: far more than anybody needs.
const MAX_MEMBERS: i64 = 100;

const MEMBERS: &str = "
    SELECT m.name, m.version, (extract(epoch FROM m.started_at) * 1000)::bigint, (extract(epoch FROM m.seen_at) * 1000)::bigint,
        m.relay = $1, m.relay = l.owner AND l.expires > clock_timestamp()
    FROM segment_relay.members m CROSS JOIN segment_relay.lease l WHERE m.seen_at > now() - interval '1 minute'
    ORDER BY m.started_at, m.relay LIMIT $2";

/// A move holds the lease without being a relay: nobody delivers then. An interval cannot be infinite, so a lease without an end is shown as one of a year. The transactions of other users are seen if the
/// relay's user has the role pg_read_all_stats.
const DATABASE: &str = "
    SELECT l.owner = $1, l.epoch, (extract(epoch FROM l.since) * 1000)::bigint,
        CASE WHEN l.owner <> 0 AND l.expires > clock_timestamp()
            THEN extract(epoch FROM least(l.expires, clock_timestamp() + interval '1 year') - clock_timestamp())::float8 END,
        coalesce((SELECT max(extract(epoch FROM clock_timestamp() - a.xact_start)) FROM pg_stat_activity a
            WHERE a.backend_xmin IS NOT NULL AND a.datname = current_database() AND a.pid <> pg_backend_pid()), 0)::float8,
        pg_total_relation_size('segment_relay.calls'), coalesce(s.n_dead_tup, 0),
        (extract(epoch FROM greatest(s.last_vacuum, s.last_autovacuum)) * 1000)::bigint,
        l.owner = 0 AND l.expires > clock_timestamp()
    FROM segment_relay.lease l LEFT JOIN pg_stat_user_tables s ON s.relid = 'segment_relay.calls'::regclass";

/// Reads the report of this relay.
pub(super) async fn read(connection: &Connection, relay: i64) -> anyhow::Result<FleetReport> {
    let rows = connection.query(MEMBERS, &[(&relay, Type::INT8), (&MAX_MEMBERS, Type::INT8)]).await?;
    let mut report = FleetReport::default();
    for row in &rows {
        report.members.push(FleetMember {
            name: row.try_get(0)?,
            version: row.try_get(1)?,
            since: time_text(row.try_get(2)?),
            seen: time_text(row.try_get(3)?),
            is_this: row.try_get(4)?,
            is_delivering: row.try_get(5)?,
        });
    }
    let rows = connection.query(DATABASE, &[(&relay, Type::INT8)]).await?;
    let Some(row) = rows.first() else { return Ok(report) };
    let count = |value: i64| value.max(0).unsigned_abs();
    report.tenures = count(row.try_get(1)?);
    report.move_unfinished = row.try_get(8)?;
    if let Some(lease_seconds) = row.try_get(3)? {
        let deliverer = report.members.iter().find(|member| member.is_delivering);
        report.delivering = Some(FleetDeliverer {
            name: deliverer.map(|member| member.name.clone()),
            is_this: row.try_get(0)?,
            since: time_text(row.try_get(2)?),
            lease_seconds,
        });
    }
    report.database = FleetDatabase {
        is_reachable: true,
        oldest_transaction_seconds: row.try_get(4)?,
        calls_bytes: count(row.try_get(5)?),
        dead_rows: count(row.try_get(6)?),
        vacuumed_at: row.try_get::<_, Option<i64>>(7)?.map(time_text),
    };
    Ok(report)
}
