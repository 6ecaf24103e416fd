//! Connections to the database, with a time limit for every statement.
//!
//! An error is told by its SQLSTATE and the relay's own words: the server's text may hold a user id or a password.

use std::error::Error as _;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::{DbError, Severity, SqlState};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Row, Socket};

use super::tls;
use crate::config::{PostgresUrl, TlsMode};
use crate::outbox::OutboxError;

/// PostgreSQL's.
const DEFAULT_PORT: u16 = 5432;

/// The time in which a host must accept a connection and the password: ten times what a distant one takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time limit of a statement. The slowest of them, one that settles a page on a busy disk, takes a tenth of it.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a statement is tried that another transaction is in the way of: after a few attempts something else is wrong.
pub(super) const MAX_ATTEMPTS: u32 = 5;

/// An idle connection is probed after this time, because firewalls forget connections, and a probe shows a machine that is gone.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);

/// The pause between two probes, and how many stay without an answer before the connection is given up.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_COUNT: u32 = 3;

/// Opens connections. Clones are cheap.
#[derive(Clone)]
pub(super) struct Connector {
    url: Arc<PostgresUrl>,
}

impl Connector {
    /// # Errors
    /// If the files of certificates cannot be used.
    pub(super) fn new(url: &PostgresUrl) -> anyhow::Result<Self> {
        if url.tls().mode != TlsMode::Disable {
            tls::connector(url.tls())?;
        }
        Ok(Self { url: Arc::new(url.clone()) })
    }

