//! Starts the tasks of the process, notices when one dies, and shuts the process down.
//!
//! The process goes through five stages, each entered once, in this order: *serving*, *stopping* (`/readyz` fails,
//! requests are still served), *closing* (no new connections; requests on open ones are still served), *draining* (what is
//! in flight is finished), *cancelled* (the grace period is over; callers who still wait get an error).
//!
//! The API catches a panic of a request handler and answers that request with 500. Any other panic, and any return of a
//! task that must not return, ends the process: it drains and exits non-zero.
//!
//! Tasks start through this file, so no death of a task goes unnoticed. `clippy.toml` forbids `tokio::spawn` elsewhere.
//! Two places need no supervision: the sandbox's connections, and the outbox's reads, whose callers get an error.
//!
//! [`Signals`] are installed before the process binds its port, so an early SIGTERM drains it instead of killing it.

use std::future::Future;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long a connection is idle at least before a stop closes it. A peer that keeps a connection sends its next request
/// at any time, and loses the one that crosses the end of the connection. One that pauses for less than this hears of the
/// end with an answer, and loses none.
pub const MIN_IDLE_AT_STOP: Duration = Duration::from_secs(5);

/// How long cancelled work has to write its last answers: a local write takes milliseconds.
const CANCEL_GRACE: Duration = Duration::from_millis(500);

/// The exit code after a second signal, as a shell reports it: 128 + SIGINT, or 128 + SIGTERM for any other.
fn exit_code_of(signal: &str) -> i32 {
    if signal == "SIGINT" { 130 } else { 143 }
}

/// The signals that stop the process: SIGTERM, SIGINT, and SIGQUIT, which some container runtimes send instead. SIGHUP, with
/// which a terminal ends, stops it too, unless the process has [another use](Self::take_hangup) for it.
///
/// A signal that arrives between [`install`](Self::install) and [`recv`](Self::recv) is not lost.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// Installs the handlers. Must be called within a runtime, and before anything that takes time: the kernel kills a
    /// process that has no handler, but ignores the signal if the process is number 1 of a container.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: Some(signal(SignalKind::hangup())?),
        })
    }

    /// From now on SIGHUP does not stop the process. The first call returns it.
    pub fn take_hangup(&mut self) -> Option<Signal> {
        self.hangup.take()
    }

    /// Waits for the next signal and returns its name.
    pub async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
            Some(_) = async { self.hangup.as_mut()?.recv().await } => "SIGHUP",
        }
    }
}

/// A handle to the tasks of the process and to its shutdown; clones share it.
#[derive(Clone, Default)]
pub struct Supervisor {
    shared: Arc<SupervisorState>,
}

#[derive(Default)]
struct SupervisorState {
    stopping: CancellationToken,
    /// The same as a flag, because every request reads it and the token takes a lock.
    is_stopping: AtomicBool,
    closing: CancellationToken,
    draining: CancellationToken,
    /// As `is_stopping`.
    is_draining: AtomicBool,
    cancelled: CancellationToken,
    /// Work that ends by itself: connections and batches. Draining waits for it.
    work: TaskTracker,
    /// The connections among it.
    connections: TaskTracker,
    /// The connections that are not only waiting for the end of their peer's direction.
    serving: TaskTracker,
    /// What of the work was asked for, such as batches, and is no connection.
    in_flight: TaskTracker,
    /// Something in flight outlasted the grace period.
    has_cut_off: AtomicBool,
    failed: AtomicBool,
}

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownOutcome {
    /// Everything in flight was finished.
    Drained,
    /// The grace period was over before everything in flight was finished.
    GraceExpired,
    /// A task died.
    Failed,
}

impl From<ShutdownOutcome> for ExitCode {
    /// Success only if everything was finished and no task died.
    fn from(outcome: ShutdownOutcome) -> Self {
        match outcome {
            ShutdownOutcome::Drained => Self::SUCCESS,
            ShutdownOutcome::GraceExpired | ShutdownOutcome::Failed => Self::FAILURE,
        }
    }
}

