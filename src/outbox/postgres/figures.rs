//! The figures of the whole outbox, as far as this relay knows: read once a second, with what this relay changed since on top.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use tokio_postgres::types::Type;

use super::connect::Connection;
use super::counts::{COUNT_COLUMNS, Counts};
use crate::metrics::Metrics;
use crate::outbox::limits::{FREE_DIVISOR, PARKED_DIVISOR, ROW_OVERHEAD, SOURCE_DIVISOR, room, row_bytes};
use crate::outbox::parked_log::{ParkedChange, ParkedLog};
use crate::outbox::{CallId, OutboxError, OutboxStats, SourceStats};
use crate::segment::Call;

/// Why calls cannot be stored while there is no connection.
pub(super) const AWAY: &str = "the outbox's database cannot be reached";

/// A user in the tables: the first bytes of the digest of the user id.
pub(super) type UserKey = [u8; 16];

/// Counts of each source. `None`: `POST /customers`.
pub(super) type BySource = BTreeMap<Option<Arc<str>>, Counts>;

/// What this relay knows of the whole outbox.
pub(super) struct Figures {
    /// As last read.
    read: BySource,
    /// What this relay changed since.
    since: BySource,
    /// What its appends are of that, by the number of the group: those that a reading saw are in it.
    appended: VecDeque<(i64, BySource)>,
    /// The number of the last group that the last reading saw.
    read_n: i64,
    published: Published,
    last_id: CallId,
    max_bytes: u64,
    /// Whether the database is known to be away.
    pub(super) is_away: bool,
    /// Why the database takes no calls although it is there.
    pub(super) fault: Option<&'static str>,
    /// Whether this relay delivers.
    pub(super) is_delivering: bool,
    /// Whether any source is configured.
    pub(super) has_sources: bool,
    parked_log: ParkedLog,
}

/// What the deliverer says once a second.
#[derive(Default)]
struct Published {
    oldest_stored_at: Option<i64>,
    used_up_users: HashSet<UserKey>,
}

/// One reading.
pub(super) struct Reading {
    counts: BySource,
    n: i64,
    published: Published,
    last_id: CallId,
}

/// Reads the figures of the whole outbox, and which groups of this relay are in them.
pub(super) async fn read(connection: &Connection, relay: i64) -> anyhow::Result<Reading> {
    let sql = format!(
        "SELECT source, {}
         FROM (SELECT source, {COUNT_COLUMNS} FROM segment_relay.totals
               UNION ALL SELECT source, {COUNT_COLUMNS} FROM segment_relay.tallies) AS counted GROUP BY source
         UNION ALL
         SELECT NULL, coalesce((SELECT max(n) FROM segment_relay.groups WHERE relay = $1), 0), 0, 0, 0, 0, 0, 0, 0",
        COUNT_COLUMNS.split(", ").map(|column| format!("sum({column})::bigint")).collect::<Vec<_>>().join(", ")
    );
    let (mut counts, mut n) = (BTreeMap::new(), 0);
    // In the row without a source the first count is the number of this relay's last group: it is of the same snapshot.
    for row in connection.query(&sql, &[(&relay, Type::INT8)]).await? {
        let Some(source) = row.try_get::<_, Option<&str>>(0)? else {
            n = row.try_get(1)?;
            continue;
        };
        counts.insert((!source.is_empty()).then(|| Arc::from(source)), Counts::from_row(&row, 1)?);
    }
    let sql = "SELECT (extract(epoch FROM oldest_stored_at) * 1000)::bigint, used_up_users,
                   greatest((SELECT max(id) FROM segment_relay.calls), (SELECT max(id) FROM segment_relay.parked_calls), 0)
               FROM segment_relay.published";
    let mut published = Published::default();
    let mut last_id = 0;
    if let Some(row) = connection.query(sql, &[]).await?.first() {
        let users: Vec<Vec<u8>> = row.try_get(1)?;
        published = Published {
            oldest_stored_at: row.try_get(0)?,
            used_up_users: users.into_iter().filter_map(|user| user.try_into().ok()).collect(),
        };
        last_id = row.try_get(2)?;
    }
    Ok(Reading { counts, n, published, last_id })
}

