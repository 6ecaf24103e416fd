//! Tests of the supervisor: what ends the process, and what draining waits for.

use super::{ShutdownOutcome, Signals, Supervisor};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const DELAY: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(25);

async fn run(supervisor: &Supervisor) -> ShutdownOutcome {
    supervisor.run(Signals::install().unwrap(), DELAY, GRACE).await
}

#[tokio::test(start_paused = true)]
async fn a_process_without_work_drains() {
    let supervisor = Supervisor::new();
    supervisor.stop();
    assert_eq!(run(&supervisor).await, ShutdownOutcome::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_fails_the_process() {
    let supervisor = Supervisor::new();
    supervisor.spawn("batch", async { panic!("on purpose") });
    assert_eq!(run(&supervisor).await, ShutdownOutcome::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_supervised_task_that_returns_fails_the_process() {
    let supervisor = Supervisor::new();
    supervisor.supervise("dispatch", async {});
    assert_eq!(run(&supervisor).await, ShutdownOutcome::Failed);
}

#[tokio::test]
async fn a_thread_that_panics_fails_the_process() {
    let supervisor = Supervisor::new();
    supervisor.thread("store", || panic!("on purpose")).unwrap();
    assert_eq!(supervisor.run(Signals::install().unwrap(), Duration::ZERO, GRACE).await, ShutdownOutcome::Failed);
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_a_task_that_is_supervised_until_drained() {
    let supervisor = Supervisor::new();
    let (its, done) = (supervisor.clone(), Arc::new(AtomicBool::new(false)));
    let finished = done.clone();
    supervisor.supervise_until_drained("delivery", async move {
        its.draining().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        finished.store(true, Ordering::Relaxed);
    });
    supervisor.stop();
    assert_eq!(run(&supervisor).await, ShutdownOutcome::Drained);
    assert!(done.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_work_in_flight() {
    let supervisor = Supervisor::new();
    supervisor.spawn("connection", async { tokio::time::sleep(Duration::from_secs(20)).await });
    supervisor.stop();
    assert_eq!(run(&supervisor).await, ShutdownOutcome::Drained);
}

#[tokio::test(start_paused = true)]
async fn work_that_outlasts_the_grace_period_is_cancelled() {
    let supervisor = Supervisor::new();
    supervisor.spawn("connection", std::future::pending());
    supervisor.stop();
    assert_eq!(run(&supervisor).await, ShutdownOutcome::GraceExpired);
}

#[tokio::test(start_paused = true)]
async fn what_ends_as_soon_as_it_is_told_is_not_cut_off_even_without_a_grace_period() {
    let supervisor = Supervisor::new();
    let its = supervisor.clone();
    supervisor.supervise_until_drained("server", async move { its.draining().await });
    supervisor.stop();
    let outcome = supervisor.run(Signals::install().unwrap(), Duration::ZERO, Duration::ZERO).await;
    assert_eq!(outcome, ShutdownOutcome::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_answered_after_the_grace_period_was_cut_off() {
    let supervisor = Supervisor::new();
    let its = supervisor.clone();
    supervisor.supervise_until_drained("server", async move {
        its.cancelled().await;
        its.note_answer();
    });
    supervisor.stop();
    assert_eq!(run(&supervisor).await, ShutdownOutcome::GraceExpired);
}
