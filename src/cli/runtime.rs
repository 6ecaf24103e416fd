//! The tokio runtime of the commands, and the signals of those that serve.

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

use crate::supervisor::Signals;

/// A runtime with one thread for each core.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build().context("cannot start a runtime")
}

/// A runtime, and the signal handlers. A command that serves calls this before all else: without the handlers, SIGTERM
/// kills the process instead of draining it.
pub(super) fn runtime_with_signals() -> anyhow::Result<(Runtime, Signals)> {
    let runtime = runtime()?;
    let entered = runtime.enter();
    let signals = Signals::install().context("cannot install the signal handlers")?;
    drop(entered);
    Ok((runtime, signals))
}
