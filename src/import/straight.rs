//! Straight to Segment: the lines are calls for the publisher, whose pace, batches, limits and retries are those of the relay.
//!
//! A line that fails while others are accepted comes back, and so do its user's later lines. They are held. The first of them
//! is tried again alone; after five failures it is given up, and the next one has its turn.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, interval};

use super::job::{End, Job};
use super::refused::Reasons;
use crate::publisher::LiveClients;
use crate::segment::{CallOutcome, SettledCall, Trouble};
use crate::supervisor::Supervisor;

/// How often a line that fails alone is tried again.
const MAX_TRIES: u32 = 5;

/// The pause before a line is tried again; it doubles with each try. Together 15.5 s.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How often held lines, journal and progress are looked at.
const TICK: Duration = Duration::from_millis(250);

/// Outcomes that are applied at once, at most: those of a full request.
const MAX_OUTCOMES: usize = 2_500;

/// Of a user whose first open line failed alone.
struct Held {
    lines: BTreeSet<u64>,
    /// The first line is sent again, and its outcome is not known.
    is_out: bool,
    tries: u32,
    at: Instant,
}

struct Straight<'a> {
    job: &'a mut Job,
    clients: &'a LiveClients,
    sender: mpsc::UnboundedSender<SettledCall>,
    held: HashMap<Arc<str>, Held>,
}

/// Sends all lines of the job, or until the process drains: then what is in requests is settled first.
///
/// # Errors
/// If the file cannot be read, or the journal or the file of refused lines not be written.
pub async fn send(job: &mut Job, clients: &LiveClients, supervisor: &Supervisor) -> anyhow::Result<()> {
    let (sender, mut settled) = mpsc::unbounded_channel();
    let mut straight = Straight { job, clients, sender, held: HashMap::new() };
    let mut ticks = interval(TICK);
    while !straight.job.is_finished() {
        let mut calls = Vec::new();
        tokio::select! {
            biased;
            () = supervisor.draining() => break,
            _ = settled.recv_many(&mut calls, MAX_OUTCOMES) => straight.apply(calls)?,
            _ = ticks.tick() => straight.tick()?,
            room = clients.wait_for_room(), if straight.job.has_next() => straight.fill(room)?,
            received = straight.job.receive(), if straight.job.is_reading() => { received?; }
        }
        straight.job.record()?;
    }
    let Straight { job, sender, .. } = straight;
    // The publisher drops what is in no request; when the last call is gone, the channel closes.
    drop(sender);
    while !job.open_lines().is_empty() {
        let mut calls = Vec::new();
        let received = tokio::select! {
            received = settled.recv_many(&mut calls, MAX_OUTCOMES) => received,
            () = supervisor.cancelled() => 0,
        };
        if received == 0 {
            break;
        }
        for SettledCall { id, outcome } in calls {
            settle(job, id.unsigned_abs(), outcome)?;
        }
    }
    job.record_now()
}

/// Returns the trouble of a line that came back.
fn settle(job: &mut Job, line: u64, outcome: CallOutcome) -> anyhow::Result<Option<Trouble>> {
    let end = match outcome {
        CallOutcome::Accepted => End::Accepted,
        CallOutcome::Refused(refusal) => End::Refused(Reasons::of(refusal.reason, Some(refusal.status))),
        CallOutcome::Parked(trouble) => return Ok(Some(trouble)),
        // An import forgets nobody, so nothing is taken back.
        CallOutcome::Behind | CallOutcome::TakenBack => return Ok(None),
    };
    job.settle(line, end)?;
    Ok(None)
}

impl Straight<'_> {
    /// Hands over as many lines as the publisher has room for.
    fn fill(&mut self, mut room: usize) -> anyhow::Result<()> {
        while room > 0 && self.job.has_next() {
            let Some((line, call)) = self.job.take()? else { continue };
            if let Some(held) = self.held.get_mut(call.user_id()) {
                held.lines.insert(line);
                continue;
            }
            room = room.saturating_sub(call.json().len());
            self.deliver(line, false)?;
        }
        Ok(())
    }

    fn deliver(&self, line: u64, is_alone: bool) -> anyhow::Result<()> {
        let Some(call) = self.job.open_lines().get(&line) else { return Ok(()) };
        let delivered = self.clients.deliver(line.cast_signed(), call.clone(), is_alone, &self.sender);
        delivered.map_err(|error| anyhow::anyhow!(error.message))
    }

    fn apply(&mut self, calls: Vec<SettledCall>) -> anyhow::Result<()> {
        for SettledCall { id, outcome } in calls {
            let line = id.unsigned_abs();
            let Some(user) = self.job.open_lines().get(&line).map(|call| call.user_id().clone()) else { continue };
            let comes_back = matches!(outcome, CallOutcome::Parked(_) | CallOutcome::Behind | CallOutcome::TakenBack);
            let trouble = settle(self.job, line, outcome)?;
            if comes_back {
                self.hold(&user, line, trouble)?;
            } else if self.held.contains_key(&user) {
                self.next_of(&user, line)?;
            }
        }
        Ok(())
    }

    /// Holds a line that came back. All of its user's lines that are out come back before this is called for the first time.
    fn hold(&mut self, user: &Arc<str>, line: u64, trouble: Option<Trouble>) -> anyhow::Result<()> {
        let now = Instant::now();
        let new = || Held { lines: BTreeSet::new(), is_out: false, tries: 0, at: now + RETRY_PAUSE };
        let held = self.held.entry(user.clone()).or_insert_with(new);
        held.lines.insert(line);
        let was_out = std::mem::take(&mut held.is_out);
        if let Some(trouble) = trouble.filter(|_| was_out) {
            held.tries += u32::from(trouble.is_own);
            held.at = now + RETRY_PAUSE * 2_u32.pow(held.tries.min(MAX_TRIES));
            if held.tries >= MAX_TRIES {
                self.job.settle(line, End::GaveUp(Reasons::of(trouble.reason, trouble.status)))?;
                self.clients.confirm_parked(std::slice::from_ref(user));
                return self.next_of(user, line);
            }
        }
        self.clients.confirm_parked(std::slice::from_ref(user));
        Ok(())
    }

    /// A line of a held user is settled: the next one has its turn.
    fn next_of(&mut self, user: &Arc<str>, line: u64) -> anyhow::Result<()> {
        let Some(held) = self.held.get_mut(user) else { return Ok(()) };
        if !held.lines.remove(&line) {
            return Ok(());
        }
        (held.tries, held.is_out) = (0, true);
        match held.lines.first().copied() {
            Some(next) => self.deliver(next, true),
            None => {
                self.held.remove(user);
                Ok(())
            }
        }
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let mut due = Vec::new();
        for held in self.held.values_mut().filter(|held| !held.is_out && held.at <= now) {
            held.is_out = true;
            due.extend(held.lines.first());
        }
        due.into_iter().try_for_each(|line| self.deliver(line, true))?;
        let waiting = self.clients.gate_shut_until().map(|(_, code)| format!("waiting: {}", code.as_str()));
        let held =
            (!self.held.is_empty()).then(|| format!("users who fail alone and are tried again: {}", self.held.len()));
        let trouble = waiting.or(held);
        let counts = self.job.counts;
        self.job.progress.show(&counts, trouble.as_deref());
        Ok(())
    }
}
