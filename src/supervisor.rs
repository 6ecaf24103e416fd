//! The life of the process: what runs, when it is told to stop, and what happens when a task dies.
//!
//! Shutdown goes through four stages, each entered once and never left: *serving*, *stopping* (`/readyz` fails, requests
//! are still served), *draining* (no new connections; what is in flight is finished), *cut* (the grace is over; whoever
//! still waits is told so). This is the only file that starts tasks (`clippy.toml` holds that), so that a task that
//! panics, or one that must not end and does, is always noticed: the process then drains and exits non-zero.
//!
//! It does not know what the tasks do, and it does not read signals before [`Supervisor::run`] is called.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the callers who are cut off get to read their answer.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The exit code when a second signal ends the process at once: 128 + SIGTERM, as a shell would report it.
const EXIT_AT_ONCE: i32 = 143;

/// A handle to the life of the process; clones share it.
#[derive(Clone, Default)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopping: CancellationToken,
    draining: CancellationToken,
    /// The same for those who ask with every request: asking the token takes a lock.
    is_draining: AtomicBool,
    cut: CancellationToken,
    /// Work that ends by itself: connections and batches. Draining waits for it.
    work: TaskTracker,
    failed: AtomicBool,
}

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything in flight was finished.
    Drained,
    /// The grace was over before everything in flight was.
    CutOff,
    /// A task died.
    Failed,
}

impl From<Ending> for ExitCode {
    /// Success only if nothing was cut off and no task died.
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Drained => Self::SUCCESS,
            Ending::CutOff | Ending::Failed => Self::FAILURE,
        }
    }
}

impl Supervisor {
    /// A life that is serving.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts work that ends by itself, such as a connection or a batch. If it panics, the process drains and exits
    /// non-zero.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.shared.work.spawn(self.watched(name, work));
    }

    /// Starts a task that must not end before the process drains. If it panics or returns, the process drains and exits
    /// non-zero.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts tasks")]
    pub fn supervise(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.watched(name, self.endless(name, task)));
    }

    /// As [`supervise`](Self::supervise), for a task that has something to finish while the process drains: draining waits
    /// for it.
    pub fn supervise_to_the_end(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(name, self.endless(name, task));
    }

    /// Starts a thread, for work that blocks. It ends by itself; if it panics, the process drains and exits non-zero.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn thread(&self, name: &'static str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let alarm = Alarm { supervisor: self.clone(), name };
        let run = move || {
            work();
            drop(alarm);
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
    }

    /// Starts a runtime with one thread of its own, which lives a little longer than the grace.
    ///
    /// # Errors
    /// If the system has no thread left, or cannot tell when sockets are ready.
    pub fn runtime(&self, name: &'static str) -> std::io::Result<tokio::runtime::Handle> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (handle, supervisor) = (runtime.handle().clone(), self.clone());
        self.thread(name, move || {
            runtime.block_on(async {
                supervisor.cut().await;
                tokio::time::sleep(2 * LAST_WORDS).await;
            });
        })?;
        Ok(handle)
    }

    /// As [`spawn`](Self::spawn), on another runtime.
    pub fn spawn_on(
        &self,
        runtime: &tokio::runtime::Handle,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        self.shared.work.spawn_on(self.watched(name, work), runtime);
    }

    /// The work, with an alarm for the case that it panics.
    fn watched<F>(&self, name: &'static str, work: F) -> impl Future<Output = ()> + Send + 'static + use<F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let alarm = Alarm { supervisor: self.clone(), name };
        async move {
            work.await;
            drop(alarm);
        }
    }

    /// The task, which fails if it returns before the process drains.
    fn endless<F>(&self, name: &'static str, task: F) -> impl Future<Output = ()> + Send + 'static + use<F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let supervisor = self.clone();
        async move {
            task.await;
            if !supervisor.is_draining() {
                supervisor.fail(name, "returned");
            }
        }
    }

    /// Whether the process was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.is_cancelled()
    }

    /// Whether new requests are no longer taken.
    pub fn is_draining(&self) -> bool {
        self.shared.is_draining.load(Ordering::Acquire)
    }

    /// Resolves when new requests are no longer taken.
    pub async fn draining(&self) {
        self.shared.draining.cancelled().await;
    }

    /// The same for one of thousands who wait for it and are often woken by something else: it has a lock of its own.
    pub fn draining_token(&self) -> CancellationToken {
        self.shared.draining.child_token()
    }

    fn drain(&self) {
        self.shared.is_draining.store(true, Ordering::Release);
        self.shared.draining.cancel();
    }

    /// Resolves when the grace is over.
    pub async fn cut(&self) {
        self.shared.cut.cancelled().await;
    }

    /// Tells the process to stop, as a signal would.
    pub fn stop(&self) {
        self.shared.stopping.cancel();
    }

    /// Ends everything at once; whoever still waits is told so.
    pub fn end(&self) {
        self.shared.stopping.cancel();
        self.drain();
        self.shared.cut.cancel();
    }

    /// Lives until SIGTERM, SIGINT, [`stop`](Self::stop) or a task's death, then goes through the stages: requests are
    /// served for another `delay`, then what is in flight has `grace` to finish. A second signal ends the process at
    /// once.
    pub async fn run(&self, delay: Duration, grace: Duration) -> std::io::Result<Ending> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
            () = self.shared.stopping.cancelled() => tracing::info!("stopping"),
        }
        tokio::select! {
            ending = self.shut_down(delay, grace) => Ok(ending),
            _ = terminate.recv() => at_once(),
            _ = interrupt.recv() => at_once(),
        }
    }

    async fn shut_down(&self, delay: Duration, grace: Duration) -> Ending {
        self.shared.stopping.cancel();
        if !self.has_failed() {
            tokio::time::sleep(delay).await;
        }
        self.drain();
        self.shared.work.close();
        let drained = tokio::time::timeout(grace, self.shared.work.wait()).await.is_ok();
        self.shared.cut.cancel();
        if !drained {
            tracing::warn!("the grace is over; whoever still waits is cut off");
            // Whether they all read their answer changes nothing any more.
            let _ = tokio::time::timeout(LAST_WORDS, self.shared.work.wait()).await;
        }
        match (self.has_failed(), drained) {
            (true, _) => Ending::Failed,
            (false, true) => Ending::Drained,
            (false, false) => Ending::CutOff,
        }
    }

    /// Whether something died without which the process must not go on.
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Something died without which the process must not go on: it drains and exits non-zero.
    pub fn fail(&self, task: &'static str, how: &'static str) {
        tracing::error!(task, how, "a task died; the process drains and ends");
        self.shared.failed.store(true, Ordering::Relaxed);
        self.stop();
    }
}

