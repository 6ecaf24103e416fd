//! The deliverer: the task that reads and settles the calls of the whole outbox, while this relay holds the lease.
//!
//! It has one connection, on which it does one thing after another, and begins anew from the lowest id with each connection, each
//! tenure and each start of the server: the ids that a server gave before it crashed may be given again. What is out is known by its
//! id, and not handed out twice.
//!
//! A tenure begins when every call of the one before is settled. So each settlement names the tenure in which its calls were
//! handed out, and one that comes too late changes nothing.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::commands::{Command, DelivererHandle, QUEUE_CAPACITY, Reply};
use super::connect::Connection;
use super::cursor::Cursor;
use super::database_error::{DatabaseError, ErrorKind};
use super::forget_progress::Forgets;
pub(super) use super::lease::Tenure;
use super::maintenance_state::Maintenance;
use super::out::Out;
use super::page::IdOrigin;
use super::request_progress::Requests;
use super::settle::Work;
use super::shared::{Reopening, Shared};
use super::transaction::{Effects, Owner};
use super::turns::Turns;
use super::vacuum;
use crate::outbox::{OutboxError, StillOut, StoredCall};
use crate::segment::SettledCall;

/// Between two looks at an outbox in which nothing happens. A call that another relay stored waits for half of it.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

pub(super) struct Deliverer {
    pub(super) shared: Arc<Shared>,
    pub(super) tenure: watch::Receiver<Option<Tenure>>,
    pub(super) connection: Option<Connection>,
    /// In which tenure the calls that are out were handed out.
    pub(super) owner: Owner,
    /// Calls are handed out.
    pub(super) is_open: bool,
    /// The last tenure that another relay was found to have ended.
    ended: i64,
    pub(super) cursor: Cursor,
    /// The server, and its start, whose ids the cursor is about.
    pub(super) server: Option<IdOrigin>,
    /// The text of the snapshot at the last look.
    pub(super) snapshot: String,
    /// The last page was cut.
    pub(super) has_more: bool,
    pub(super) is_turn_first: bool,
    pub(super) turns: Turns,
    /// The last turn that was given.
    pub(super) turn: i64,
    pub(super) out: Out,
    /// The room that delivery has, while it waits.
    pub(super) asked: Option<(usize, Reply<Vec<StoredCall>>)>,
    unsettled: VecDeque<(Arc<[SettledCall]>, Reply<()>)>,
    pub(super) requests: Requests,
    pub(super) forgets: Forgets,
    pub(super) maintenance: Maintenance,
    next_look: Instant,
    has_warned: bool,
}

/// What the deliverer waits for.
enum Event {
    Command(Option<Command>),
    Tenure,
    Opened(Box<(Connection, Reopening)>),
    Look,
}

/// A connection that is being opened.
type Opening = Pin<Box<dyn Future<Output = Box<(Connection, Reopening)>> + Send>>;

/// Starts the deliverer of this relay.
pub(super) fn start(shared: &Arc<Shared>, tenure: watch::Receiver<Option<Tenure>>) -> DelivererHandle {
    let (sender, commands) = mpsc::channel(QUEUE_CAPACITY);
    let vacuum = vacuum::start(shared, tenure.clone());
    let deliverer = Deliverer {
        shared: shared.clone(),
        tenure,
        connection: None,
        owner: Owner { relay: shared.relay, epoch: 0 },
        is_open: false,
        ended: 0,
        cursor: Cursor::default(),
        server: None,
        snapshot: String::new(),
        has_more: true,
        is_turn_first: false,
        turns: Turns::new(),
        turn: 0,
        out: Out::default(),
        asked: None,
        unsettled: VecDeque::new(),
        requests: Requests::default(),
        forgets: Forgets::default(),
        maintenance: Maintenance::new(&shared.rules, vacuum),
        next_look: Instant::now(),
        has_warned: false,
    };
    shared.start("deliverer", deliverer.run(commands));
    DelivererHandle::new(sender)
}

