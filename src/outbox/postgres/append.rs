//! The appender: the one task that stores the calls of this relay's callers.
//!
//! What came during a commit is stored by the next statement. One is in flight at a time. A commit of unknown outcome is repeated
//! under the same number on a new connection until it is known, whether the callers still wait or not.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::batch::{Batch, Known};
use super::connect::Connection;
use super::database_error::{DatabaseError, ErrorKind, MAX_ATTEMPTS};
use super::figures::Allowance;
use super::keys::look_up;
use super::queue::{Queue, Request};
use super::rows::{self, Entry, StoredGroup};
use super::shared::{Reopening, Shared};
use crate::outbox::OutboxError;

/// How often the connection is looked at while nothing is stored.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// How long a lost connection may take to be opened again before callers are told that the database is away: a server that only
/// ended the session answers within a few milliseconds.
const REOPEN_GRACE: Duration = Duration::from_secs(1);

/// A statement that runs for so long has no relay any more: a relay gives up its wait earlier (10 s). The statement may wait for a standby
/// or a lock for ever.
const ORPHAN_AGE: Duration = Duration::from_secs(15);

/// Why the database takes no calls although it is there.
const REFUSES: &str = "the outbox's database refuses to store calls";
const NO_COMMIT_ENDS: &str =
    "the outbox's database does not end its commits: it may wait for a synchronous standby, or for its disk";
const DISK_FULL: &str = "the disk of the outbox's database is full";

/// Stores calls until the store is closed and the queue empty.
pub(super) struct Appender {
    shared: Arc<Shared>,
    queue: Queue,
    connection: Option<Connection>,
    reopening: Reopening,
    /// The number of the last group.
    n: i64,
}

/// Why a group was not stored.
enum Failure {
    /// Nothing was stored, and nothing will be.
    Not(OutboxError),
    /// It may be stored: the store is being closed while the database is away.
    Unknown,
}

impl Appender {
    pub(super) fn new(shared: &Arc<Shared>, queue: Queue, connection: Connection) -> Self {
        let reopening = Reopening::new("appends");
        Self { shared: shared.clone(), queue, connection: Some(connection), reopening, n: 0 }
    }

    pub(super) async fn run(mut self) {
        let closing = self.shared.closing.clone();
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled(), if !self.queue.is_closed() => self.queue.close(),
                requests = self.queue.next() => match requests {
                    Some(requests) => self.store(requests).await,
                    None => return,
                },
                () = tokio::time::sleep(IDLE_LOOK) => {
                    if self.connection.as_ref().is_none_or(Connection::is_lost) {
                        self.reopen(false).await;
                    }
                    self.probe().await;
                }
            }
        }
    }

    /// Stores a group without calls while calls could not be stored the last time: a balancer that sends none because of that would
    /// never learn that they can be again.
    async fn probe(&mut self) {
        let Some(connection) = &self.connection else { return };
        if self.shared.figures.lock().fault.is_none() {
            return;
        }
        self.n += 1;
        let warnings = connection.warnings();
        let stored = rows::store(connection, (self.shared.relay, self.n), &[], false).await;
        if stored.is_ok() && connection.warnings() == warnings {
            self.fault_ended();
        }
    }

    fn fault_ended(&self) {
        if self.shared.figures.lock().fault.take().is_some() {
            tracing::info!("calls can be stored again");
        }
    }

    /// Opens the connection anew. While the database is away, callers are told so. False if it is away and this `gives_up` then, or
    /// if the store is being closed.
    async fn reopen(&mut self, gives_up: bool) -> bool {
        let Self { shared, queue, connection, reopening, .. } = self;
        *connection = None;
        let mut opened = {
            let attempt = reopening.attempt(&shared.connector);
            tokio::pin!(attempt);
            match timeout(REOPEN_GRACE, &mut attempt).await {
                Ok(opened) => opened,
                Err(_) => {
                    shared.figures.lock().is_away = true;
                    if gives_up {
                        return false;
                    }
                    queue.refuse_during(attempt).await
                }
            }
        };
        loop {
            match opened {
                Ok(new) => {
                    // Nobody waits for these any more, and they take the server's connections.
                    if let Err(error) = end_orphans(&new, ORPHAN_AGE).await {
                        tracing::debug!(%error, "statements of lost connections could not be cancelled");
                    }
                    *connection = Some(new);
                    shared.figures.lock().is_away = false;
                    return true;
                }
                Err(_logged) => shared.figures.lock().is_away = true,
            }
            if gives_up || shared.closing.is_cancelled() {
                return false;
            }
            queue.refuse_during(reopening.pause()).await;
            opened = queue.refuse_during(reopening.attempt(&shared.connector)).await;
        }
    }

    /// Stores the calls of these requests, and answers them.
    async fn store(&mut self, requests: Vec<Request>) {
        if requests.is_empty() {
            return;
        }
        self.shared.metrics.outbox_commit_commands.observe(requests.len() as f64);
        let mut batch = Batch::new(requests);
        while batch.has_open() {
            let stored = match self.refuse(&mut batch).await {
                Ok(()) if !batch.has_open() => break,
                Ok(()) => self.store_open(&mut batch).await,
                Err(failure) => Err(failure),
            };
            match stored {
                Ok(()) => {}
                Err(Failure::Not(error)) => batch.fail(error),
                Err(Failure::Unknown) => batch.fail(OutboxError::Unconfirmed),
            }
        }
        batch.answer(&self.shared);
    }

    /// Refuses calls for which there is no room, or whose share is used up, unless their keys are known.
    async fn refuse(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        let refused = batch.refused(&mut Allowance::new(&self.shared.figures.lock()));
        if refused.is_empty() {
            return Ok(());
        }
        let keys = batch.keys_of_refused(&refused);
        let mut attempts = 0;
        let known = loop {
            let Some(connection) = self.connection.as_ref().filter(|connection| !connection.is_lost()) else {
                if !self.reopen(true).await {
                    return Err(Failure::Not(OutboxError::Away));
                }
                continue;
            };
            match look_up(connection, &keys).await {
                Ok(known) => break known,
                Err(error) => self.tell(&error, &mut attempts)?,
            }
        };
        batch.refuse(&refused, &known, &self.shared.metrics);
        Ok(())
    }

    /// After an error with which nothing was stored: `Ok` if it may be tried again. Notes the fault otherwise.
    fn tell(&self, error: &DatabaseError, attempts: &mut u32) -> Result<(), Failure> {
        *attempts += 1;
        let ErrorKind::Refused(code) = error.kind() else { return Ok(()) };
        if error.is_conflict() && *attempts < MAX_ATTEMPTS {
            return Ok(());
        }
        let is_full = *code == SqlState::DISK_FULL;
        self.note_fault(if is_full { DISK_FULL } else { REFUSES }, error);
        Err(Failure::Not(if is_full { OutboxError::Full } else { OutboxError::Busy }))
    }

    /// Notes why no call can be stored, until one is.
    fn note_fault(&self, fault: &'static str, error: &DatabaseError) {
        let before = self.shared.figures.lock().fault.replace(fault);
        if before != Some(fault) {
            tracing::error!(%error, "calls cannot be stored: {fault}");
        }
    }

    /// Stores the calls that have no result, each group all or none.
    async fn store_open(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        let _timer = self.shared.metrics.outbox_commit_seconds.start_timer();
        self.n += 1;
        let (mut attempts, mut may_be_stored) = (0, false);
        loop {
            if may_be_stored && self.shared.closing.is_cancelled() {
                // It may never be known: a standby may be missing. Whoever waited has left.
                return Err(Failure::Unknown);
            }
            let Some(connection) = self.connection.as_ref().filter(|connection| !connection.is_lost()) else {
                if !self.reopen(!may_be_stored).await {
                    return Err(if may_be_stored { Failure::Unknown } else { Failure::Not(OutboxError::Away) });
                }
                continue;
            };
            match attempt(connection, (self.shared.relay, self.n), batch, &mut may_be_stored).await {
                Ok(Attempt::Confirmed(known)) => {
                    self.fault_ended();
                    batch.note_stored(self.n, known, &self.shared);
                    return Ok(());
                }
                Ok(Attempt::Unconfirmed) => {
                    self.shared.metrics.fleet_appends_repeated.inc();
                    tracing::warn!("the database ended the wait for its synchronous standby; the commit is repeated");
                }
                Ok(Attempt::RolledBack) => return Ok(()),
                Err(error) if *error.kind() == ErrorKind::Lost => {
                    self.shared.metrics.fleet_appends_repeated.inc();
                    tracing::warn!(%error, "whether calls are stored is unknown; the commit is repeated");
                    if error.is_out_of_time() {
                        self.note_fault(NO_COMMIT_ENDS, &error);
                    }
                    may_be_stored = true;
                    self.connection = None;
                }
                Err(error) if may_be_stored && is_of_another_server(&error) => self.connection = None,
                Err(error) => {
                    // A transaction may be open.
                    self.connection = None;
                    self.tell(&error, &mut attempts)
                        .map_err(|failure| if may_be_stored { Failure::Unknown } else { failure })?;
                }
            }
        }
    }
}

