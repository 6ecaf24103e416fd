//! What SQLite's errors mean here. Pure.
//!
//! Two kinds are survived, because SQLite rolls back and nothing was written that counts: a full disk (a short write of
//! the log, so its last frame, which is the commit, is not there) and a database that another program has locked. Whatever
//! else fails is the end: after a failed sync nobody knows what is on disk, and a second one would lie.

use rusqlite::{Error, ErrorCode};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The disk is full. Nothing was changed.
    Full,
    /// Another program, such as a shell, holds a lock. Nothing was changed.
    Locked,
    /// What is on disk is unknown.
    Fatal,
    /// The store ended before. Nothing was changed.
    Over,
}

impl Fault {
    pub(super) fn of(error: &Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseBusy) => Self::Locked,
            _ => Self::Fatal,
        }
    }

    /// For `/readyz`.
    pub(super) fn trouble(self) -> &'static str {
        match self {
            Self::Full => "the disk is full",
            Self::Locked => "another program holds a lock on the outbox",
            Self::Fatal | Self::Over => "the outbox failed",
        }
    }
}

/// Whether the file itself is wrong.
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Says what to do about a file that is found damaged when it is opened.
pub(super) fn say_if_damaged(error: anyhow::Error) -> anyhow::Error {
    if error.downcast_ref::<Error>().is_some_and(is_damage) {
        return error.context("the file is damaged; restore it from a backup, or move it away");
    }
    error
}

/// An error for the log: its code and SQLite's sentence for that. Never the statement's values.
pub(super) fn without_values(error: &Error) -> String {
    match error {
        Error::SqliteFailure(failure, _) => format!("{failure} ({})", failure.extended_code),
        Error::InvalidColumnType(..) | Error::FromSqlConversionFailure(..) | Error::IntegralValueOutOfRange(..) => {
            "a row is not of the shape it was written in".to_owned()
        }
        Error::QueryReturnedNoRows => "a row that must be there is missing".to_owned(),
        _ => "the statement could not be run".to_owned(),
    }
}
