//! One file of an import: its lines that are not settled, and what became of the others.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::counts::Counts;
use super::journal::Journal;
use super::lines::{self, Chunk, Line, MAX_LINE};
use super::progress::Progress;
use super::refused::{Reasons, RefusedFile};
use crate::customer::{PayloadError, SegmentIdentifyPayload};
use crate::segment::Call;
use crate::supervisor::Supervisor;

/// How far the lines that were taken may be ahead of the journal: what is sent again after `kill -9`.
pub(super) const MAX_AHEAD: u64 = 20_000;

/// Settled lines after which the journal is written before its second is over, so that sending does not wait for it.
const RECORD_AFTER: u64 = 5_000;

const RECORD_EVERY: Duration = Duration::from_secs(1);

/// Bytes of the lines that are not settled. The publisher holds half of it at most.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Memory of a line beside its call, in bytes, roughly.
const LINE_OVERHEAD: usize = 512;

/// What a job is asked to do.
#[derive(Clone, Default)]
pub struct JobSettings {
    /// The name of the job; otherwise the file's SHA-256.
    pub job: Option<String>,
    pub journal: Option<PathBuf>,
    pub refused: Option<PathBuf>,
    /// Where the customers go. A journal is of one target.
    pub target: String,
    /// Nothing is sent or written.
    pub is_dry_run: bool,
}

pub(super) enum End {
    Accepted,
    Stored,
    Refused(Reasons),
    GaveUp(Reasons),
}

/// A file that is imported.
pub struct Job {
    chunks: mpsc::Receiver<Chunk>,
    waiting: VecDeque<Line>,
    has_ended: bool,
    /// What message ids are made of, beside the line's number.
    id: String,
    /// The time of lines that have none.
    began_at: Timestamp,
    journal: Option<Journal>,
    refused: Option<RefusedFile>,
    recorded_at: Instant,
    /// The lines that were taken and are not settled.
    open: BTreeMap<u64, Call>,
    open_bytes: usize,
    /// The last line that was taken.
    last: u64,
    pub counts: Counts,
    pub(super) progress: Progress,
}

