//! A worker as the relay sees it: a process with three pipes.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::frame::{DONE, FAILED, HEAD, MAX_ANSWER, OUTPUTS, PROBLEMS, TOO_MANY, compile, outputs, read_head, run};
use super::{Event, Filter, MapError};

/// How long a worker may take for an event, and for compiling a filter: a sound one takes a few milliseconds at most.
const TIME: Duration = Duration::from_secs(1);

/// How long a process may take to start. It takes some milliseconds; only a machine with far too much to do comes near this.
const START: Duration = Duration::from_secs(10);

/// The most filters that a worker has compiled at once: each takes 0.1 to 0.3 of the worker's 64 MiB. The one that was not used for
/// longest makes room for another. Compiling it again takes 3 ms.
const MAX_FILTERS: usize = 32;

/// Bytes of a worker's last words that are looked at: an abort and a panic say less.
const MAX_LAST_WORDS: u64 = 16 * 1024;

/// A running worker. It is killed when this is dropped.
pub(super) struct Process {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    errors: ChildStderr,
    buffer: BytesMut,
    /// The filter of each slot, and when it was used.
    slots: Vec<(Arc<Filter>, u64)>,
    uses: u64,
}

/// Why a worker is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// It was killed because it took too long.
    Time,
    Memory,
    Crash,
}

impl Process {
    /// Starts a worker. It is ready when its limits are in force.
    ///
    /// # Errors
    /// If the system cannot start it, or it does not say that it is ready.
    pub(super) async fn start(executable: &Path) -> io::Result<Self> {
        let mut command = Command::new(executable);
        // No setting, and so no secret. The variable is the allocator's: without it, it takes memory that no limit counts.
        command.arg("map-worker").env_clear().env("MIMALLOC_DISALLOW_ARENA_ALLOC", "1").current_dir("/");
        // A terminal's Ctrl-C is for the relay, which finishes what is in flight.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else { return Err(ErrorKind::BrokenPipe.into()) };
        let (buffer, slots) = (BytesMut::new(), Vec::new());
        let mut process = Self { child, input, output, errors, buffer, slots, uses: 0 };
        match timeout(START, process.read_frame()).await? {
            Ok((DONE, _)) => Ok(process),
            Ok(_) => Err(ErrorKind::InvalidData.into()),
            Err(error) => {
                let words = process.last_words().await;
                Err(io::Error::new(error.kind(), format!("it ended at its start: {}", words.trim())))
            }
        }
    }

    /// Resolves when the process has ended.
    pub(super) async fn ended(&mut self) {
        let _ = self.child.wait().await;
    }

    /// Maps an event.
    ///
    /// # Errors
    /// If that ended the process.
    pub(super) async fn map(
        &mut self,
        filter: &Arc<Filter>,
        event: &Event,
    ) -> Result<Result<Vec<Bytes>, MapError>, Death> {
        let slot = match self.slot_of(filter).await? {
            Ok(slot) => slot,
            Err(problems) => return Ok(Err(MapError::Failed(problems.lines().next().unwrap_or_default().to_owned()))),
        };
        let head = run(slot, event);
        let mut request = Buf::chain(&*head, event.body.clone());
        let (kind, content) = self.ask(&mut request).await?;
        match kind {
            OUTPUTS => outputs(&content).map(Ok).ok_or(Death::Crash),
            FAILED => Ok(Err(MapError::Failed(String::from_utf8_lossy(&content).into_owned()))),
            TOO_MANY => Ok(Err(MapError::TooMany)),
            _ => Err(Death::Crash),
        }
    }

    /// Compiles a filter, if it is not compiled, and returns its slot, or the problems of its text, one a line.
    ///
    /// # Errors
    /// If that ended the process.
    pub(super) async fn slot_of(&mut self, filter: &Arc<Filter>) -> Result<Result<u8, String>, Death> {
        self.uses += 1;
        let found = self.slots.iter().position(|(own, _)| own.text == filter.text);
        let slot = match found {
            Some(slot) => slot,
            None if self.slots.len() < MAX_FILTERS => self.slots.len(),
            None => self.slots.iter().enumerate().min_by_key(|(_, (_, used))| *used).map_or(0, |(slot, _)| slot),
        };
        let number = u8::try_from(slot).map_err(|_| Death::Crash)?;
        if found.is_none() {
            let (kind, content) = self.ask(&mut &*compile(number, &filter.text)).await?;
            match kind {
                DONE => {}
                PROBLEMS => return Ok(Err(String::from_utf8_lossy(&content).into_owned())),
                _ => return Err(Death::Crash),
            }
        }
        match self.slots.get_mut(slot) {
            Some(place) => *place = (filter.clone(), self.uses),
            None => self.slots.push((filter.clone(), self.uses)),
        }
        Ok(Ok(number))
    }

    /// Sends a request and reads its answer.
    async fn ask(&mut self, request: &mut impl Buf) -> Result<(u8, Bytes), Death> {
        let answer = async {
            self.input.write_all_buf(request).await?;
            self.read_frame().await
        };
        match timeout(TIME, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => {
                let words = self.last_words().await;
                // An abort by Rust's allocation, or the panic before it if no machine has so much.
                let is_memory = words.contains("memory allocation of") || words.contains("capacity overflow");
                Err(if is_memory { Death::Memory } else { Death::Crash })
            }
            Err(_) => {
                self.kill().await;
                Err(Death::Time)
            }
        }
    }

    async fn read_frame(&mut self) -> io::Result<(u8, Bytes)> {
        let (kind, length) = loop {
            if let Some(head) = self.buffer.first_chunk::<HEAD>() {
                break read_head(*head, MAX_ANSWER).ok_or(ErrorKind::InvalidData)?;
            }
            self.read().await?;
        };
        self.buffer.advance(HEAD);
        while self.buffer.len() < length {
            self.buffer.reserve(length - self.buffer.len());
            self.read().await?;
        }
        Ok((kind, self.buffer.split_to(length).freeze()))
    }

    async fn read(&mut self) -> io::Result<()> {
        // The usual answer is one read.
        self.buffer.reserve(2 * 1024);
        match self.output.read_buf(&mut self.buffer).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.start_kill();
        self.ended().await;
    }

    /// Ends the process and returns what it wrote to its standard error.
    async fn last_words(&mut self) -> String {
        self.kill().await;
        let mut words = Vec::new();
        // Nobody else holds the other end.
        let _ = (&mut self.errors).take(MAX_LAST_WORDS).read_to_end(&mut words).await;
        String::from_utf8_lossy(&words).into_owned()
    }
}