    /// Opens a connection. The server shows it as `segment-relay NAME`. Each host is tried, and has a few seconds.
    ///
    /// # Errors
    /// If no host can be used.
    pub(super) async fn open(&self, name: &'static str) -> Result<Connection, DatabaseError> {
        let mut hosts: Vec<&Config> = self.url.hosts().iter().collect();
        if self.url.is_random() {
            fastrand::shuffle(&mut hosts);
        }
        let mut errors = Vec::new();
        for host in hosts {
            let mut config = host.clone();
            complete(&mut config, name);
            let opened = timeout(CONNECT_TIMEOUT, self.open_host(config)).await;
            let error = match opened.unwrap_or_else(|_| Err(ConnectError::out_of_time())) {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            errors.push(if self.url.hosts().len() > 1 { error.of_host(host) } else { error });
        }
        Err(DatabaseError(ErrorKind::Connect, Cause::Connect(errors)))
    }

    /// As libpq: `prefer` goes without TLS if that is refused, and `allow` with TLS.
    async fn open_host(&self, mut config: Config) -> Result<Connection, ConnectError> {
        let is_socket = matches!(config.get_hosts(), [Host::Unix(_)]);
        let modes = match self.url.tls().mode {
            // libpq, too, has no TLS on a socket.
            _ if is_socket => [Some(SslMode::Disable), None],
            TlsMode::Disable => [Some(SslMode::Disable), None],
            TlsMode::Allow => [Some(SslMode::Disable), Some(SslMode::Require)],
            TlsMode::Prefer => [Some(SslMode::Prefer), Some(SslMode::Disable)],
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => [Some(SslMode::Require), None],
        };
        let mut first = None;
        for mode in modes.into_iter().flatten() {
            config.ssl_mode(mode);
            match self.open_once(&config, mode).await {
                Ok(connection) => return Ok(connection),
                Err(error) if !error.depends_on_tls => return Err(first.unwrap_or(error)),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(ConnectError::out_of_time))
    }

    async fn open_once(&self, config: &Config, mode: SslMode) -> Result<Connection, ConnectError> {
        if mode == SslMode::Disable {
            let opened = config.connect(NoTls).await;
            return opened.map(|(client, io)| Connection::new(client, io)).map_err(|error| ConnectError::new(&error));
        }
        let settings = self.url.tls().clone();
        // Files are read, perhaps all those of the system.
        let tls = match tokio::task::spawn_blocking(move || tls::connector(&settings)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => {
                return Err(ConnectError { text: format!("{error:#}"), is_final: true, depends_on_tls: true });
            }
            Err(_) => return Err(ConnectError::out_of_time()),
        };
        let opened = config.connect(tls).await;
        opened.map(|(client, io)| Connection::new(client, io)).map_err(|error| ConnectError::new(&error))
    }
}

/// Sets what the URL leaves open.
fn complete(config: &mut Config, name: &str) {
    config.application_name(format!("segment-relay {name}"));
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    // The driver's default is two hours.
    if config.get_keepalives_idle() > KEEPALIVE_IDLE {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(KEEPALIVE_COUNT);
    }
    config.tcp_user_timeout(STATEMENT_TIMEOUT);
}

/// A connection. Its I/O task ends with it.
pub(super) struct Connection {
    pub(super) client: Client,
    limit: Duration,
    warnings: Arc<AtomicU64>,
    io: AbortHandle,
    /// Ends the I/O task when it is dropped.
    _task: JoinSet<()>,
}

impl Connection {
    fn new<S>(client: Client, mut connection: tokio_postgres::Connection<Socket, S>) -> Self
    where
        S: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
    {
        let warnings = Arc::new(AtomicU64::new(0));
        let counted = warnings.clone();
        let mut task = JoinSet::new();
        let io = task.spawn(async move {
            // An error ends the connection: each statement that waits gets it, and each later one.
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notice(notice) = message
                    && is_warning(notice.code())
                {
                    counted.fetch_add(1, Ordering::Release);
                }
            }
        });
        Self { client, limit: STATEMENT_TIMEOUT, warnings, io, _task: task }
    }

    /// The same with another time limit for every statement.
    pub(super) fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// How many warnings the server has sent. One that comes with a statement is counted when the statement returns.
    pub(super) fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::Acquire)
    }

    /// Whether the connection is gone. Every statement fails from then on.
    pub(super) fn is_lost(&self) -> bool {
        self.client.is_closed()
    }

    /// The rows of an unnamed statement.
    ///
    /// # Errors
    /// [`ErrorKind::Lost`]: the connection is gone, and whether the statement was executed is unknown. [`ErrorKind::Refused`]:
    /// it was not.
    pub(super) async fn query(
        &self,
        sql: &str,
        params: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, DatabaseError> {
        self.in_time(self.client.query_typed(sql, params)).await
    }

    /// The same for a statement without rows: the number of rows that it changed.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub(super) async fn execute(
        &self,
        sql: &str,
        params: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<u64, DatabaseError> {
        self.in_time(self.client.execute_typed(sql, params)).await
    }

    /// Executes statements without parameters, separated by semicolons, in one transaction unless they begin one.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub(super) async fn batch(&self, sql: &str) -> Result<(), DatabaseError> {
        self.in_time(self.client.batch_execute(sql)).await
    }

    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, DatabaseError> {
        let error = match timeout(self.limit, answer).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => DatabaseError::of_statement(&error),
            Err(_) => DatabaseError(ErrorKind::Lost, Cause::OutOfTime),
        };
        if error.0 == ErrorKind::Lost {
            self.io.abort();
        }
        Err(error)
    }
}

/// Class 01, or 57P01: with one of these two the server says that it ended the wait for a synchronous standby early.
fn is_warning(code: &SqlState) -> bool {
    code.code().starts_with("01") || *code == SqlState::ADMIN_SHUTDOWN
}

/// Why the database did not do what was asked. `Display` and `Debug` hold no values.
#[derive(Debug)]
pub(super) struct DatabaseError(ErrorKind, Cause);

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
enum Cause {
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
struct ConnectError {
    text: String,
    /// It is of no use to try again.
    is_final: bool,
    /// The other way, with TLS or without, may work.
    depends_on_tls: bool,
}

impl ConnectError {
    fn passing(text: String) -> Self {
        Self { text, is_final: false, depends_on_tls: false }
    }

    fn out_of_time() -> Self {
        Self::passing(format!("the database did not answer within {} s", CONNECT_TIMEOUT.as_secs()))
    }

    fn new(error: &tokio_postgres::Error) -> Self {
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
    fn of_host(self, config: &Config) -> Self {
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

#[cfg(test)]
mod tests;
