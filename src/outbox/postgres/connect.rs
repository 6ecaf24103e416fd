//! Connections to the database, with a time limit for every statement.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Row, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::database_error::{Cause, ConnectError, DatabaseError, ErrorKind};
use super::tls;
use crate::config::{PostgresUrl, TlsMode};

/// The time in which a host must accept a connection and the password: ten times what a distant one takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time limit of a statement. The slowest of them, one that settles a page on a busy disk, takes a tenth of it.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// The time limit of the request to cancel a statement, which takes milliseconds unless the whole server stands still.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

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
            let error = match opened.unwrap_or_else(|_| Err(ConnectError::out_of_time(CONNECT_TIMEOUT))) {
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
        Err(first.unwrap_or_else(|| ConnectError::out_of_time(CONNECT_TIMEOUT)))
    }

    async fn open_once(&self, config: &Config, mode: SslMode) -> Result<Connection, ConnectError> {
        if mode == SslMode::Disable {
            let opened = config.connect(NoTls).await;
            return opened
                .map(|(client, io)| Connection::new(client, io, None))
                .map_err(|error| ConnectError::new(&error));
        }
        let settings = self.url.tls().clone();
        // Files are read, perhaps all those of the system.
        let tls = match tokio::task::spawn_blocking(move || tls::connector(&settings)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => {
                return Err(ConnectError { text: format!("{error:#}"), is_final: true, depends_on_tls: true });
            }
            Err(_) => return Err(ConnectError::out_of_time(CONNECT_TIMEOUT)),
        };
        let opened = config.connect(tls.clone()).await;
        opened.map(|(client, io)| Connection::new(client, io, Some(tls))).map_err(|error| ConnectError::new(&error))
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
    /// For the request to cancel a statement, which takes a connection of its own.
    tls: Option<MakeRustlsConnect>,
    limit: Duration,
    warnings: Arc<AtomicU64>,
    io: AbortHandle,
    /// Ends the I/O task when it is dropped.
    _task: JoinSet<()>,
}

impl Connection {
    fn new<S>(
        client: Client,
        mut connection: tokio_postgres::Connection<Socket, S>,
        tls: Option<MakeRustlsConnect>,
    ) -> Self
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
        Self { client, tls, limit: STATEMENT_TIMEOUT, warnings, io, _task: task }
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

    /// Commits the transaction. False: the server has ended the wait for its synchronous standby early.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub(super) async fn commit(&self) -> Result<bool, DatabaseError> {
        let warnings = self.warnings();
        self.batch("COMMIT").await?;
        Ok(self.warnings() == warnings)
    }

    /// Asks the server to end the statement. A session that waits for a lock or a standby would stay after its connection, and take
    /// the place of another one.
    async fn cancel(&self) {
        let token = self.client.cancel_token();
        let cancelled = async {
            match &self.tls {
                Some(tls) => token.cancel_query(tls.clone()).await,
                None => token.cancel_query(NoTls).await,
            }
        };
        if !matches!(timeout(CANCEL_TIMEOUT, cancelled).await, Ok(Ok(()))) {
            tracing::debug!("a statement could not be cancelled");
        }
    }

    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, DatabaseError> {
        let error = match timeout(self.limit, answer).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => DatabaseError::of_statement(&error),
            Err(_) => {
                self.cancel().await;
                DatabaseError(ErrorKind::Lost, Cause::OutOfTime)
            }
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

#[cfg(test)]
mod tests;
