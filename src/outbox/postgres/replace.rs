//! Replacing the event of a dead letter by the calls that it makes now: all of them are stored, or none, and the letter is deleted in
//! the same transaction.

use std::collections::HashMap;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::batch::repeat;
use super::counts::Counts;
use super::database_error::{DatabaseError, MAX_ATTEMPTS};
use super::figures::Allowance;
use super::keys::{Digest, KnownKey, look_up};
use super::operator_connections::Held;
use super::operators::{not_confirmed, unwritten};
use super::replay::DISCARD;
use super::rows::{self, Entry};
use super::shared::Shared;
use super::watch::watch;
use crate::outbox::limits::{check_size, row_bytes};
use crate::outbox::{Append, Appended, OutboxError};

/// Locks the letter, so that two relays do not replace it.
const LOCK: &str = "SELECT 1 FROM segment_relay.dead_letters WHERE id = $1 AND why = 'unmapped' FOR UPDATE";

/// Why a transaction is not committed.
enum Undone {
    /// The letter is gone.
    Gone,
    Refused(OutboxError),
    /// A key of a call was forgotten just now: another attempt stores the call.
    KeyForgotten,
    Failed(DatabaseError),
}

impl From<DatabaseError> for Undone {
    fn from(error: DatabaseError) -> Self {
        Self::Failed(error)
    }
}

impl Shared {
    /// Stores the calls that an event makes now, all or none, and deletes its dead letter. `None` if it is gone.
    pub(super) async fn replace_event(
        &self,
        id: i64,
        calls: Vec<Append>,
    ) -> Result<Option<Vec<Appended>>, OutboxError> {
        check_size(&calls)?;
        let entries: Vec<Entry> = calls.into_iter().map(|append| Entry::new(append, 0)).collect();
        for _ in 0..MAX_ATTEMPTS {
            let held = self.operator().await?;
            let warnings = held.warnings();
            match self.replace_in(&held, id, &entries).await {
                Ok((appended, deleted)) => {
                    if let Err(error) = held.batch("COMMIT").await {
                        return Err(unwritten(&error));
                    }
                    let is_confirmed = held.warnings() == warnings;
                    held.give_back();
                    if !is_confirmed {
                        return Err(not_confirmed());
                    }
                    self.note_deleted(&deleted)?;
                    self.metrics.dead_letters_replayed.inc();
                    return Ok(Some(self.note_replaced(&entries, appended)));
                }
                // Dropping the connection ends the transaction, and so nothing of it is done.
                Err(Undone::Failed(error)) if error.is_conflict() => {}
                Err(Undone::Failed(error)) => return Err(unwritten(&error)),
                Err(Undone::Gone) => return roll_back(held).await.map(|()| None),
                Err(Undone::Refused(error)) => return roll_back(held).await.and(Err(error)),
                Err(Undone::KeyForgotten) => roll_back(held).await?,
            }
        }
        Err(OutboxError::Busy)
    }

    /// The part of the transaction before its commit: what is stored, and what [`DISCARD`] says of the letter.
    async fn replace_in(&self, held: &Held<'_>, id: i64, entries: &[Entry]) -> Result<(Stored, Vec<Row>), Undone> {
        let lock = [(&id as _, Type::INT8)];
        let (begun, locked) = tokio::join!(held.batch("BEGIN"), held.query(LOCK, &lock));
        begun?;
        if locked?.is_empty() {
            return Err(Undone::Gone);
        }
        let stored = self.store_all(held, entries).await?;
        let deleted = held.query(DISCARD, &[(&[id].as_slice(), Type::INT8_ARRAY)]).await?;
        Ok((stored, deleted))
    }

