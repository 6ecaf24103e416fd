//! Storing the calls of one request together: each for itself, or all or none.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::Result;

use super::sources::SourceCount;
use super::transaction::Transaction;
use crate::outbox::{Append, Appended, OutboxError, OutboxStats};

/// The calls of one request.
pub(super) struct Group {
    pub(super) appends: Vec<Append>,
    pub(super) is_all_or_nothing: bool,
}

/// What storing calls changes beside the database, before a part of a transaction that may be undone.
struct Before {
    stats: OutboxStats,
    room: u64,
    stored: u64,
    new_calls: usize,
    watchers: usize,
    sources: BTreeMap<Arc<str>, SourceCount>,
    added: usize,
}

impl Transaction<'_> {
    /// Stores a group. An error is that of all.
    pub(super) fn append_group(
        &mut self,
        group: &Group,
    ) -> Result<std::result::Result<Vec<std::result::Result<Appended, OutboxError>>, OutboxError>> {
        if group.is_all_or_nothing {
            return Ok(self.append_all(&group.appends)?.map(|appended| appended.into_iter().map(Ok).collect()));
        }
        group.appends.iter().map(|append| self.append(append)).collect::<Result<_>>().map(Ok)
    }

    /// Stores all of these calls, or none. A reused key is the error before any other: trying again does not help.
    pub(super) fn append_all(&mut self, appends: &[Append]) -> Result<std::result::Result<Vec<Appended>, OutboxError>> {
        let before = self.before();
        self.execute("SAVEPOINT appended", [])?;
        let (mut all, mut failure) = (Vec::with_capacity(appends.len()), None);
        for append in appends {
            match self.append(append)? {
                Ok(appended) => all.push(appended),
                Err(OutboxError::KeyReused) => failure = Some(OutboxError::KeyReused),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if failure.is_some() {
            self.execute("ROLLBACK TO appended", [])?;
            self.undo(before);
        }
        self.execute("RELEASE appended", [])?;
        Ok(failure.map_or(Ok(all), Err))
    }

    fn before(&self) -> Before {
        Before {
            stats: self.effects.stats,
            room: self.room,
            stored: self.effects.stored,
            new_calls: self.effects.new_calls.len(),
            watchers: self.effects.watchers.len(),
            sources: self.effects.sources.clone(),
            added: self.memory.added(),
        }
    }

    /// Undoes what storing calls changed since then. Only what is counted of used up shares stays.
    fn undo(&mut self, before: Before) {
        let Before { stats, room, stored, new_calls, watchers, sources, added } = before;
        self.room = room;
        let effects = &mut self.effects;
        (effects.stats, effects.stored, effects.sources) = (stats, stored, sources);
        effects.new_calls.truncate(new_calls);
        effects.watchers.truncate(watchers);
        self.memory.undo(added);
    }
}
