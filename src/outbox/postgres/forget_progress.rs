//! The persons who are being forgotten, and how far each deletion has come.

use std::collections::VecDeque;
use std::sync::Arc;

use super::commands::Reply;
use super::figures::UserKey;
use crate::outbox::client::digest;
use crate::outbox::{CallId, DeletedRows, Person};

/// Where a deletion stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Begin,
    Calls,
    ParkedCalls,
    Letters,
    LaterCalls,
    LaterParkedCalls,
    End,
}

/// The persons who are being forgotten, one after the other.
#[derive(Default)]
pub(super) struct Forgets(pub(super) VecDeque<PersonDeletion>);

pub(super) struct PersonDeletion {
    pub(super) person: Arc<Person>,
    pub(super) user: UserKey,
    pub(super) stage: Stage,
    /// The greatest id that was looked at in the table.
    pub(super) after: i64,
    /// When it began, by the server's clock, and the greatest id of a call then.
    pub(super) began: i64,
    pub(super) last_call: CallId,
    pub(super) deleted: DeletedRows,
    pub(super) reply: Reply<DeletedRows>,
}

impl Forgets {
    pub(super) fn begin(&mut self, person: Arc<Person>, reply: Reply<DeletedRows>) {
        let user = digest(&[person.user_id.as_bytes()]);
        let deleted = DeletedRows::default();
        self.0.push_back(PersonDeletion {
            person,
            user,
            stage: Stage::Begin,
            after: i64::MIN,
            began: 0,
            last_call: 0,
            deleted,
            reply,
        });
    }
}

impl PersonDeletion {
    /// A step was done, up to this row; `None`: to the end of the table.
    pub(super) fn go_on(&mut self, after: Option<i64>) {
        if let Some(after) = after {
            self.after = after;
            return;
        }
        (self.stage, self.after) = match self.stage {
            Stage::Begin => (Stage::Calls, i64::MIN),
            Stage::Calls => (Stage::ParkedCalls, i64::MIN),
            Stage::ParkedCalls => (Stage::Letters, i64::MIN),
            Stage::Letters => (Stage::LaterCalls, self.last_call),
            Stage::LaterCalls => (Stage::LaterParkedCalls, self.last_call),
            Stage::LaterParkedCalls | Stage::End => (Stage::End, 0),
        };
    }

    /// The time before which later calls must have been stored.
    pub(super) fn stored_before(&self) -> Option<i64> {
        matches!(self.stage, Stage::LaterCalls | Stage::LaterParkedCalls).then_some(self.began)
    }
}