impl Figures {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            read: BTreeMap::new(),
            since: BTreeMap::new(),
            appended: VecDeque::new(),
            read_n: 0,
            published: Published::default(),
            last_id: 0,
            max_bytes,
            is_away: false,
            fault: None,
            is_delivering: false,
            has_sources: false,
            parked_log: ParkedLog::default(),
        }
    }

    /// Call before a reading begins: what this relay settled before is in it. What it settles during the reading may be counted twice
    /// until the next one.
    pub(super) fn begin_reading(&mut self) {
        for (source, counts) in std::mem::take(&mut self.since) {
            *self.read.entry(source).or_default() += counts;
        }
        // These are not known to be in it.
        for (source, counts) in self.appended.iter().flat_map(|(_, counts)| counts) {
            *self.read.entry(source.clone()).or_default() += -*counts;
            *self.since.entry(source.clone()).or_default() += *counts;
        }
    }

    pub(super) fn end_reading(&mut self, reading: Reading) {
        self.read = reading.counts;
        self.published = reading.published;
        self.last_id = self.last_id.max(reading.last_id);
        self.read_n = reading.n;
        while let Some((_, counts)) = self.appended.pop_front_if(|(n, _)| *n <= reading.n) {
            for (source, counts) in counts {
                *self.since.entry(source).or_default() += -counts;
            }
        }
    }

    /// Notes what the group with this number added. It is committed.
    pub(super) fn note_group(&mut self, n: i64, added: BySource) {
        if n <= self.read_n {
            return;
        }
        for (source, counts) in &added {
            *self.since.entry(source.clone()).or_default() += *counts;
        }
        self.appended.push_back((n, added));
    }

    /// Notes what a transaction of this relay changed. It is committed.
    pub(super) fn note(&mut self, source: Option<&Arc<str>>, changed: Counts) {
        *self.since.entry(source.cloned()).or_default() += changed;
    }

    /// Notes the id of a call that this relay stored.
    pub(super) fn note_id(&mut self, id: CallId) {
        self.last_id = self.last_id.max(id);
    }

    fn counts(&self) -> impl Iterator<Item = (&Option<Arc<str>>, &Counts)> {
        self.read.iter().chain(&self.since)
    }

    pub(super) fn stats(&self) -> OutboxStats {
        let mut all = Counts::default();
        self.counts().for_each(|(_, counts)| all += *counts);
        let mut stats = OutboxStats { last_id: self.last_id, max_bytes: self.max_bytes, ..OutboxStats::default() };
        all.write_to(&mut stats);
        stats.oldest_stored_at = self.published.oldest_stored_at.filter(|_| stats.waiting > 0);
        stats.bytes = stats.waiting_bytes + stats.dead_letter_bytes + ROW_OVERHEAD as u64 * stats.keys;
        stats.trouble = if self.is_away {
            Some(AWAY)
        } else {
            self.fault.or_else(|| (room(&stats) == 0).then_some("the outbox is full"))
        };
        stats
    }

    /// What waits of `POST /customers`, and of each source of which anything does.
    pub(super) fn source_stats(&self) -> Vec<SourceStats> {
        let mut sources = BTreeMap::from([(None, Counts::default())]);
        self.counts().for_each(|(source, counts)| *sources.entry(source.clone()).or_default() += *counts);
        let count = |count: i64| count.max(0).unsigned_abs();
        let stats = sources.into_iter().map(|(source, counts)| SourceStats {
            source,
            calls: count(counts.waiting),
            bytes: count(counts.waiting_bytes),
        });
        stats.filter(|stats| stats.source.is_none() || stats.calls > 0).collect()
    }

    /// Sets the gauges, and logs that users are parked.
    pub(super) fn publish(&mut self, metrics: &Metrics) {
        let (stats, gauge) = (self.stats(), |value: u64| i64::try_from(value).unwrap_or(i64::MAX));
        metrics.outbox_calls.set(gauge(stats.waiting));
        metrics.outbox_bytes.set(gauge(stats.bytes));
        metrics.dead_letters.set(gauge(stats.dead_letters));
        metrics.parked_users.set(gauge(stats.parked_users));
        metrics.parked_calls.set(gauge(stats.parked_calls));
        let change = self.parked_log.change(stats.parked_users, metrics.users_parked.get(), std::time::Instant::now());
        match change {
            None => {}
            Some(ParkedChange::Parked { count }) => tracing::warn!(
                count,
                users = stats.parked_users,
                "users are parked: their calls fail while others are accepted"
            ),
            Some(ParkedChange::NobodyParked) => tracing::info!("no user is parked any more"),
        }
    }
}

/// What the appends of one statement may still add.
pub(super) struct Allowance<'f> {
    figures: &'f Figures,
    stats: OutboxStats,
    sources: BTreeMap<Option<Arc<str>>, u64>,
    room: u64,
}

impl<'f> Allowance<'f> {
    pub(super) fn new(figures: &'f Figures) -> Self {
        let sources = figures.source_stats().into_iter().map(|stats| (stats.source, stats.bytes)).collect();
        let stats = figures.stats();
        Self { room: room(&stats), figures, stats, sources }
    }

    /// The error if there is no room for a call, or if a share is used up that it would add to.
    pub(super) fn error(&self, call: &Call, user: &UserKey) -> Option<OutboxError> {
        let (stats, bytes) = (&self.stats, row_bytes(call.json().len() as u64));
        if self.room == 0 {
            return Some(OutboxError::Full);
        }
        let of_source = || self.sources.get(&call.source().cloned()).copied().unwrap_or(0);
        if stats.bytes > stats.max_bytes / FREE_DIVISOR
            // Where there is no source, `POST /customers` may take all: there is nobody to keep room for.
            && (self.figures.has_sources || self.sources.iter().any(|(source, bytes)| source.is_some() && *bytes > 0))
            && of_source() + bytes > stats.max_bytes / SOURCE_DIVISOR
        {
            return Some(OutboxError::SourceShare);
        }
        if !self.figures.published.used_up_users.contains(user) {
            return None;
        }
        let is_parked_share = stats.parked_bytes + bytes > stats.max_bytes / PARKED_DIVISOR;
        Some(if is_parked_share { OutboxError::ParkedShare } else { OutboxError::UserShare })
    }

    /// A call that is about to be stored. The last one may exceed the room.
    pub(super) fn take(&mut self, call: &Call) {
        let bytes = row_bytes(call.json().len() as u64);
        self.room = self.room.saturating_sub(bytes);
        self.stats.bytes += bytes;
        *self.sources.entry(call.source().cloned()).or_default() += bytes;
    }
}
