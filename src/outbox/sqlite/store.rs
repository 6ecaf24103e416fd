//! [`SqliteOutbox`]: opens the file, starts the threads, and sends commands to the writer.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::backup;
use super::checkpoint::{self, CheckpointHandle, StartCopy};
use super::command::{BackupJob, CommandQueue, QUEUE_CAPACITY, Reply, WriterCommand};
use super::dead_letters::ReplayAll;
use super::file::{self, DatabaseFile};
use super::prune::Pruner;
use super::read::{self, ReadConnection};
use super::reserve::Reserve;
use super::schema;
use super::state::{StoreState, is_corruption};
use super::transaction::{read_counters, read_sizes};
use super::watch::FileWatch;
use super::watchers::Watchers;
use super::writer::{Writer, now};
use crate::config::OutboxSettings;
use crate::metrics::Metrics;
use crate::outbox::{
    Append, Appended, BackupError, Backups, CallId, DeadLetter, DeadLetters, Outbox, OutboxError, OutboxStats, Page,
    ParkedUser, ParkedUsers, StoreCopy, StoredCall, UserFilter,
};
use crate::segment::SettledCall;
use crate::supervisor::Supervisor;

/// Groups in the feed of new calls. A group is what one transaction stored, about 1 MiB at most. Delivery that falls
/// further behind reads from the file.
const FEED_GROUPS: usize = 4;

/// The outbox in an SQLite file.
pub struct SqliteOutbox {
    commands: mpsc::Sender<WriterCommand>,
    state: Arc<StoreState>,
    /// Two connections, so that a long list of dead letters does not delay delivery.
    pages: Arc<ReadConnection>,
    dead_letters: Arc<ReadConnection>,
    backup_path: PathBuf,
    /// One permit: a copy takes as much space as the outbox.
    backup_permits: Arc<Semaphore>,
    ended: watch::Receiver<bool>,
}

type Opened = (Arc<SqliteOutbox>, mpsc::Receiver<Vec<StoredCall>>);

impl SqliteOutbox {
    /// Opens the outbox, or creates a new one, and starts its threads.
    ///
    /// The receiver is the feed of new calls: what each transaction stored, ordered by id, so that delivery need not
    /// read back what was just written. The ids in it are consecutive, unless the feed was full and a group was left
    /// out: that group is on disk, as [`OutboxStats::last_id`] shows.
    ///
    /// # Errors
    /// If the file cannot be used. The error is for the operator, and names the path. A file that is damaged, or not
    /// this program's, is not changed.
    pub fn open(settings: &OutboxSettings, metrics: Arc<Metrics>, supervisor: &Supervisor) -> anyhow::Result<Opened> {
        Self::open_file(&DatabaseFile::new(&settings.path), settings, metrics, supervisor)
            .map_err(|error| {
                let damaged = "the file is damaged; restore it from a backup, or move it away";
                if error.downcast_ref().is_some_and(is_corruption) { error.context(damaged) } else { error }
            })
            .with_context(|| format!("the outbox {} cannot be used", settings.path.display()))
    }

    pub(super) fn open_file(
        file: &DatabaseFile,
        settings: &OutboxSettings,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Opened> {
        let lock = file.create_and_lock()?;
        let real = file.path.canonicalize()?;
        let backup_path = backup::path_beside(&file.path);
        backup::remove_leftover(&backup_path);
        let mut conn = file.open_writer()?;
        schema::check(&conn)?;
        file.enable_wal(&conn)?;
        schema::migrate(&mut conn)?;
        let mut reserve = Reserve::open(&real)?;
        let copy_log = || checkpoint::copy_at_start(&conn, &file::beside(&real, file::WAL_SUFFIXES[0]));
        let mut copied = copy_log();
        if copied.as_ref().is_err_and(checkpoint::is_disk_full) {
            reserve.release();
            copied = copy_log();
        }
        let is_hindered = copied.context("cannot copy its log into the file")? == StartCopy::Hindered;
        // The log exists by now: this makes the entries of all files in the directory durable.
        file::sync_directory_of(&file.path)?;
        let mut stats = read_counters(&conn, settings.max_bytes)?;
        let free_bytes = read_sizes(&conn, &mut stats, now())?;

        let state = Arc::new(StoreState::new(metrics, supervisor.clone()));
        state.update(stats, None);
        let pages = ReadConnection::new(file.open_reader()?, &state);
        let dead_letters = ReadConnection::new(file.open_reader()?, &state);
        let watch = FileWatch::start(&file.path, &real, lock.file.clone())?;
        let (commands, received) = mpsc::channel(QUEUE_CAPACITY);
        let (new_calls, feed) = mpsc::channel(FEED_GROUPS);
        let (ended, has_ended) = watch::channel(false);
        let wal_pages = file.wal_pages.min(file::pages(reserve.wal_bytes()));
        let (conn_beside, database) = (file.open_writer()?, lock.file.clone());
        let mut checkpoints =
            CheckpointHandle::start(conn_beside, database, wal_pages, commands.downgrade(), &state, supervisor)?;
        if is_hindered {
            checkpoints.start_hindered(&watch);
        }
        let (writer_state, window) = (state.clone(), settings.window);
        // The writer belongs to its thread.
        let writer = move || Writer {
            conn: Rc::new(conn),
            lock,
            watch,
            queue: CommandQueue::new(received),
            state: writer_state,
            new_calls,
            stats,
            free_bytes,
            pruner: Pruner::new(window),
            watchers: Watchers::default(),
            checkpoints,
            reserve,
            fault: None,
            lost: None,
            counted_wal: 0,
            logged_trouble: None,
            ended,
        };
        supervisor.thread("outbox", move || writer().run())?;
        let backup_permits = Arc::new(Semaphore::new(1));
        let store = Self { commands, state, pages, dead_letters, backup_path, backup_permits, ended: has_ended };
        Ok((Arc::new(store), feed))
    }

    /// Sends the writer a command, and waits for the answer without a deadline.
    async fn request<T>(&self, command: impl FnOnce(Reply<T>) -> WriterCommand) -> Result<T, OutboxError> {
        let (reply, answer) = Reply::channel();
        self.commands.send(command(reply)).await.map_err(|_closed| OutboxError::Closed)?;
        answer.await.unwrap_or(Err(OutboxError::Unconfirmed))
    }
}

#[async_trait]
impl Outbox for SqliteOutbox {
    async fn append(&self, append: Append, deadline: Instant) -> Result<Appended, OutboxError> {
        if deadline <= Instant::now() {
            return Err(OutboxError::Busy);
        }
        // Permits are granted in the order of the requests, so calls are stored in that order.
        let permit = timeout_at(deadline, self.commands.reserve()).await.map_err(|_late| OutboxError::Busy)?;
        let (reply, answer) = Reply::channel();
        permit.map_err(|_closed| OutboxError::Closed)?.send(WriterCommand::Append(append, reply));
        match timeout_at(deadline, answer).await {
            Ok(Ok(appended)) => appended,
            Ok(Err(_)) | Err(_) => Err(OutboxError::Unconfirmed),
        }
    }

