//! Asking the deliverer: a row of `requests`, which is looked at until it has its answer.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_postgres::types::Type;

use super::operators::column;
use super::shared::Shared;
use crate::outbox::wishes::Wish;
use crate::outbox::{Forgotten, OutboxError, ParkedFilter, Person};

/// Between two looks for the answer: the deliverer looks for requests twice as often.
const PAUSE: Duration = Duration::from_millis(50);

/// For how long nobody may deliver until a caller hears that it is unknown when what was asked for is done: longer than a lease lasts
/// (35 s at most).
const PATIENCE: Duration = Duration::from_secs(45);

const ASK: &str = "INSERT INTO segment_relay.requests (verb, arguments) VALUES ($1, $2::text::json) RETURNING id";

const LOOK: &str = "SELECT answer::text FROM segment_relay.requests WHERE id = $1";

const DELETE: &str = "DELETE FROM segment_relay.requests WHERE id = $1";

/// What the deliverer is asked to do.
pub(super) enum Verb {
    Users(Wish, Users),
    Forget(Person),
}

/// Which parked users are meant.
#[derive(Clone)]
pub(super) enum Users {
    One(i64),
    All(ParkedFilter),
}

impl Verb {
    fn name(&self) -> &'static str {
        match self {
            Self::Users(Wish::GiveUp, _) => "give_up",
            Self::Users(..) => "retry",
            Self::Forget(_) => "forget",
        }
    }

    fn arguments(&self) -> Value {
        match self {
            Self::Users(_, Users::One(id)) => json!({ "id": id }),
            Self::Users(_, Users::All(ParkedFilter { status, source, user_id })) => {
                json!({ "status": status, "source": source, "userId": user_id })
            }
            Self::Forget(Person { user_id, texts }) => json!({ "userId": user_id, "texts": texts }),
        }
    }
}

/// Reads a request. `None`: it is of another kind.
pub(super) fn parse(verb: &str, arguments: &str) -> Option<Verb> {
    let arguments: Value = serde_json::from_str(arguments).ok()?;
    let text = |name: &str| arguments.get(name).and_then(Value::as_str).map(str::to_owned);
    let wish = match verb {
        "retry" => Wish::Retry,
        "give_up" => Wish::GiveUp,
        "forget" => {
            let texts = arguments.get("texts").and_then(Value::as_array).into_iter().flatten();
            let texts = texts.filter_map(Value::as_str).map(str::to_owned).collect();
            return Some(Verb::Forget(Person { user_id: text("userId")?, texts }));
        }
        _ => return None,
    };
    let users = match arguments.get("id").and_then(Value::as_i64) {
        Some(id) => Users::One(id),
        None => {
            let status = arguments.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
            Users::All(ParkedFilter { status, source: text("source"), user_id: text("userId") })
        }
    };
    Some(Verb::Users(wish, users))
}

impl Shared {
    /// Asks the relay that delivers, and waits for its answer. The row of a caller who leaves is deleted by the deliverer a day later.
    /// Between two looks the connection is others'.
    ///
    /// # Errors
    /// As those of operators' statements. [`OutboxError::Unconfirmed`]: what was asked for may be done all the same, also when nobody
    /// delivered for so long that the caller is not to wait for more.
    pub(super) async fn ask(&self, verb: &Verb) -> Result<Value, OutboxError> {
        let arguments = verb.arguments().to_string();
        let rows = self.write_rows(ASK, &[(&verb.name(), Type::TEXT), (&arguments, Type::TEXT)]).await?;
        let id: i64 = rows.first().map_or(Err(OutboxError::Unconfirmed), |row| column(row, 0))?;
        let unconfirmed = |_| OutboxError::Unconfirmed;
        let mut delivered_at = Instant::now();
        while delivered_at.elapsed() < PATIENCE {
            if self.fleet_report().delivering.is_some() {
                delivered_at = Instant::now();
            }
            let rows = self.read_rows(LOOK, &[(&id, Type::INT8)]).await.map_err(unconfirmed)?;
            // The row is gone if it has waited for a day.
            let row = rows.first().ok_or(OutboxError::Unconfirmed)?;
            if let Some(answer) = column::<Option<&str>>(row, 0)? {
                let answer = serde_json::from_str(answer).unwrap_or_default();
                self.write_rows(DELETE, &[(&id, Type::INT8)]).await.map_err(unconfirmed)?;
                return Ok(answer);
            }
            tokio::time::sleep(PAUSE).await;
        }
        tracing::warn!("what an operator asked for waits until a relay delivers");
        Err(OutboxError::Unconfirmed)
    }
}

/// How many users are tried again or given up, by the answer.
pub(super) fn count(answer: &Value) -> u64 {
    answer.get("count").and_then(Value::as_u64).unwrap_or(0)
}

/// How much was deleted, by the answer.
pub(super) fn forgotten(answer: &Value) -> Forgotten {
    let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
    Forgotten { waiting: number("waiting"), dead_letters: number("deadLetters") }
}

#[cfg(test)]
mod tests {
    use super::{Users, Verb, parse};
    use crate::outbox::wishes::Wish;
    use crate::outbox::{ParkedFilter, Person};

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let again = |verb: Verb| parse(verb.name(), &verb.arguments().to_string());
        let one = again(Verb::Users(Wish::Retry, Users::One(7)));
        assert!(matches!(one, Some(Verb::Users(Wish::Retry, Users::One(7)))));
        let filter = ParkedFilter { status: Some(503), source: Some("shop".to_owned()), user_id: None };
        let Some(Verb::Users(Wish::GiveUp, Users::All(read))) =
            again(Verb::Users(Wish::GiveUp, Users::All(filter.clone())))
        else {
            panic!("another verb");
        };
        assert!(read == filter);
        let person = Person { user_id: "ada\n\"\0\\u0000".to_owned(), texts: vec!["a@b".to_owned()] };
        let Some(Verb::Forget(read)) = again(Verb::Forget(person)) else { panic!("another verb") };
        assert_eq!((&*read.user_id, &*read.texts), ("ada\n\"\0\\u0000", &["a@b".to_owned()][..]));
        assert!(parse("dance", "{}").is_none() && parse("forget", "{}").is_none() && parse("retry", "x").is_none());
    }
}
