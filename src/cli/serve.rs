//! `segment-relay serve`: the service, with the settings of the environment.

use std::process::ExitCode;

use super::address::listen;
use super::runtime::runtime_with_signals;
use crate::app::App;
use crate::supervisor::Supervisor;
use crate::{config, telemetry};

pub(super) fn run() -> anyhow::Result<ExitCode> {
    let (runtime, signals) = runtime_with_signals()?;
    let settings = config::from_environment()?;
    let _flush_on_drop = telemetry::start(&settings.logs)?;
    runtime.block_on(async {
        let supervisor = Supervisor::new();
        let listener = listen(settings.listen).await?;
        let app = App::build(&settings, &supervisor)?;
        Ok(app.run(listener, signals, &settings).await?.into())
    })
}