impl Supervisor {
    /// A supervisor in the stage *serving*.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts work that ends by itself, such as a connection or a batch. If it panics, the process drains and exits
    /// non-zero.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let work = self.shared.in_flight.track_future(self.clone().fail_on_panic(name, work));
        self.shared.work.spawn(work);
    }

    /// Starts a task that must not end before the process drains. If it panics or returns, the process drains and exits
    /// non-zero.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts tasks")]
    pub fn supervise(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.clone().fail_on_panic(name, self.clone().fail_on_return(name, task)));
    }

    /// As [`supervise`](Self::supervise), for a task that finishes its work while the process drains. Draining waits
    /// for it.
    pub fn supervise_until_drained(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.work.spawn(self.clone().fail_on_panic(name, self.clone().fail_on_return(name, task)));
    }

    /// Starts a thread for work that blocks and ends by itself. If it panics, the process drains and exits non-zero.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn thread(&self, name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let guard = PanicGuard { supervisor: self.clone(), name };
        let run = move || {
            let _guard = guard;
            work();
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
    }

    /// Starts a runtime with one thread of its own. It runs until the process is cancelled and its last answers are
    /// written.
    ///
    /// # Errors
    /// If the system cannot start a thread or an event queue.
    pub fn runtime(&self, name: &'static str) -> io::Result<Handle> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (handle, supervisor) = (runtime.handle().clone(), self.clone());
        self.thread(name, move || {
            runtime.block_on(async {
                supervisor.cancelled().await;
                sleep(2 * CANCEL_GRACE).await;
            });
        })?;
        Ok(handle)
    }

    /// As [`spawn`](Self::spawn), for a connection, on another runtime.
    pub fn spawn_connection(&self, runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) {
        let work = self.shared.connections.track_future(self.clone().fail_on_panic("connection", work));
        self.shared.work.spawn_on(work, runtime);
    }

    /// A connection holds this for as long as it is served.
    pub fn serving_token(&self) -> TaskTrackerToken {
        self.shared.serving.token()
    }

    /// Notes that a request was answered while the process stops. After the grace period it counts as cut off.
    pub fn note_answer(&self) {
        if self.shared.cancelled.is_cancelled() {
            self.note_cut_off();
        }
    }

    fn note_cut_off(&self) {
        self.shared.has_cut_off.store(true, Ordering::Relaxed);
    }

    /// Runs `work`, and calls [`fail`](Self::fail) if it panics.
    async fn fail_on_panic(self, name: &'static str, work: impl Future<Output = ()>) {
        let _guard = PanicGuard { supervisor: self, name };
        work.await;
    }

    /// Runs `task`, and calls [`fail`](Self::fail) if it returns before the process drains.
    async fn fail_on_return(self, name: &'static str, task: impl Future<Output = ()>) {
        task.await;
        if !self.is_draining() {
            self.fail(name, "returned");
        }
    }

    /// Whether the process has left the stage *serving*.
    pub fn is_stopping(&self) -> bool {
        self.shared.is_stopping.load(Ordering::Acquire)
    }

    /// A child token for *stopping*, so that thousands of tasks do not contend for one lock.
    pub fn stopping_token(&self) -> CancellationToken {
        self.shared.stopping.child_token()
    }

    /// Resolves when the process takes no new connections.
    pub async fn closing(&self) {
        self.shared.closing.cancelled().await;
    }

    /// As [`stopping_token`](Self::stopping_token), for *closing*.
    pub fn closing_token(&self) -> CancellationToken {
        self.shared.closing.child_token()
    }

    /// Whether the process takes no new requests.
    pub fn is_draining(&self) -> bool {
        self.shared.is_draining.load(Ordering::Acquire)
    }

    /// Resolves when the process takes no new requests.
    pub async fn draining(&self) {
        self.shared.draining.cancelled().await;
    }

    /// As [`stopping_token`](Self::stopping_token), for *draining*.
    pub fn draining_token(&self) -> CancellationToken {
        self.shared.draining.child_token()
    }

    fn drain(&self) {
        self.shared.is_draining.store(true, Ordering::Release);
        self.shared.draining.cancel();
    }

    /// Resolves when the grace period is over.
    pub async fn cancelled(&self) {
        self.shared.cancelled.cancelled().await;
    }

    /// As [`stopping_token`](Self::stopping_token), for *cancelled*.
    pub fn cancelled_token(&self) -> CancellationToken {
        self.shared.cancelled.child_token()
    }

    /// Tells the process to stop, as a signal would.
    pub fn stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        self.shared.stopping.cancel();
    }

    /// Cancels everything at once, without a grace period. Callers who still wait get an error.
    pub fn cancel(&self) {
        self.stop();
        self.shared.closing.cancel();
        self.drain();
        self.shared.cancelled.cancel();
    }

    /// Waits for a signal, [`stop`](Self::stop) or the death of a task, then shuts down: the process serves for another
    /// `delay`, then has `grace` to finish what is in flight. A second signal ends the process at once.
    ///
    /// With a `delay` of zero no connection is waited for that nothing is asked of.
    pub async fn run(&self, mut signals: Signals, delay: Duration, grace: Duration) -> ShutdownOutcome {
        tokio::select! {
            signal = signals.recv() => tracing::info!(signal, "stopping"),
            () = self.shared.stopping.cancelled() => tracing::info!("stopping"),
        }
        tokio::select! {
            outcome = self.shut_down(delay, grace) => outcome,
            signal = signals.recv() => {
                tracing::warn!(signal, "a second signal ends the process at once");
                std::process::exit(exit_code_of(signal))
            }
        }
    }

    async fn shut_down(&self, delay: Duration, grace: Duration) -> ShutdownOutcome {
        self.stop();
        let waits = !self.has_failed() && !delay.is_zero();
        if waits {
            sleep(delay).await;
        }
        let end = Instant::now() + grace;
        self.shared.closing.cancel();
        if waits {
            // A connection that was used in the last moment closes after its next answer, or when it was idle for long enough.
            self.shared.connections.close();
            let last_requests = MIN_IDLE_AT_STOP.saturating_sub(delay).min(grace / 2);
            // The others are told when the process drains.
            let _ = timeout(last_requests, self.shared.connections.wait()).await;
        }
        self.drain();
        self.shared.work.close();
        let drained = timeout_at(end, self.shared.work.wait()).await.is_ok();
        let outlasted = !drained && !self.shared.in_flight.is_empty();
        self.shared.cancelled.cancel();
        if !drained {
            // Without a grace period what is idle had no time to end before. A caller who does not read the answer in time
            // changes nothing.
            let ended = timeout(CANCEL_GRACE, self.shared.work.wait()).await.is_ok();
            if outlasted || !ended && !self.shared.serving.is_empty() {
                self.note_cut_off();
            }
        }
        let has_cut_off = self.shared.has_cut_off.load(Ordering::Relaxed);
        if has_cut_off {
            tracing::warn!("the grace period was over before all requests in flight had ended; they were cancelled");
        }
        match (self.has_failed(), has_cut_off) {
            (true, _) => ShutdownOutcome::Failed,
            (false, false) => ShutdownOutcome::Drained,
            (false, true) => ShutdownOutcome::GraceExpired,
        }
    }

    /// Whether [`fail`](Self::fail) was called, here or by the death of a task.
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Drains the process and makes it exit non-zero, because it cannot work without `task`.
    pub fn fail(&self, task: &'static str, how: &'static str) {
        tracing::error!(task, how, "the process cannot go on without this task; it drains and exits");
        self.shared.failed.store(true, Ordering::Relaxed);
        self.stop();
    }
}

/// Calls [`Supervisor::fail`] if a panic drops it.
struct PanicGuard {
    supervisor: Supervisor,
    name: &'static str,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.supervisor.fail(self.name, "panicked");
        }
    }
}

#[cfg(test)]
mod tests;
