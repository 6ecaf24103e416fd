//! The workers of a relay, and the events that wait for one.
//!
//! Each worker has a task, which starts it, gives it one event after the other, and starts another one when it died. What a filter
//! does to its worker is the trouble of one event: the worker has no other at the time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, SetOnce, oneshot};
use tokio::time::sleep;

use super::frame::MAX_REQUEST;
use super::process::{Death, Process};
use super::queue::Queue;
use super::{Event, Filter, MapError};
use crate::metrics::Metrics;
use crate::supervisor::Supervisor;

/// Two at least, so that one that is busy with a filter that loops leaves another one.
const MIN_WORKERS: usize = 2;

/// More would take more memory than the events of one relay are worth: at 1 ms for an event, eight map 8,000 a second.
const MAX_WORKERS: usize = 8;

/// The most file descriptors of a pool: a worker has three pipes and a handle of its process, and their runtime has three.
pub const MAPPING_FDS: usize = 4 * MAX_WORKERS + 3;

/// The pause after the first worker that died before it did anything. It doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(100);

/// Soon enough after somebody mended what kept workers from starting.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Runs filters on events, in worker processes.
pub struct Mapper {
    shared: Arc<Shared>,
}

struct Shared {
    executable: PathBuf,
    queue: Mutex<Queue<Job>>,
    /// An event came, or a source may have another worker.
    changed: Notify,
    /// There is a filter.
    begun: SetOnce<()>,
    metrics: Arc<Metrics>,
}

/// An event that waits for a worker, or is in one.
struct Job {
    filter: Arc<Filter>,
    event: Event,
    answer: oneshot::Sender<Result<Vec<Bytes>, MapError>>,
}

impl Mapper {
    /// Makes the pool. No process is started before a filter is known.
    ///
    /// # Errors
    /// If the system cannot start a thread, or does not tell where this program is.
    pub fn start(supervisor: &Supervisor, metrics: Arc<Metrics>) -> io::Result<Arc<Self>> {
        // What runs, even if another version of it is installed by now.
        let executable = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with(&executable, cores.clamp(MIN_WORKERS, MAX_WORKERS), supervisor, metrics)
    }

    /// As [`start`](Self::start), with `workers` processes of this executable, which is an absolute path.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn with(
        executable: &Path,
        workers: usize,
        supervisor: &Supervisor,
        metrics: Arc<Metrics>,
    ) -> io::Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            executable: executable.to_owned(),
            queue: Mutex::new(Queue::new((workers / 2).max(1))),
            changed: Notify::new(),
            begun: SetOnce::new(),
            metrics,
        });
        // A worker ends with the thread that started it, and this one lives as long as the process.
        let runtime: Handle = supervisor.runtime("mapping")?;
        let _entered = runtime.enter();
        for _ in 0..workers {
            supervisor.supervise("mapping", shared.clone().keep_worker());
        }
        Ok(Arc::new(Self { shared }))
    }

    /// Whether these filters can be compiled: one line a problem. If there are filters and no problem, the workers start.
    pub async fn check(&self, filters: &[Arc<Filter>]) -> Vec<String> {
        let mut problems = Vec::new();
        let mut worker = None;
        for filter in filters {
            let mut process = match worker.take() {
                Some(process) => process,
                None => match Process::start(&self.shared.executable).await {
                    Ok(process) => process,
                    Err(error) => return vec![format!("the process that runs filters cannot start: {error}")],
                },
            };
            let place = &filter.place;
            match process.slot_of(filter).await {
                Ok(Ok(_)) => worker = Some(process),
                Ok(Err(found)) => {
                    problems.extend(found.lines().map(|problem| format!("{place}: {problem}")));
                    worker = Some(process);
                }
                Err(Death::Time) => problems.push(format!("{place}: the filter takes longer than 1 s to compile")),
                Err(Death::Memory) => problems.push(format!("{place}: the filter needs more than 64 MiB to compile")),
                Err(Death::Crash) => problems.push(format!("{place}: the filter crashes the process that compiles it")),
            }
        }
        if problems.is_empty() && !filters.is_empty() {
            // It may be set.
            let _ = self.shared.begun.set(());
        }
        problems
    }

    /// How many events of this source wait for a worker.
    pub fn waiting(&self, source: &str) -> usize {
        self.shared.queue.lock().waiting(source)
    }

    /// What a filter makes of an event: JSON texts, at most 1,000. They may be no JSON (`NaN`), and no customers.
    ///
    /// A caller who leaves before the event has begun takes it back.
    ///
    /// # Errors
    /// See [`MapError`].
    pub async fn map(&self, source: &str, filter: &Arc<Filter>, event: Event) -> Result<Vec<Bytes>, MapError> {
        let headers: usize = event.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        if event.body.len() + headers + 64 + filter.text.len() > MAX_REQUEST {
            return Err(MapError::Failed("the event is larger than 2 MiB".to_owned()));
        }
        let _ = self.shared.begun.set(());
        let (answer, outcome) = oneshot::channel();
        if !self.shared.queue.lock().push(source, Job { filter: filter.clone(), event, answer }) {
            return Err(MapError::Overloaded);
        }
        self.shared.changed.notify_one();
        // Without an answer the process ends.
        outcome.await.unwrap_or(Err(MapError::Overloaded))
    }
}

