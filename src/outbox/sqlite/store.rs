//! [`SqliteOutbox`]: opens the file, starts the threads, and sends commands to the writer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::backup;
use super::checkpoint::{self, CheckpointHandle, StartCopy};
use super::command::{BackupJob, CommandQueue, QUEUE_CAPACITY, Reply, WriterCommand};
use super::events;
use super::expire::Expiry;
use super::file::{self, DatabaseFile};
use super::forget::ForgetVerb;
use super::group::Group;
use super::letters;
use super::memory::Memory;
use super::parked_verbs::{self, ParkedVerb};
use super::prune::Pruners;
use super::read::ReadConnection;
use super::reading::Reading;
use super::reserve::Reserve;
use super::schema;
use super::scrub::Scrub;
use super::sources::Sources;
use super::state::{StoreState, is_corruption};
use super::transaction::{read_counters, read_sizes};
use super::watch::FileWatch;
use super::writer::{Writer, now};
use crate::config::OutboxSettings;
use crate::metrics::Metrics;
use crate::outbox::letter_pages::LetterPages;
use crate::outbox::limits::check_size;
use crate::outbox::watchers::Watchers;
use crate::outbox::wishes::Wish;
use crate::outbox::{
    Append, Appended, BackupError, Backups, CallId, DeadLetters, DeletedRows, Events, KeptEvent, LetterFilter,
    LetterIds, LetterPage, Outbox, OutboxError, OutboxStats, ParkedFilter, ParkedUser, ParkedUsers, Person,
    PersonStore, SourceStats, StillOut, Store, StoreCopy, StoredCall,
};
use crate::segment::SettledCall;
use crate::supervisor::Supervisor;

/// Pause before the log is emptied again, and how often that is tried: two minutes. The store's own readers take milliseconds.
const LOG_ATTEMPT_PAUSE: Duration = Duration::from_millis(100);
const MAX_LOG_ATTEMPTS: usize = 1200;

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
        path: &Path,
        settings: &OutboxSettings,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Arc<Self>> {
        Self::open_file(&DatabaseFile::new(path), settings, metrics, supervisor)
            .map_err(|error| {
                let damaged = "the file is damaged; restore it from a backup, or move it away";
                if error.downcast_ref().is_some_and(is_corruption) { error.context(damaged) } else { error }
            })
            .with_context(|| format!("the outbox {} cannot be used", path.display()))
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
        let sources = Sources::read(&conn)?;
        state.publish_sources(&sources);
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
            pruners: Pruners::new(window, sources.names()),
            memory: Memory::new(stats.last_id, give_up_after, sources),
            stats,
            free_bytes,
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

    /// Sends the writer a command that must be finished by the deadline.
    async fn request_by<T>(
        &self,
        deadline: Instant,
        command: impl FnOnce(Reply<T>) -> WriterCommand,
    ) -> Result<T, OutboxError> {
        if deadline <= Instant::now() {
            return Err(OutboxError::Busy);
        }
        // Permits are granted in the order of the requests, so calls are stored in that order.
        let permit = timeout_at(deadline, self.commands.reserve()).await.map_err(|_late| OutboxError::Busy)?;
        let (reply, answer) = Reply::channel();
        permit.map_err(|_closed| OutboxError::Closed)?.send(command(reply));
        match timeout_at(deadline, answer).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) | Err(_) => Err(OutboxError::Unconfirmed),
        }
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

impl Store for SqliteOutbox {
    fn set_key_windows(&self, windows: BTreeMap<Arc<str>, Duration>) {
        self.state.set_key_windows(windows);
    }

    fn source_stats(&self) -> Vec<SourceStats> {
        self.state.source_stats()
    }

    fn backups(self: Arc<Self>) -> Option<Arc<dyn Backups>> {
        Some(self)
    }

    fn persons(self: Arc<Self>) -> Option<Arc<dyn PersonStore>> {
        Some(self)
    }
}

#[async_trait]
impl Outbox for SqliteOutbox {
    async fn append(&self, append: Append, deadline: Instant) -> Result<Appended, OutboxError> {
        self.request_by(deadline, |reply| WriterCommand::Append(append, reply)).await
    }