impl Job {
    /// Begins a file (`-`: standard input), or goes on where its journal stands. `None`: the journal says that it is finished.
    ///
    /// # Errors
    /// If the file cannot be read, the journal not written, or if the journal is of another content or target.
    pub fn open(
        path: &Path,
        settings: &JobSettings,
        progress: Progress,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Result<Self, Counts>> {
        let is_stdin = path == Path::new("-");
        let sha256 = if is_stdin { String::new() } else { lines::digest(path)? };
        let has_files = !settings.is_dry_run;
        let beside = |given: &Option<PathBuf>, end: &str| {
            let default = || PathBuf::from(format!("{}{end}", path.display()));
            given.clone().or_else(|| (!is_stdin).then(default))
        };
        let journal_path = beside(&settings.journal, ".import").filter(|_| has_files && !is_stdin);
        let refused_path = beside(&settings.refused, ".refused.ndjson").filter(|_| has_files);
        for place in [&journal_path, &refused_path].into_iter().flatten() {
            ensure!(place != path, "{} is the imported file; name another place", path.display());
        }
        ensure!(journal_path.is_none() || journal_path != refused_path, "--journal and --refused are the same file");
        let open = |place| Journal::open(place, &sha256, settings.job.as_deref(), &settings.target);
        let journal = journal_path.as_deref().map(open).transpose()?;
        let done = journal.as_ref().filter(|journal| !journal.is_new).map(|journal| journal.done);
        let refused = refused_path.as_deref().map(|place| RefusedFile::open(place, done)).transpose()?;
        let counts = Counts {
            done_before: done.unwrap_or(0),
            refused_before: refused.as_ref().map_or(0, |refused| refused.lines),
            ..Counts::default()
        };
        if journal.as_ref().is_some_and(|journal| journal.is_finished) {
            return Ok(Err(counts));
        }
        let job = match (&journal, &settings.job) {
            (Some(journal), _) => journal.header.job.clone(),
            (None, Some(job)) => job.clone(),
            // Standard input without a name: nobody can tell whether it is the same again.
            (None, None) => Uuid::new_v4().to_string(),
        };
        let began_at = match &journal {
            Some(journal) => journal.header.began_at()?,
            None => Timestamp::now(),
        };
        let after = counts.done_before;
        let cannot_read = || format!("cannot read {}", path.display());
        let chunks = if is_stdin {
            lines::read(io::stdin(), after, supervisor)
        } else {
            lines::read(File::open(path).with_context(cannot_read)?, after, supervisor)
        };
        Ok(Ok(Self {
            chunks: chunks.with_context(cannot_read)?,
            waiting: VecDeque::new(),
            has_ended: false,
            // Two files under one name have different ids, too.
            id: format!("{job}\0{sha256}"),
            began_at,
            journal,
            refused,
            recorded_at: Instant::now(),
            open: BTreeMap::new(),
            open_bytes: 0,
            last: after,
            counts,
            progress,
        }))
    }

    /// Reads and checks every line, and sends nothing. Calls `tell` for each that would be refused.
    ///
    /// # Errors
    /// If the file cannot be read, or `tell` fails.
    pub async fn try_all(&mut self, mut tell: impl FnMut(&str) -> io::Result<()>) -> anyhow::Result<()> {
        loop {
            while let Some(line) = self.waiting.pop_front() {
                self.progress.at(line.end);
                match self.check(&line) {
                    Ok(_call) => self.counts.accepted += 1,
                    Err(reasons) => {
                        self.counts.refused += 1;
                        let reasons = serde_json::to_string(&reasons)?;
                        tell(&format!("{{\"line\":{},{}", line.number, &reasons[1..]))?;
                    }
                }
            }
            self.progress.show(&self.counts, None);
            if !self.receive().await? {
                return Ok(());
            }
        }
    }

    /// Waits until the next lines are read. False at the end of the file.
    pub(super) async fn receive(&mut self) -> anyhow::Result<bool> {
        match self.chunks.recv().await {
            Some(chunk) => self.waiting.extend(chunk.context("cannot read on")?),
            None => self.has_ended = true,
        }
        Ok(!self.has_ended)
    }

    /// The same, if they are read already.
    pub(super) fn receive_now(&mut self) -> anyhow::Result<()> {
        if let Ok(chunk) = self.chunks.try_recv() {
            self.waiting.extend(chunk.context("cannot read on")?);
        }
        Ok(())
    }

    /// Whether the next line waits to be read.
    pub(super) fn is_reading(&self) -> bool {
        self.waiting.is_empty() && !self.has_ended
    }

    pub(super) fn is_finished(&self) -> bool {
        self.waiting.is_empty() && self.has_ended && self.open.is_empty()
    }

    /// Whether there is a line that may be taken.
    pub(super) fn has_next(&self) -> bool {
        let is_near = |number: u64| match &self.journal {
            Some(journal) => number <= journal.done + MAX_AHEAD,
            None => (self.open.len() as u64) < MAX_AHEAD,
        };
        self.open_bytes < MAX_BYTES && self.waiting.front().is_some_and(|line| is_near(line.number))
    }

    /// Takes the next line. `None` if it was refused.
    pub(super) fn take(&mut self) -> anyhow::Result<Option<(u64, Call)>> {
        let Some(line) = self.waiting.pop_front() else { return Ok(None) };
        self.last = line.number;
        self.progress.at(line.end);
        match self.check(&line) {
            Ok(call) => {
                self.open_bytes += memory_of(&call);
                self.open.insert(line.number, call.clone());
                Ok(Some((line.number, call)))
            }
            Err(reasons) => {
                self.counts.refused += 1;
                self.tell_refused(line.number, &reasons)?;
                Ok(None)
            }
        }
    }

    fn check(&self, line: &Line) -> Result<Call, Reasons> {
        if line.text.len() > MAX_LINE {
            return Err(Reasons::of(format!("the line has more than {MAX_LINE} bytes"), None));
        }
        let payload = SegmentIdentifyPayload::parse(line.text.trim_ascii()).map_err(|error| match error {
            PayloadError::Invalid { broken } => Reasons { problems: broken, ..Reasons::default() },
            // The place is within this line, whose number stands beside the reason.
            PayloadError::InvalidJson { message } => {
                Reasons::of(message.replace(" at line 1 column", " at column"), None)
            }
        })?;
        let made;
        let message_id = match &payload.message_id {
            Some(message_id) => message_id.as_ref(),
            None => {
                made = self.message_id(line.number);
                &made
            }
        };
        Call::new(&payload, message_id, self.began_at).map_err(|error| Reasons::of(error.message, None))
    }

    /// The id of a line that has none: of job and number, never of the content alone, because the same line may stand twice.
    fn message_id(&self, line: u64) -> String {
        let hash = Sha256::new().chain_update(&self.id).chain_update(format!("\0{line}")).finalize();
        format!("import-{}", HEXLOWER.encode(&hash))
    }

    pub(super) fn open_lines(&self) -> &BTreeMap<u64, Call> {
        &self.open
    }

    pub(super) fn settle(&mut self, line: u64, end: End) -> anyhow::Result<()> {
        let Some(call) = self.open.remove(&line) else { return Ok(()) };
        self.open_bytes -= memory_of(&call);
        match end {
            End::Accepted => self.counts.accepted += 1,
            End::Stored => self.counts.stored += 1,
            End::Refused(reasons) => {
                self.counts.refused += 1;
                self.tell_refused(line, &reasons)?;
            }
            End::GaveUp(reasons) => {
                self.counts.gave_up += 1;
                self.tell_refused(line, &reasons)?;
            }
        }
        Ok(())
    }

    fn tell_refused(&mut self, line: u64, reasons: &Reasons) -> anyhow::Result<()> {
        self.refused.as_mut().map_or(Ok(()), |refused| refused.add(line, reasons))
    }

    /// Writes the journal if it is time.
    pub(super) fn record(&mut self) -> anyhow::Result<()> {
        let is_time = self.recorded_at.elapsed() >= RECORD_EVERY;
        let done = self.done();
        let behind = self.journal.as_ref().map_or(0, |journal| done - journal.done);
        if is_time && behind > 0 || behind >= RECORD_AFTER {
            return self.record_now();
        }
        Ok(())
    }

    /// Writes the journal. What was refused is on disk before.
    pub(super) fn record_now(&mut self) -> anyhow::Result<()> {
        let (done, is_finished) = (self.done(), self.is_finished());
        if let Some(refused) = &mut self.refused {
            refused.sync()?;
        }
        let is_news = |journal: &&mut Journal| (journal.done, journal.is_finished) != (done, is_finished);
        if let Some(journal) = self.journal.as_mut().filter(is_news) {
            journal.record(done, is_finished)?;
        }
        self.recorded_at = Instant::now();
        Ok(())
    }

    /// All lines up to this one are settled.
    fn done(&self) -> u64 {
        self.open.first_key_value().map_or(self.last, |(line, _)| line - 1)
    }
}

fn memory_of(call: &Call) -> usize {
    call.json().len() + LINE_OVERHEAD
}