impl Shared {
    /// Has one worker after the other.
    async fn keep_worker(self: Arc<Self>) {
        self.begun.wait().await;
        let mut pause = MIN_PAUSE;
        let mut again = None;
        loop {
            let has_worked = match Process::start(&self.executable).await {
                Ok(worker) => self.work(worker, &mut again).await,
                Err(error) => {
                    tracing::error!(%error, "a mapping worker cannot start");
                    false
                }
            };
            if has_worked {
                pause = MIN_PAUSE;
            } else {
                sleep(pause).await;
                pause = MAX_PAUSE.min(2 * pause);
            }
        }
    }

    /// Gives events to a worker until it is gone, first the one whose worker died before. Returns whether it ever had one.
    async fn work(&self, mut worker: Process, again: &mut Option<(Arc<str>, Job)>) -> bool {
        let mut has_worked = false;
        loop {
            let is_second = again.is_some();
            let (source, job) = match again.take() {
                Some(job) => job,
                None => tokio::select! {
                    next = self.next() => next,
                    () = worker.ended() => {
                        self.count(None, Death::Crash);
                        return has_worked;
                    }
                },
            };
            has_worked = true;
            let result = worker.map(&job.filter, &job.event).await;
            let death = result.as_ref().err().copied();
            if death.is_some() {
                self.queue.lock().mark_costly(&source, Instant::now());
            }
            let outcome = match result {
                Ok(outcome) => outcome,
                Err(Death::Time) => Err(MapError::TimedOut),
                Err(Death::Memory) => Err(MapError::OutOfMemory),
                Err(Death::Crash) if is_second => Err(MapError::Crashed),
                Err(Death::Crash) => {
                    self.count(Some(&source), Death::Crash);
                    *again = Some((source, job));
                    return true;
                }
            };
            self.queue.lock().finish(&source);
            // The caller may be gone.
            let _ = job.answer.send(outcome);
            if let Some(death) = death {
                self.count(Some(&source), death);
                // This task cannot take the source's next event now, and another one may.
                self.changed.notify_one();
                return true;
            }
        }
    }

    /// Takes the next event.
    async fn next(&self) -> (Arc<str>, Job) {
        loop {
            let next = self.queue.lock().take(Instant::now(), |job| !job.answer.is_closed());
            match next {
                Some(next) => return next,
                None => self.changed.notified().await,
            }
        }
    }

    /// Counts a worker that is gone.
    fn count(&self, source: Option<&str>, death: Death) {
        let (reason, counter) = match death {
            Death::Time => ("time", &self.metrics.map_workers_out_of_time),
            Death::Memory => ("memory", &self.metrics.map_workers_out_of_memory),
            Death::Crash => ("crash", &self.metrics.map_workers_crashed),
        };
        counter.inc();
        tracing::warn!(source, reason, "a mapping worker is replaced");
    }
}