    async fn append_group(
        &self,
        appends: Vec<Append>,
        is_all_or_nothing: bool,
        deadline: Instant,
    ) -> Result<Vec<Result<Appended, OutboxError>>, OutboxError> {
        check_size(&appends)?;
        let group = Group { appends, is_all_or_nothing };
        self.request_by(deadline, |reply| WriterCommand::AppendGroup(group, reply)).await
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
    async fn list(&self, limit: usize, filter: LetterFilter) -> Result<LetterPage, OutboxError> {
        let mut pages = LetterPages::new(limit, filter);
        while let Some(wanted) = pages.next_read() {
            let (page, bytes) = self.reads.read(move |conn| letters::newest(conn, &wanted)).await?;
            pages.add(page, bytes);
        }
        Ok(pages.into_page())
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
impl Events for SqliteOutbox {
    async fn keep(&self, event: KeptEvent, deadline: Instant) -> Result<(), OutboxError> {
        self.request_by(deadline, |reply| WriterCommand::Keep(event, reply)).await
    }

    async fn find(&self, id: i64) -> Result<Option<KeptEvent>, OutboxError> {
        self.reads.read(move |conn| events::find(conn, id)).await
    }

    async fn replace(&self, id: i64, calls: Vec<Append>) -> Result<Option<Vec<Appended>>, OutboxError> {
        check_size(&calls)?;
        self.request(|reply| WriterCommand::Replace(id, calls, reply)).await
    }

    async fn note_reason(&self, id: i64, reason: String) -> Result<(), OutboxError> {
        self.request(|reply| WriterCommand::NoteReason(id, reason, reply)).await
    }
}

#[async_trait]
impl ParkedUsers for SqliteOutbox {
    async fn list(
        &self,
        limit: usize,
        before: Option<i64>,
        user_id: Option<String>,
    ) -> Result<Vec<ParkedUser>, OutboxError> {
        self.reads.read(move |conn| parked_verbs::list(conn, limit, before, user_id.as_deref())).await
    }

    async fn retry(&self, id: i64) -> Result<bool, OutboxError> {
        self.act_on_parked(ParkedVerb::one(Wish::Retry, id)).await.map(|users| users > 0)
    }

    async fn retry_all(&self, filter: ParkedFilter) -> Result<u64, OutboxError> {
        self.act_on_parked(ParkedVerb::all(Wish::Retry, filter)).await
    }

    async fn give_up(&self, id: i64) -> Result<bool, OutboxError> {
        self.act_on_parked(ParkedVerb::one(Wish::GiveUp, id)).await.map(|users| users > 0)
    }

    async fn give_up_all(&self, filter: ParkedFilter) -> Result<u64, OutboxError> {
        self.act_on_parked(ParkedVerb::all(Wish::GiveUp, filter)).await
    }
}

#[async_trait]
impl PersonStore for SqliteOutbox {
    async fn delete_person(&self, person: Arc<Person>) -> Result<DeletedRows, OutboxError> {
        self.request(|reply| WriterCommand::Forget(ForgetVerb::new(person), reply)).await
    }

    async fn scrub(&self) -> Result<(), OutboxError> {
        // A copy that was begun before holds what is cleared now.
        let _permit = self.backup_permits.acquire().await.map_err(|_closed| OutboxError::Closed)?;
        self.request(|reply| WriterCommand::Scrub(Scrub::default(), reply)).await?;
        for _ in 0..MAX_LOG_ATTEMPTS {
            if self.request(WriterCommand::EmptyLog).await? {
                return Ok(());
            }
            tokio::time::sleep(LOG_ATTEMPT_PAUSE).await;
        }
        tracing::error!(
            "a reader keeps the write-ahead log of the outbox from being emptied; what was deleted may be in it"
        );
        Err(OutboxError::Unconfirmed)
    }

    async fn still_out(&self, calls: Vec<CallId>) -> Result<StillOut, OutboxError> {
        self.request(|reply| WriterCommand::StillOut(calls, reply)).await
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
