//! What relays ask of the deliverer: rows of `requests`, which it takes up at its next look.
//!
//! Users are tried again or given up in steps of one transaction each, and other work is done in between. The answer is written in
//! the transaction of the last step, so a request whose answer is lost is not done twice. A person is forgotten by `delivery`,
//! which alone can take calls back from the publisher.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::asking::{self, Verb};
use super::database_error::DatabaseError;
use super::deliverer::Deliverer;
use super::request_progress::{VerbStep, write_answer};

use crate::outbox::{Forgotten, OutboxError};

/// Requests that are looked at at once, the oldest: more than operators ask in the time that one takes.
const LIMIT: i64 = 64;

/// The shortest time between two looks: half of an asker's pause, so that neither adds much to an answer.
const INTERVAL: Duration = Duration::from_millis(25);

const READ: &str =
    "SELECT id, verb, arguments::text FROM segment_relay.requests WHERE answer IS NULL ORDER BY id LIMIT $1";

impl Deliverer {
    /// Does a step of each request.
    pub(super) async fn look_at_requests(&mut self) -> Result<(), DatabaseError> {
        let is_early = self.requests.looked_at.is_some_and(|at| at.elapsed() < INTERVAL);
        if is_early && self.requests.steps.is_empty() || !std::mem::take(&mut self.requests.may_have) {
            return Ok(());
        }
        self.requests.looked_at = Some(Instant::now());
        let looked = self.look_at_rows().await;
        self.requests.may_have |= looked.is_err();
        looked
    }

    async fn look_at_rows(&mut self) -> Result<(), DatabaseError> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let rows = connection.query(READ, &[(&LIMIT, Type::INT8)]).await;
        for row in self.checked(rows)? {
            let (Ok(id), Ok(verb), Ok(arguments)) =
                (row.try_get::<_, i64>(0), row.try_get::<_, &str>(1), row.try_get::<_, &str>(2))
            else {
                continue;
            };
            match asking::parse(verb, arguments) {
                Some(Verb::Forget(person)) => self.requests.hand_over(id, person),
                Some(Verb::Users(wish, users)) => {
                    let mut step = self.requests.steps.remove(&id).unwrap_or_else(|| VerbStep::new(id, wish, users));
                    let acted = self.act(&mut step).await;
                    if !matches!(acted, Ok(true)) {
                        self.requests.steps.insert(id, step);
                    }
                    if !acted? {
                        self.requests.may_have = true;
                        self.look_again();
                    }
                }
                // A newer relay asks for what this one does not know.
                None => self.answer(id, &json!({ "error": "unknown" })).await?,
            }
        }
        Ok(())
    }

    /// Answers a request to forget a person.
    pub(super) async fn answer_forget(
        &mut self,
        id: i64,
        result: Result<Forgotten, OutboxError>,
    ) -> Result<(), OutboxError> {
        let answer = match result {
            Ok(forgotten) => serde_json::to_value(forgotten).unwrap_or_default(),
            // It is tried again, by this relay or by the next one that delivers.
            Err(_) => {
                self.requests.taken.remove(&id);
                self.requests.may_have = true;
                return Ok(());
            }
        };
        match self.answer(id, &answer).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.requests.taken.remove(&id);
                self.requests.may_have = true;
                Err(error.of_change())
            }
        }
    }

    async fn answer(&mut self, id: i64, answer: &Value) -> Result<(), DatabaseError> {
        let Some(connection) = &self.connection else { return Err(DatabaseError::no_connection()) };
        let answered = write_answer(connection, id, answer).await;
        self.checked(answered)
    }
}
