//! The outbox in an SQLite file: for one relay on one machine.
//!
//! One thread owns the connection that writes (`writer`): it takes what waits (`inbox`), carries it out in one
//! `transaction` (`append`, `settle`, `letters`, `prune`), and answers when that is synced. A second one copies the log
//! back into the file (`checkpoint`). Reads go beside them (`read`). `file` and `schema` open all that, or say why not.
//!
//! Promised: an answer means that the commit was synced (`synchronous=FULL`, asked back at the start). This rests on what
//! the system says of fsync: that the bytes are where a power cut does not reach them. A sync that fails ends the process;
//! the next start copies the whole log into the file, with new writes and new syncs, before anything is added to it.
//!
//! It does not run on two machines, and not over a network file system.

mod append;
mod checkpoint;
mod command;
mod fault;
mod file;
mod inbox;
mod letters;
mod prune;
mod read;
mod reserve;
mod schema;
mod settle;
mod shared;
#[cfg(test)]
mod tests;
mod transaction;
mod watchers;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use rusqlite::MAIN_DB;
use rusqlite::wal::CheckpointMode;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::{
    Append, Appended, CallId, Contents, DeadLetter, DeadLetters, Outbox, OutboxError, Page, Stored, UserFilter,
};
use crate::metrics::Metrics;
use crate::segment::Delivered;
use crate::supervisor::Supervisor;

use checkpoint::Checkpoints;
use command::{Command, ReplayAll, Reply};
use fault::Fault;
use file::Place;
use inbox::Inbox;
use prune::Pruner;
use read::Reader;
use reserve::Reserve;
use shared::Shared;
use transaction::{Counters, Measured};
use watchers::Watchers;
use writer::Writer;

/// How many groups the fresh feed holds. A group is what one transaction stored, about 1 MiB at most; delivery that is
/// further behind reads from the file.
const FRESH_GROUPS: usize = 4;

/// Where the outbox is, and how much it takes.
#[derive(Clone, Debug)]
pub struct SqliteSettings {
    pub path: PathBuf,
    /// How much calls, keys and dead letters may take on disk.
    pub max_bytes: u64,
    /// How long a key is remembered after its call was settled.
    pub window: Duration,
}

/// The outbox in an SQLite file.
pub struct SqliteOutbox {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    /// Two readers, so that a long list of dead letters does not keep delivery waiting.
    pages: Arc<Reader>,
    letters: Arc<Reader>,
    ended: watch::Receiver<bool>,
}