fn at_once() -> ! {
    tracing::warn!("second signal: ending at once");
    std::process::exit(EXIT_AT_ONCE)
}

/// Raises the alarm if it is dropped by a panic.
struct Alarm {
    supervisor: Supervisor,
    name: &'static str,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.supervisor.fail(self.name, "panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ending, Supervisor};
    use std::time::Duration;

    const DELAY: Duration = Duration::from_secs(1);
    const GRACE: Duration = Duration::from_secs(25);

    #[tokio::test(start_paused = true)]
    async fn a_quiet_process_drains() {
        let supervisor = Supervisor::new();
        supervisor.stop();
        assert_eq!(supervisor.run(DELAY, GRACE).await.unwrap(), Ending::Drained);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_takes_the_process_down() {
        let supervisor = Supervisor::new();
        supervisor.spawn("batch", async { panic!("on purpose") });
        assert_eq!(supervisor.run(DELAY, GRACE).await.unwrap(), Ending::Failed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_supervised_task_that_returns_takes_the_process_down() {
        let supervisor = Supervisor::new();
        supervisor.supervise("dispatch", async {});
        assert_eq!(supervisor.run(DELAY, GRACE).await.unwrap(), Ending::Failed);
    }

    #[tokio::test]
    async fn a_thread_that_panics_takes_the_process_down() {
        let supervisor = Supervisor::new();
        supervisor.thread("store", || panic!("on purpose")).unwrap();
        assert_eq!(supervisor.run(Duration::ZERO, GRACE).await.unwrap(), Ending::Failed);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_a_task_that_has_something_to_finish() {
        let supervisor = Supervisor::new();
        let (its, done) = (supervisor.clone(), std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
        let finished = done.clone();
        supervisor.supervise_to_the_end("delivery", async move {
            its.draining().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            finished.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        supervisor.stop();
        assert_eq!(supervisor.run(DELAY, GRACE).await.unwrap(), Ending::Drained);
        assert!(done.load(std::sync::atomic::Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn work_in_flight_is_waited_for() {
        let supervisor = Supervisor::new();
        supervisor.spawn("connection", async { tokio::time::sleep(Duration::from_secs(20)).await });
        supervisor.stop();
        assert_eq!(supervisor.run(DELAY, GRACE).await.unwrap(), Ending::Drained);
    }

    #[tokio::test(start_paused = true)]
    async fn work_beyond_the_grace_is_cut_off() {
        let supervisor = Supervisor::new();
        supervisor.spawn("connection", std::future::pending());
        supervisor.stop();
        assert_eq!(supervisor.run(DELAY, GRACE).await.unwrap(), Ending::CutOff);
    }
}
