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
use super::expire::Expiry;
use super::file::{self, DatabaseFile};
use super::letters;
use super::memory::{Memory, Wish};
use super::parked_verbs::{self, ParkedVerb};
use super::prune::Pruner;
use super::read::ReadConnection;
use super::reading::Reading;
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
    Append, Appended, BackupError, Backups, DeadLetters, LetterFilter, LetterIds, LetterPage, Outbox, OutboxError,
    OutboxStats, ParkedUser, ParkedUsers, StoreCopy, StoredCall,
};
use crate::segment::SettledCall;
use crate::supervisor::Supervisor;

/// The outbox in an SQLite file.
pub struct SqliteOutbox {
    commands: mpsc::Sender<WriterCommand>,
    state: Arc<StoreState>,
    /// For operators.
    pub(super) reads: Arc<ReadConnection>,
    backup_path: PathBuf,
    /// One permit: a copy takes as much space as the outbox.
    backup_permits: Arc<Semaphore>,
    ended: watch::Receiver<bool>,
}

impl SqliteOutbox {
    /// Opens the outbox, or creates a new one, and starts its threads.
    ///
    /// # Errors
    /// If the file cannot be used. The error is for the operator, and names the path. A file that is damaged, or not
    /// this program's, is not changed.
    pub fn open(
        settings: &OutboxSettings,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Arc<Self>> {
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
    ) -> anyhow::Result<Arc<Self>> {
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
        let reads = ReadConnection::new(file.open_reader()?, &state);
        let watch = FileWatch::start(&file.path, &real, lock.file.clone())?;
        let (commands, received) = mpsc::channel(QUEUE_CAPACITY);
        let (ended, has_ended) = watch::channel(false);
        let wal_pages = file.wal_pages.min(file::pages(reserve.wal_bytes()));
        let (conn_beside, database) = (file.open_writer()?, lock.file.clone());
        let mut checkpoints =
            CheckpointHandle::start(conn_beside, database, wal_pages, commands.downgrade(), &state, supervisor)?;
        if is_hindered {
            checkpoints.start_hindered(&watch);
        }
        let (writer_state, window, give_up_after) = (state.clone(), settings.window, settings.give_up_after);
        let retention = settings.dead_letter_retention;
        // The writer belongs to its thread.
        let writer = move || Writer {
            conn: Rc::new(conn),
            lock,
            watch,
            queue: CommandQueue::new(received),
            state: writer_state,
            reading: Reading::new(),
            memory: Memory::new(stats.last_id, give_up_after),
            stats,
            free_bytes,
            pruner: Pruner::new(window),
            expiry: Expiry::new(retention),
            watchers: Watchers::default(),
            checkpoints,
            reserve,
            fault: None,
            lost: None,
            counted_wal: 0,
            logged_trouble: None,
            pushed_out: 0,
            ended,
        };
        supervisor.thread("outbox", move || writer().run())?;
        let backup_permits = Arc::new(Semaphore::new(1));
        Ok(Arc::new(Self { commands, state, reads, backup_path, backup_permits, ended: has_ended }))
    }

    /// Sends the writer a command, and waits for the answer without a deadline.
    async fn request<T>(&self, command: impl FnOnce(Reply<T>) -> WriterCommand) -> Result<T, OutboxError> {
        let (reply, answer) = Reply::channel();
        self.commands.send(command(reply)).await.map_err(|_closed| OutboxError::Closed)?;
        answer.await.unwrap_or(Err(OutboxError::Unconfirmed))
    }

    async fn act_on_parked(&self, verb: ParkedVerb) -> Result<u64, OutboxError> {
        self.request(|reply| WriterCommand::Parked(verb, reply)).await
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

    async fn append_group(
        &self,
        group: Vec<Append>,
        _is_all_or_nothing: bool,
        deadline: Instant,
    ) -> Result<Vec<Result<Appended, OutboxError>>, OutboxError> {
        Ok(futures_util::future::join_all(group.into_iter().map(|append| self.append(append, deadline))).await)
    }

    async fn settle(&self, delivered: Arc<[SettledCall]>) -> Result<(), OutboxError> {
        self.request(|reply| WriterCommand::Settle(delivered, reply)).await
    }

    async fn next(&self, room: usize) -> Result<Vec<StoredCall>, OutboxError> {
        self.request(|reply| WriterCommand::Next(room, reply)).await
    }

    async fn next_parked(&self, limit: usize, early: bool) -> Result<Vec<StoredCall>, OutboxError> {
        self.request(|reply| WriterCommand::NextParked(limit, early, reply)).await
    }

    fn stats(&self) -> OutboxStats {
        self.state.stats()
    }

    async fn close(&self) {
        self.reads.close().await;
        // An error means that the store is closing already.
        let _ = self.commands.send(WriterCommand::Close).await;
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

#[async_trait]
impl DeadLetters for SqliteOutbox {
    async fn list(&self, limit: usize, mut filter: LetterFilter) -> Result<LetterPage, OutboxError> {
        let mut page = LetterPage { letters: Vec::new(), next: None };
        for _ in 0..letters::PAGE_STEPS {
            let (room, wanted) = (limit.saturating_sub(page.letters.len()), filter.clone());
            let LetterPage { letters, next } =
                self.reads.read(move |conn| letters::newest(conn, room, &wanted)).await?;
            page.letters.extend(letters);
            page.next = next;
            if next.is_none() || page.letters.len() >= limit {
                break;
            }
            filter.before = next;
        }
        Ok(page)
    }

    async fn find(&self, from: i64, limit: usize, filter: LetterFilter) -> Result<LetterIds, OutboxError> {
        self.reads.read(move |conn| letters::oldest(conn, from, limit, &filter)).await
    }

    async fn replay(&self, ids: Vec<i64>) -> Result<u64, OutboxError> {
        self.request(|reply| WriterCommand::Replay(ids, reply)).await
    }

    async fn discard(&self, ids: Vec<i64>) -> Result<u64, OutboxError> {
        self.request(|reply| WriterCommand::Discard(ids, reply)).await
    }
}

#[async_trait]
impl ParkedUsers for SqliteOutbox {
    async fn list(&self, limit: usize, before: Option<i64>) -> Result<Vec<ParkedUser>, OutboxError> {
        self.reads.read(move |conn| parked_verbs::list(conn, limit, before)).await
    }

    async fn retry(&self, id: i64) -> Result<bool, OutboxError> {
        self.act_on_parked(ParkedVerb::one(Wish::Retry, id)).await.map(|users| users > 0)
    }

    async fn retry_all(&self, status: Option<u16>) -> Result<u64, OutboxError> {
        self.act_on_parked(ParkedVerb::all(Wish::Retry, status)).await
    }

    async fn give_up(&self, id: i64) -> Result<bool, OutboxError> {
        self.act_on_parked(ParkedVerb::one(Wish::GiveUp, id)).await.map(|users| users > 0)
    }

    async fn give_up_all(&self, status: Option<u16>) -> Result<u64, OutboxError> {
        self.act_on_parked(ParkedVerb::all(Wish::GiveUp, status)).await
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
