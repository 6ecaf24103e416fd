//! What SQLite's errors mean for the store. Pure.
//!
//! The store survives two kinds, because SQLite rolls back and no commit was written: a full disk (a short write of the
//! write-ahead log, so its last frame, which is the commit, is missing) and a database that another program has locked.
//! Any other error ends the store: after a failed sync the content of the disk is unknown, and a second sync may report
//! success for data that was lost.

use rusqlite::{Error, ErrorCode};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreFault {
    /// The disk is full. Nothing was changed.
    DiskFull,
    /// Another program, such as a shell, holds a lock. Nothing was changed.
    Locked,
    /// The content of the disk is unknown.
    Fatal,
    /// The store ended earlier. Nothing was changed.
    Closed,
}

impl StoreFault {
    pub(super) fn from_error(error: &Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            Some(ErrorCode::DatabaseBusy) => Self::Locked,
            _ => Self::Fatal,
        }
    }

    /// The reason that `/readyz` shows.
    pub(super) fn trouble(self) -> &'static str {
        match self {
            Self::DiskFull => "the disk is full",
            Self::Locked => "another program holds a lock on the outbox",
            Self::Fatal | Self::Closed => "the outbox failed",
        }
    }
}

/// Whether the error means that the file is damaged.
pub(super) fn is_corruption(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Adds what to do if a file is found damaged when it is opened.
pub(super) fn explain_corruption(error: anyhow::Error) -> anyhow::Error {
    if error.downcast_ref::<Error>().is_some_and(is_corruption) {
        return error.context("the file is damaged; restore it from a backup, or move it away");
    }
    error
}

/// An error's text for the log: its code and SQLite's sentence for the code, never a value of the statement.
pub(super) fn without_values(error: &Error) -> String {
    match error {
        Error::SqliteFailure(failure, _) => format!("{failure} ({})", failure.extended_code),
        Error::InvalidColumnType(..) | Error::FromSqlConversionFailure(..) | Error::IntegralValueOutOfRange(..) => {
            "a row does not have the expected types".to_owned()
        }
        Error::QueryReturnedNoRows => "a row that must be there is missing".to_owned(),
        _ => "the statement could not be run".to_owned(),
    }
}
