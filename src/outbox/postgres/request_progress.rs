//! How far the requests of other relays have come.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::asking::Users;
use super::commands::Reply;
use super::connect::Connection;
use super::database_error::DatabaseError;
use crate::outbox::Person;
use crate::outbox::wishes::Wish;

const ANSWER: &str = "UPDATE segment_relay.requests SET answer = $2::text::json WHERE id = $1";

#[derive(Default)]
pub(super) struct Requests {
    /// A transaction has ended since the last look.
    pub(super) may_have: bool,
    pub(super) looked_at: Option<Instant>,
    /// How far those have come that take several steps.
    pub(super) steps: BTreeMap<i64, VerbStep>,
    /// Those that delivery does.
    pub(super) taken: BTreeSet<i64>,
    pub(super) waiter: Option<Reply<(i64, Person)>>,
}

impl Requests {
    /// Delivery waits for the next request to forget a person.
    pub(super) fn wait_for_forget(&mut self, waiter: Reply<(i64, Person)>) {
        (self.waiter, self.may_have) = (Some(waiter), true);
    }

    /// Forgets what was begun: delivery asks again.
    pub(super) fn begin(&mut self) {
        (self.may_have, self.steps, self.taken) = (true, BTreeMap::new(), BTreeSet::new());
    }

    /// Hands a request to forget a person to delivery, if it waits.
    pub(super) fn hand_over(&mut self, id: i64, person: Person) {
        if self.taken.contains(&id) {
            return;
        }
        if let Some(waiter) = self.waiter.take()
            && waiter.send(Ok((id, person))).is_ok()
        {
            self.taken.insert(id);
        }
    }
}

/// Progress of a request.
pub(super) struct VerbStep {
    pub(super) request: i64,
    pub(super) wish: Wish,
    pub(super) users: Users,
    /// The lowest id that may be left, and the greatest one when it began.
    pub(super) next: i64,
    pub(super) last: Option<i64>,
    pub(super) count: u64,
}

impl VerbStep {
    pub(super) fn new(request: i64, wish: Wish, users: Users) -> Self {
        let (next, last) = match users {
            Users::One(id) => (id, Some(id)),
            Users::All(_) => (i64::MIN, None),
        };
        Self { request, wish, users, next, last, count: 0 }
    }
}

/// Writes the answer of a request. The relay that asked deletes the row.
pub(super) async fn write_answer(connection: &Connection, id: i64, answer: &Value) -> Result<(), DatabaseError> {
    connection.execute(ANSWER, &[(&id, Type::INT8), (&answer.to_string(), Type::TEXT)]).await.map(drop)
}