impl SqliteOutbox {
    /// Opens the outbox, or makes a new one, and starts its threads.
    ///
    /// The second part is the fresh feed: what each transaction stored, in the order of the ids, so that delivery need not
    /// read back what was just written. Ids in it follow each other without a gap, unless a group found no place and was
    /// left out: that one is on disk, as [`Contents::last_id`] tells.
    ///
    /// # Errors
    /// If the file cannot be used: for whoever starts the program, with the path. Nothing is changed in a file that is not
    /// this program's, or is damaged.
    pub fn open(
        settings: &SqliteSettings,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> anyhow::Result<(Arc<Self>, mpsc::Receiver<Vec<Stored>>)> {
        Self::open_at(&Place::at(&settings.path), settings, metrics, supervisor)
    }

    fn open_at(
        place: &Place,
        settings: &SqliteSettings,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> anyhow::Result<(Arc<Self>, mpsc::Receiver<Vec<Stored>>)> {
        Self::start(place, settings, metrics, supervisor)
            .map_err(fault::say_if_damaged)
            .with_context(|| format!("the outbox {} cannot be used", place.path.display()))
    }

    fn start(
        place: &Place,
        settings: &SqliteSettings,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> anyhow::Result<(Arc<Self>, mpsc::Receiver<Vec<Stored>>)> {
        let lock = place.prepare()?;
        let mut conn = place.writing()?;
        schema::check(&conn)?;
        place.set_log(&conn)?;
        schema::migrate(&mut conn)?;
        let mut reserve = Reserve::beside(&place.path);
        // What the log holds may stand on a sync that failed before the last end: written and synced once more.
        let copy = || conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::TRUNCATE);
        let copied = match copy() {
            Err(error) if Fault::of(&error) == Fault::Full => {
                reserve.give_up();
                copy()
            }
            copied => copied,
        };
        copied.context("cannot copy its log into the file")?;
        place.sync_entries()?;
        let counters = Counters::read(&conn)?;
        let measured = Measured::of(&conn, settings.max_bytes)?;

        let shared = Arc::new(Shared::new(settings.max_bytes, metrics, supervisor.clone()));
        shared.update(&counters, &measured, None);
        let reading = place.reading()?;
        place.check_log(&reading)?;
        let pages = Reader::new(reading, &shared);
        let letters = Reader::new(place.reading()?, &shared);
        let (commands, received) = mpsc::channel(inbox::WAITING);
        let (fresh, feed) = mpsc::channel(FRESH_GROUPS);
        let (ended, has_ended) = watch::channel(false);
        let log_pages = place.log_pages.min(file::pages(reserve.log_bytes()));
        let checkpoints = Checkpoints::start(place.writing()?, log_pages, commands.downgrade(), &shared, supervisor)?;
        let writer = Writer {
            conn,
            lock,
            inbox: Inbox::new(received),
            shared: shared.clone(),
            fresh,
            counters,
            measured,
            max_bytes: settings.max_bytes,
            pruner: Pruner::new(settings.window),
            watchers: Watchers::default(),
            checkpoints,
            reserve,
            fault: None,
            said: None,
            ended,
        };
        supervisor.thread("outbox", move || writer.run())?;
        Ok((Arc::new(Self { commands, shared, pages, letters, ended: has_ended }), feed))
    }

    /// Asks the writer, and waits for as long as it takes.
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, OutboxError> {
        let (reply, answer) = oneshot::channel();
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
        // Places are given in the order in which they were asked for, so calls are stored in that order.
        let place = timeout_at(deadline, self.commands.reserve()).await.map_err(|_late| OutboxError::Busy)?;
        let (reply, answer) = oneshot::channel();
        place.map_err(|_closed| OutboxError::Closed)?.send(Command::Append(append, reply));
        match timeout_at(deadline, answer).await {
            Ok(Ok(appended)) => appended,
            Ok(Err(_)) | Err(_) => Err(OutboxError::Unconfirmed),
        }
    }

    async fn settle(&self, delivered: Arc<[Delivered]>) -> Result<(), OutboxError> {
        self.ask(|reply| Command::Settle(delivered, reply)).await
    }

    async fn page(&self, from: CallId, whose: UserFilter, limit: usize) -> Result<Page, OutboxError> {
        let last_id = self.shared.contents().last_id;
        self.pages.read(move |conn| read::page(conn, from, &whose, limit, last_id)).await
    }

    fn contents(&self) -> Contents {
        self.shared.contents()
    }

    async fn close(&self) {
        self.pages.close().await;
        self.letters.close().await;
        // If it is closed already, it is only waited for.
        let _ = self.commands.send(Command::Close).await;
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

#[async_trait]
impl DeadLetters for SqliteOutbox {
    async fn list(&self, limit: usize, before: Option<i64>) -> Result<Vec<DeadLetter>, OutboxError> {
        self.letters.read(move |conn| read::list(conn, limit, before)).await
    }

    async fn replay(&self, id: i64) -> Result<bool, OutboxError> {
        self.ask(|reply| Command::Replay(id, reply)).await
    }

    async fn replay_all(&self) -> Result<u64, OutboxError> {
        self.ask(|reply| Command::ReplayAll(ReplayAll::default(), reply)).await
    }

    async fn discard(&self, id: i64) -> Result<bool, OutboxError> {
        self.ask(|reply| Command::Discard(id, reply)).await
    }
}