impl Deliverer {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut opening: Option<Opening> = None;
        let mut reopening = Some(Reopening::new("deliverer"));
        loop {
            let is_wanted = self.connection.is_none() && self.tenure.borrow().is_some();
            if is_wanted && let Some(mut reopening) = reopening.take() {
                let shared = self.shared.clone();
                opening = Some(Box::pin(async move {
                    let connection = reopening.open(&shared.connector).await;
                    Box::new((connection, reopening))
                }));
            }
            match self.next_event(&mut commands, &mut opening).await {
                Event::Command(None) => return,
                Event::Command(Some(command)) => self.execute(command).await,
                Event::Tenure => self.next_look = Instant::now(),
                Event::Opened(opened) => {
                    let (connection, again) = *opened;
                    (opening, reopening) = (None, Some(again));
                    self.begin_connection(connection).await;
                }
                Event::Look => {}
            }
            self.settle_all().await;
            self.look().await;
            let has_all_back = self.out.is_empty() && self.unsettled.is_empty();
            self.shared.has_all_back.store(has_all_back, Ordering::Release);
        }
    }

    async fn next_event(&mut self, commands: &mut mpsc::Receiver<Command>, opening: &mut Option<Opening>) -> Event {
        let opened = async {
            match opening {
                Some(opening) => opening.await,
                None => pending().await,
            }
        };
        let has_connection = self.connection.is_some();
        tokio::select! {
            biased;
            command = commands.recv() => Event::Command(command),
            // What was asked for before is done.
            () = self.shared.closing.cancelled() => Event::Command(None),
            Ok(()) = self.tenure.changed() => Event::Tenure,
            opened = opened => Event::Opened(opened),
            () = self.shared.wake.notified(), if has_connection && self.asked.is_some() => {
                self.next_look = Instant::now();
                Event::Look
            }
            () = sleep_until(self.next_look), if has_connection => Event::Look,
        }
    }

    async fn begin_connection(&mut self, connection: Connection) {
        // What became of the last transaction is not known.
        let start = self.maintenance.read_start(&connection).await;
        self.connection = Some(connection);
        match self.checked(start) {
            Ok((turn, user_bytes)) => (self.turn, self.maintenance.user_bytes) = (turn.max(self.turn), user_bytes),
            Err(error) => self.warn(&error),
        }
        self.begin_cursor();
    }

    /// Reads from the lowest id again.
    pub(super) fn begin_cursor(&mut self) {
        (self.cursor, self.server) = (Cursor::default(), None);
        self.snapshot.clear();
        self.has_more = true;
        self.turns = Turns::new();
        self.next_look = Instant::now();
    }

    /// Begins to hand out calls, if this relay delivers and every call of the tenure before is settled.
    async fn begin_tenure(&mut self) -> Result<(), DatabaseError> {
        let Some(Tenure { epoch }) = *self.tenure.borrow() else { return Ok(()) };
        let Some(connection) = &self.connection else { return Ok(()) };
        if epoch == self.ended || !self.out.is_empty() || !self.unsettled.is_empty() {
            return Ok(());
        }
        if !self.shared.fence.open(epoch) {
            return Ok(());
        }
        (self.turn, self.maintenance.user_bytes) = self.maintenance.read_start(connection).await?;
        self.owner.epoch = epoch;
        self.requests.begin();
        self.set_open(true);
        self.begin_cursor();
        Ok(())
    }

    async fn execute(&mut self, command: Command) {
        match command {
            Command::Settle(delivered, reply) => self.unsettled.push_back((delivered, reply)),
            Command::Next(room, reply) => {
                // There is one caller at a time: an earlier one has left.
                self.asked = Some((room, reply));
                self.next_look = Instant::now();
            }
            Command::NextParked(limit, early, reply) => self.take_parked(limit, early, reply).await,
            Command::DeliveryEnded => self.out = Out::default(),
            Command::DeletePerson(person, reply) => self.forgets.begin(person, reply),
            Command::StillOut(ids, reply) => {
                let (out, deleted) = self.out.still_out(ids);
                let _ = reply.send(Ok(StillOut { out, deleted }));
            }
            Command::NextForget(reply) => self.requests.wait_for_forget(reply),
            Command::AnswerForget(id, result, reply) => {
                let answered = self.answer_forget(id, result).await;
                let _ = reply.send(answered);
            }
            #[cfg(test)]
            Command::Publish(reply) => {
                let published = self.maintain(true).await;
                let _ = reply.send(published);
            }
        }
    }

    /// Settles what came back. While there is no connection it is kept, unless the tenure has ended: then others send these calls.
    async fn settle_all(&mut self) {
        while let Some((delivered, reply)) = self.unsettled.pop_front() {
            let is_fenced = !self.is_open || !self.shared.fence.is_open();
            let work = Work::new(&delivered, &self.out, is_fenced);
            if !work.is_empty() {
                match self.run_work(&work).await {
                    Ok(_) => {}
                    Err(error) if matches!(error.kind(), ErrorKind::Refused(_)) => {
                        self.warn(&error);
                        let _ = reply.send(Err(error.of_change()));
                        continue;
                    }
                    Err(_) if self.tenure.borrow().is_some() => {
                        self.unsettled.push_front((delivered, reply));
                        return;
                    }
                    Err(_) => {}
                }
            }
            self.out.note_forgotten(&work.forgotten);
            delivered.iter().for_each(|settled| self.out.returned(settled.id));
            self.turns.may_have |= self.turns.has_rows;
            let _ = reply.send(Ok(()));
        }
    }

    /// Does this, and applies what follows from it. False if another relay delivers.
    pub(super) async fn run_work(&mut self, work: &Work) -> Result<bool, DatabaseError> {
        let give_up_after =
            self.shared.rules.give_up_after.map(|after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
        let Some(connection) = &self.connection else { return Err(DatabaseError::no_connection()) };
        let timer = self.shared.metrics.outbox_commit_seconds.start_timer();
        let done = work.run(connection, self.owner, &self.out, give_up_after, &mut self.turn).await;
        drop(timer);
        match self.checked(done)? {
            Some(effects) => {
                self.committed(&effects);
                Ok(true)
            }
            None => {
                self.end_tenure();
                Ok(false)
            }
        }
    }

    /// Another relay delivers, though the task that keeps the lease does not know it yet.
    pub(super) fn end_tenure(&mut self) {
        if *self.tenure.borrow() == Some(Tenure { epoch: self.owner.epoch }) {
            self.shared.fence.shut();
        }
        self.ended = self.owner.epoch;
        self.set_open(false);
    }

    fn set_open(&mut self, is_open: bool) {
        self.is_open = is_open;
        self.shared.figures.lock().is_delivering = is_open;
    }

    /// Gives up a connection that is of no use any more.
    pub(super) fn checked<T>(&mut self, result: Result<T, DatabaseError>) -> Result<T, DatabaseError> {
        match &result {
            Err(error) if !matches!(error.kind(), ErrorKind::Refused(_)) => {
                if self.connection.take().is_some() {
                    tracing::warn!(%error, "the deliverer's connection to the outbox's database is opened anew");
                }
            }
            Err(_) => {}
            Ok(_) => self.has_warned = false,
        }
        result
    }

    /// Says that the database refused a statement, once until one works.
    pub(super) fn warn(&mut self, error: &DatabaseError) {
        if !std::mem::replace(&mut self.has_warned, true) {
            tracing::warn!(%error, "the outbox's database refused what delivery needs");
        }
    }

    /// Applies what follows from a commit.
    pub(super) fn committed(&mut self, effects: &Effects) {
        effects.apply(&self.shared);
        self.maintenance.note(effects);
        self.turns.has_rows |= effects.has_turns;
        self.turns.may_have |= effects.has_turns;
        if effects.has_turns {
            self.next_look = Instant::now();
        }
    }

    /// Looks at what there is to do, a step of each kind.
    async fn look(&mut self) {
        if self.connection.is_none() {
            return;
        }
        // The fence shuts by itself. Then nothing is handed out before everything is back.
        if self.is_open && (self.tenure.borrow().is_none() || !self.shared.fence.may_send()) {
            self.set_open(false);
        }
        if !self.is_open {
            if self.tenure.borrow().is_none() && self.out.is_empty() && self.unsettled.is_empty() {
                self.connection = None;
                return;
            }
            let begun = self.begin_tenure().await;
            if let Err(error) = self.checked(begun) {
                self.warn(&error);
            }
        }
        let now = Instant::now();
        let is_due = self.next_look <= now;
        if is_due {
            self.next_look = now + POLL_INTERVAL;
        }
        if !self.is_open {
            return;
        }
        if is_due && let Err(error) = self.look_for_calls().await {
            self.warn(&error);
        }
        if let Err(error) = self.look_at_requests().await {
            self.warn(&error);
        }
        if let Err(_logged) = self.forget_step().await {
            self.next_look = Instant::now() + POLL_INTERVAL;
        }
        let _ = self.maintain(false).await;
    }

    /// There is more to do: the next look is at once.
    pub(super) fn look_again(&mut self) {
        self.next_look = Instant::now();
    }

    async fn take_parked(&mut self, limit: usize, early: bool, reply: Reply<Vec<StoredCall>>) {
        let Some(connection) = self.connection.as_ref().filter(|_| self.is_open) else {
            let _ = reply.send(Ok(Vec::new()));
            return;
        };
        let taken = super::turns::take_parked(connection, limit, early, &mut self.out).await;
        let answer = match self.checked(taken) {
            Ok(calls) => Ok(calls),
            Err(error) => {
                self.warn(&error);
                Err(OutboxError::Unreadable)
            }
        };
        if let Err(Ok(calls)) = reply.send(answer) {
            self.give_back(&calls);
        }
    }

    /// Calls are not out after all.
    pub(super) fn give_back(&mut self, calls: &[StoredCall]) {
        calls.iter().for_each(|stored| self.out.returned(stored.id));
        if !calls.is_empty() {
            self.begin_cursor();
        }
    }
}

#[cfg(test)]
mod tests;
