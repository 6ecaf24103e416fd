//! What `segment-relay move` takes from one store to another: the rows of a page, and how far the move is.

use serde::{Deserialize, Serialize};

/// Rows of one page, at most, and their bytes, approximately: a transaction of a fraction of a second.
pub const PAGE_ROWS: usize = 2_000;
pub const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// What is moved, in this order. Keys come first: a call whose key is not there yet could be stored twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveStep {
    Keys,
    SettledKeys,
    SettledSourceKeys,
    ParkedUsers,
    Calls,
    ParkedCalls,
    DeadLetters,
    Done,
}

impl MoveStep {
    /// The next one.
    pub fn next(self) -> Self {
        match self {
            Self::Keys => Self::SettledKeys,
            Self::SettledKeys => Self::SettledSourceKeys,
            Self::SettledSourceKeys => Self::ParkedUsers,
            Self::ParkedUsers => Self::Calls,
            Self::Calls => Self::ParkedCalls,
            Self::ParkedCalls => Self::DeadLetters,
            Self::DeadLetters | Self::Done => Self::Done,
        }
    }
}

/// How far a move is: everything of the steps before is moved, and of this step everything up to a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveProgress {
    pub step: MoveStep,
    /// The number of the last row. 0: none yet.
    pub number: i64,
    /// What orders rows before their number: a key in hexadecimal, or the name of a source.
    pub text: String,
}

impl MoveProgress {
    /// The beginning of a step.
    pub fn at(step: MoveStep) -> Self {
        Self { step, number: 0, text: String::new() }
    }
}

/// What the other store must know before the first row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveHead {
    /// Made when this store was marked as one that is moved: a move is continued only with the same.
    pub token: i64,
    /// The last id of a call, of a dead letter, and of a parked user.
    pub last_call: i64,
    pub last_letter: i64,
    pub last_parked: i64,
    /// All rows, for the progress.
    pub rows: u64,
}

/// Some rows in their order, and the progress when they are moved. Times are milliseconds since 1970.
#[derive(Debug)]
pub struct MovePage {
    pub rows: MovedRows,
    pub after: MoveProgress,
}

#[derive(Debug)]
pub enum MovedRows {
    Keys(Vec<MovedKey>),
    SettledKeys(Vec<MovedSettledKey>),
    ParkedUsers(Vec<MovedParkedUser>),
    Calls(Vec<MovedCall>),
    DeadLetters(Vec<MovedLetter>),
}

impl MovedRows {
    pub fn len(&self) -> usize {
        match self {
            Self::Keys(rows) => rows.len(),
            Self::SettledKeys(rows) => rows.len(),
            Self::ParkedUsers(rows) => rows.len(),
            Self::Calls(rows) => rows.len(),
            Self::DeadLetters(rows) => rows.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

pub struct MovedKey {
    pub key: Vec<u8>,
    pub body: Vec<u8>,
    /// 0: no call.
    pub call_id: i64,
    pub dead_letter_id: Option<i64>,
}

pub struct MovedSettledKey {
    /// Empty: `POST /customers`.
    pub source: String,
    pub settled_at: i64,
    pub key: Vec<u8>,
    pub call_id: i64,
}

/// A user whose calls are kept apart.
pub struct MovedParkedUser {
    pub id: i64,
    pub user_id: String,
    /// When the first call began to fail. `None`: it does not fail.
    pub since: Option<i64>,
    pub attempts: i32,
    pub failures: i32,
    pub status: Option<i32>,
    pub reason: Option<String>,
    /// The time of the next attempt, or the user's turn if the first call does not fail.
    pub retry_at: i64,
}

pub struct MovedCall {
    pub id: i64,
    pub user_id: String,
    pub stored_at: i64,
    pub key: Option<Vec<u8>>,
    pub source: Option<String>,
    pub trace: Option<Vec<u8>>,
    pub call: Vec<u8>,
    /// The user is a parked one: the call is kept apart.
    pub is_apart: bool,
}

pub struct MovedLetter {
    pub id: i64,
    /// `None`: an event.
    pub user_id: Option<String>,
    pub stored_at: i64,
    pub refused_at: i64,
    pub status: i32,
    pub attempts: i32,
    pub key: Option<Vec<u8>>,
    pub body: Option<Vec<u8>>,
    pub reason: String,
    pub call: Vec<u8>,
    pub why: String,
    pub source: Option<String>,
    pub headers: Option<Vec<u8>>,
}

/// Personal or secret, so nothing of a row is shown.
macro_rules! hide {
    ($($type:ident),+) => {
        $(impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type)).finish_non_exhaustive()
            }
        })+
    };
}

hide!(MovedKey, MovedSettledKey, MovedParkedUser, MovedCall, MovedLetter);