    async fn settle(&self, delivered: Arc<[SettledCall]>) -> Result<(), OutboxError> {
        self.request(|reply| WriterCommand::Settle(delivered, reply)).await
    }

    async fn page(&self, from: CallId, users: UserFilter, limit: usize) -> Result<Page, OutboxError> {
        let last_id = self.state.stats().last_id;
        if self.state.is_unreadable() {
            // Nothing more can be read.
            return Ok(Page { calls: Vec::new(), next: last_id.saturating_add(1) });
        }
        self.pages.read(move |conn| read::page(conn, from, &users, limit, last_id)).await
    }

    async fn next(&self, _room: usize) -> Result<Vec<StoredCall>, OutboxError> {
        std::future::pending().await
    }

    async fn next_parked(&self, _limit: usize, _early: bool) -> Result<Vec<StoredCall>, OutboxError> {
        Ok(Vec::new())
    }

    fn stats(&self) -> OutboxStats {
        self.state.stats()
    }

    async fn close(&self) {
        self.pages.close().await;
        self.dead_letters.close().await;
        // An error means that the store is closing already.
        let _ = self.commands.send(WriterCommand::Close).await;
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

#[async_trait]
impl DeadLetters for SqliteOutbox {
    async fn list(&self, limit: usize, before: Option<i64>) -> Result<Vec<DeadLetter>, OutboxError> {
        self.dead_letters.read(move |conn| read::list(conn, limit, before)).await
    }

    async fn replay(&self, id: i64) -> Result<bool, OutboxError> {
        self.request(|reply| WriterCommand::Replay(id, reply)).await
    }

    async fn replay_all(&self) -> Result<u64, OutboxError> {
        self.request(|reply| WriterCommand::ReplayAll(ReplayAll::default(), reply)).await
    }

    async fn discard(&self, id: i64) -> Result<bool, OutboxError> {
        self.request(|reply| WriterCommand::Discard(id, reply)).await
    }
}

#[async_trait]
impl ParkedUsers for SqliteOutbox {
    async fn list(&self, _limit: usize, _before: Option<i64>) -> Result<Vec<ParkedUser>, OutboxError> {
        Ok(Vec::new())
    }

    async fn retry(&self, _id: i64) -> Result<bool, OutboxError> {
        Ok(false)
    }

    async fn retry_all(&self, _status: Option<u16>) -> Result<u64, OutboxError> {
        Ok(0)
    }

    async fn give_up(&self, _id: i64) -> Result<bool, OutboxError> {
        Ok(false)
    }

    async fn give_up_all(&self, _status: Option<u16>) -> Result<u64, OutboxError> {
        Ok(0)
    }
}

#[async_trait]
impl Backups for SqliteOutbox {
    async fn back_up(&self) -> Result<StoreCopy, BackupError> {
        let permit = self.backup_permits.clone().try_acquire_owned().map_err(|_| BackupError::InProgress)?;
        let job = BackupJob { path: self.backup_path.clone(), permit };
        self.request(|reply| WriterCommand::Backup(job, reply)).await?
    }
}