    /// Stores all of these calls, or none. A reused key is the error before any other: trying again does not help.
    async fn store_all(&self, held: &Held<'_>, entries: &[Entry]) -> Result<Stored, Undone> {
        if entries.is_empty() {
            return Ok(Stored::default());
        }
        let keys: Vec<Digest> = entries.iter().filter_map(|entry| Some(entry.key?.key)).collect();
        let known = look_up(held, &keys).await?;
        let known_of = |entry: &Entry| entry.key.and_then(|key| Some((key, known.get(&key.key)?)));
        if entries.iter().filter_map(known_of).any(|(key, known)| key.body != known.body) {
            return Err(Undone::Refused(OutboxError::KeyReused));
        }
        self.check_shares(entries.iter().filter(|entry| known_of(entry).is_none())).map_err(Undone::Refused)?;
        let number = (self.relay, self.operators.next_group());
        let group = rows::store(held, number, &entries.iter().collect::<Vec<_>>(), false).await?;
        let with_ids = || (group.first + 1..).zip(entries);
        let repeats = with_ids().filter(|(id, _)| !group.has_stored(*id));
        let keys: Vec<Digest> = repeats.clone().filter_map(|(_, entry)| Some(entry.key?.key)).collect();
        let known = look_up(held, &keys).await?;
        for (_, entry) in repeats {
            let Some(key) = entry.key else { return Err(Undone::KeyForgotten) };
            match known.get(&key.key) {
                None => return Err(Undone::KeyForgotten),
                Some(known) if known.body != key.body => return Err(Undone::Refused(OutboxError::KeyReused)),
                Some(_) => {}
            }
        }
        let ids = with_ids().map(|(id, _)| group.has_stored(id).then_some(id)).collect();
        Ok(Stored { ids, known })
    }

    fn check_shares<'e>(&self, entries: impl Iterator<Item = &'e Entry>) -> Result<(), OutboxError> {
        let figures = self.figures.lock();
        let mut allowance = Allowance::new(&figures);
        for entry in entries {
            match allowance.error(&entry.append.call, &entry.user_key) {
                Some(error) => {
                    match error {
                        OutboxError::UserShare => self.metrics.share_exhausted_user.inc(),
                        OutboxError::ParkedShare => self.metrics.share_exhausted_parked.inc(),
                        OutboxError::SourceShare => self.metrics.share_exhausted_source.inc(),
                        _ => {}
                    }
                    return Err(error);
                }
                None => allowance.take(&entry.append.call),
            }
        }
        Ok(())
    }

    /// Notes the calls that were stored, after the commit, and makes their results.
    fn note_replaced(&self, entries: &[Entry], stored: Stored) -> Vec<Appended> {
        let result = |(id, entry): (Option<i64>, &Entry)| {
            let call = &entry.append.call;
            let Some(id) = id else {
                let known = entry.key.and_then(|key| Some((key.key, stored.known.get(&key.key)?)));
                return match known {
                    Some((key, known)) => repeat(self, entry.append.watch, key, known),
                    None => Appended { replayed: true, outcome: None },
                };
            };
            let counts = Counts {
                waiting: 1,
                waiting_bytes: row_bytes(call.json().len() as u64).cast_signed(),
                keys: entry.key.is_some().into(),
                ..Counts::default()
            };
            let mut figures = self.figures.lock();
            figures.note(call.source(), counts);
            figures.note_id(id);
            drop(figures);
            self.metrics.outbox_stored.inc();
            let outcome = entry.key.filter(|_| entry.append.watch).map(|key| watch(self, id, key.key, None));
            Appended { replayed: false, outcome }
        };
        let appended = stored.ids.iter().copied().zip(entries).map(result).collect();
        self.wake.notify_one();
        appended
    }
}

/// What was stored.
#[derive(Default)]
struct Stored {
    /// Of each call. `None`: its key was known.
    ids: Vec<Option<i64>>,
    known: HashMap<Digest, KnownKey>,
}

async fn roll_back(held: Held<'_>) -> Result<(), OutboxError> {
    held.batch("ROLLBACK").await.map_err(|error| unwritten(&error))?;
    held.give_back();
    Ok(())
}