/// What became of an attempt.
enum Attempt {
    Confirmed(Known),
    /// It is committed, and may not be on the standby that the server waits for.
    Unconfirmed,
    /// A call of an all-or-nothing request failed. Its request has the error now, and nothing was stored.
    RolledBack,
}

/// A server that takes no writes cannot know what another one has stored.
fn is_of_another_server(error: &DatabaseError) -> bool {
    *error.kind() == ErrorKind::Refused(SqlState::READ_ONLY_SQL_TRANSACTION)
}

/// Stores the open calls of a batch under this number, and notes when they may be stored.
async fn attempt(
    connection: &Connection,
    number: (i64, i64),
    batch: &mut Batch,
    may_be_stored: &mut bool,
) -> Result<Attempt, DatabaseError> {
    let (warnings, begin) = (connection.warnings(), batch.needs_check());
    let entries: Vec<&Entry> = batch.open().collect();
    let group: StoredGroup = rows::store(connection, number, &entries, begin).await?;
    *may_be_stored |= !begin;
    let is_confirmed = || connection.warnings() == warnings;
    if !begin && !is_confirmed() {
        return Ok(Attempt::Unconfirmed);
    }
    let known = Known { keys: look_up(connection, &batch.keys_not_stored(&group)).await?, group };
    if !begin {
        return Ok(Attempt::Confirmed(known));
    }
    if known.group.is_new && batch.fail_whole_requests(&known) {
        connection.batch("ROLLBACK").await?;
        return Ok(Attempt::RolledBack);
    }
    connection.batch("COMMIT").await?;
    *may_be_stored = true;
    Ok(if is_confirmed() { Attempt::Confirmed(known) } else { Attempt::Unconfirmed })
}

/// Cancels the statements of appends that run for so long.
pub(super) async fn end_orphans(connection: &Connection, age: Duration) -> Result<(), DatabaseError> {
    let sql = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
               WHERE application_name = 'segment-relay appends' AND datname = current_database() AND usename = current_user
                   AND state <> 'idle' AND pid <> pg_backend_pid()
                   AND query_start < clock_timestamp() - make_interval(secs => $1)";
    connection.query(sql, &[(&age.as_secs_f64(), Type::FLOAT8)]).await.map(drop)
}
