//! What the deliverer knows for its maintenance: who has much, and when what is due.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::connect::Connection;
use super::database_error::DatabaseError;
use super::figures::UserKey;
use super::shared::Rules;
use super::transaction::{Effects, column};
use super::vacuum::Vacuum;
use crate::outbox::even_clock::EvenClock;
use crate::outbox::limits::{PARKED_DIVISOR, USER_DIVISOR};

/// Users with more bytes that are kept apart than this, and the last turn.
const START: &str = "SELECT NULL::bytea, coalesce((SELECT turn FROM segment_relay.parked WHERE since IS NULL ORDER BY turn DESC LIMIT 1), 0)
    UNION ALL SELECT user_key, bytes FROM segment_relay.parked WHERE bytes > $1";

pub(super) struct Maintenance {
    /// Users whose calls that are kept apart take the share of a user.
    pub(super) user_bytes: BTreeMap<UserKey, i64>,
    pub(super) max_bytes: i64,
    pub(super) vacuum: Arc<Vacuum>,
    pub(super) clock: EvenClock,
    pub(super) next: Instant,
    pub(super) next_prune: Instant,
    pub(super) next_sweep: Instant,
}

impl Maintenance {
    pub(super) fn new(rules: &Rules, vacuum: Arc<Vacuum>) -> Self {
        Self {
            user_bytes: BTreeMap::new(),
            max_bytes: i64::try_from(rules.max_bytes).unwrap_or(i64::MAX),
            vacuum,
            clock: EvenClock::new(rules.dead_letter_retention),
            next: Instant::now(),
            next_prune: Instant::now(),
            next_sweep: Instant::now(),
        }
    }

    /// What is known of the users at the beginning of a tenure, or of a connection: the last turn, and who has much.
    pub(super) async fn read_start(
        &self,
        connection: &Connection,
    ) -> Result<(i64, BTreeMap<UserKey, i64>), DatabaseError> {
        let (mut turn, mut users) = (0, BTreeMap::new());
        for row in connection.query(START, &[(&self.user_share(), Type::INT8)]).await? {
            let number: i64 = column(&row, 1)?;
            match column::<Option<&[u8]>>(&row, 0)? {
                None => turn = number,
                Some(user) => drop(user.try_into().map(|user| users.insert(user, number))),
            }
        }
        Ok((turn, users))
    }

    pub(super) fn user_share(&self) -> i64 {
        self.max_bytes / USER_DIVISOR as i64
    }

    /// What parked calls and dead letters may take together.
    pub(super) fn parked_share(&self) -> i64 {
        self.max_bytes / PARKED_DIVISOR as i64
    }

    /// Notes what a transaction changed.
    pub(super) fn note(&mut self, effects: &Effects) {
        for (user, bytes) in &effects.user_bytes {
            if *bytes > self.user_share() {
                self.user_bytes.insert(*user, *bytes);
            } else {
                self.user_bytes.remove(user);
            }
        }
        self.vacuum.note_settled(effects.outcomes.len() as u64);
    }
}
