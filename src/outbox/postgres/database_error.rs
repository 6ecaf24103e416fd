//! Why the database did not do what was asked, as the relay tells it.
//!
//! An error is told by its SQLSTATE and the relay's own words: the server's text may hold a user id or a password.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::outbox::OutboxError;

/// PostgreSQL's.
const DEFAULT_PORT: u16 = 5432;

/// How often a statement is tried that another transaction is in the way of: after a few attempts something else is wrong.
pub(super) const MAX_ATTEMPTS: u32 = 5;

/// Why the database did not do what was asked. `Display` and `Debug` hold no values.
#[derive(Debug)]
pub(super) struct DatabaseError(pub(super) ErrorKind, pub(super) Cause);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ErrorKind {
    /// The connection is gone. What the statement did is unknown.
    Lost,
    /// The server refused the statement, and it did nothing.
    Refused(SqlState),
    /// There is no connection.
    Connect,
}

#[derive(Debug)]
pub(super) enum Cause {
    Server(SqlState),
    OutOfTime,
    Gone,
    /// Of each host.
    Connect(Vec<ConnectError>),
}

impl DatabaseError {
    pub(super) fn of_statement(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(error) if did_nothing(error) => {
                Self(ErrorKind::Refused(error.code().clone()), Cause::Server(error.code().clone()))
            }
            Some(error) => Self(ErrorKind::Lost, Cause::Server(error.code().clone())),
            None => Self(ErrorKind::Lost, Cause::Gone),
        }
    }

    /// The tables have lost a row that must be there.
    pub(super) fn missing_row() -> Self {
        Self(ErrorKind::Refused(SqlState::NO_DATA_FOUND), Cause::Server(SqlState::NO_DATA_FOUND))
    }

    /// There is none at the moment.
    pub(super) fn no_connection() -> Self {
        Self(ErrorKind::Connect, Cause::Gone)
    }

    pub(super) fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// Whether the server refused the statement because another transaction was in its way (classes 40 and 55 of SQLSTATE), or because
    /// somebody canceled it: another attempt may work.
    pub(super) fn is_conflict(&self) -> bool {
        let ErrorKind::Refused(code) = &self.0 else { return false };
        *code == SqlState::QUERY_CANCELED || ["40", "55"].iter().any(|class| code.code().starts_with(class))
    }

    /// What a caller hears whose statement was to change something.
    pub(super) fn of_change(&self) -> OutboxError {
        match &self.0 {
            ErrorKind::Lost => OutboxError::Unconfirmed,
            ErrorKind::Connect => OutboxError::Away,
            ErrorKind::Refused(code) if *code == SqlState::DISK_FULL => OutboxError::Full,
            ErrorKind::Refused(_) => OutboxError::Busy,
        }
    }

    /// Whether the database did not answer: perhaps it does not end its commits.
    pub(super) fn is_out_of_time(&self) -> bool {
        matches!(self.1, Cause::OutOfTime)
    }

    /// Whether it is of no use to try to connect again: the server answers, and does not let the relay in.
    pub(super) fn is_final(&self) -> bool {
        matches!(&self.1, Cause::Connect(errors) if !errors.is_empty() && errors.iter().all(|error| error.is_final))
    }
}

/// Whether the server has ended the statement's transaction. A fatal error ends the session, perhaps after the commit.
fn did_nothing(error: &DbError) -> bool {
    let is_error = error.parsed_severity().is_none_or(|severity| severity == Severity::Error);
    // Of the connection, and of a server that stops: PgBouncer says both, too.
    is_error && !["08", "57P"].iter().any(|class| error.code().code().starts_with(class))
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0, &self.1) {
            (_, Cause::OutOfTime) => f.write_str("the database did not answer in time"),
            (_, Cause::Gone) => f.write_str("the connection to the database was lost"),
            (ErrorKind::Lost, Cause::Server(code)) => {
                write!(f, "the server ended the connection (SQLSTATE {})", code.code())
            }
            (_, Cause::Server(code)) => write!(f, "the database refused a statement (SQLSTATE {})", code.code()),
            (_, Cause::Connect(errors)) => {
                let texts: Vec<&str> = errors.iter().map(|error| error.text.as_str()).collect();
                f.write_str(&texts.join("; "))
            }
        }
    }
}

impl std::error::Error for DatabaseError {}

/// Why a host cannot be used.
#[derive(Debug)]
pub(super) struct ConnectError {
    pub(super) text: String,
    /// It is of no use to try again.
    pub(super) is_final: bool,
    /// The other way, with TLS or without, may work.
    pub(super) depends_on_tls: bool,
}

impl ConnectError {
    fn passing(text: String) -> Self {
        Self { text, is_final: false, depends_on_tls: false }
    }

    /// It did not answer within this time.
    pub(super) fn out_of_time(limit: Duration) -> Self {
        Self::passing(format!("the database did not answer within {} s", limit.as_secs()))
    }

    pub(super) fn new(error: &tokio_postgres::Error) -> Self {
        if let Some(error) = error.as_db_error() {
            return Self::refused(error.code());
        }
        let Some(cause) = error.source() else {
            return Self::passing(format!("the database cannot be used ({error})"));
        };
        let Some(io) = cause.downcast_ref::<io::Error>() else {
            // These are the driver's own words, about TLS or how the user is authenticated.
            let text = format!("the database cannot be used ({error}: {cause})");
            return Self { text, is_final: true, depends_on_tls: true };
        };
        let tls = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(tls) = tls {
            return Self { text: format!("TLS to the database fails ({tls})"), is_final: true, depends_on_tls: true };
        }
        // The driver's own error, not the system's.
        if io.kind() == io::ErrorKind::PermissionDenied && io.raw_os_error().is_none() {
            return Self::passing("the server takes no writes: it is a standby".to_owned());
        }
        Self::passing(format!("the database cannot be reached ({io})"))
    }

    /// The same with the name of the host.
    pub(super) fn of_host(self, config: &Config) -> Self {
        let host = match config.get_hosts() {
            [Host::Tcp(name), ..] => name.clone(),
            [Host::Unix(path), ..] => path.display().to_string(),
            [] => String::new(),
        };
        let port = config.get_ports().first().copied().unwrap_or(DEFAULT_PORT);
        Self { text: format!("{host}:{port}: {}", self.text), ..self }
    }

    fn refused(code: &SqlState) -> Self {
        let (words, is_final) = match code.code() {
            "28P01" => ("refused the user's password", true),
            "28000" => ("does not let the user in from here, or not so (pg_hba.conf)", true),
            "3D000" => ("has no such database", true),
            "42501" => ("does not let the user connect to the database", true),
            "53300" => ("has no room for another connection (max_connections)", false),
            "57P03" => ("is starting or stopping", false),
            _ => ("refused the connection", false),
        };
        let text = format!("the server {words} (SQLSTATE {})", code.code());
        Self { text, is_final, depends_on_tls: code.code() == "28000" }
    }
}
