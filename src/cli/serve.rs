//! `segment-relay serve`: the service, with the settings of the environment.

use std::process::ExitCode;

use super::address::{listen, listen_if_set};
use super::runtime::runtime_with_signals;
use crate::app::App;
use crate::sources::settings::SourceTable;
use crate::supervisor::Supervisor;
use crate::{config, telemetry};

pub(super) fn run() -> anyhow::Result<ExitCode> {
    let (runtime, mut signals) = runtime_with_signals()?;
    let hangups = signals.take_hangup();
    let settings = config::from_environment()?;
    let sources = SourceTable::of(&settings)?;
    let logs = telemetry::start(&settings.logs)?;
    runtime.block_on(async {
        let supervisor = Supervisor::new();
        let listener = listen(settings.listen)?;
        let operators = listen_if_set(settings.admin_listen)?;
        let app = App::build(&settings, &sources, &supervisor, logs.lines()).await?;
        Ok(app.run(listener, operators, hangups, signals, &settings).await?.into())
    })
}
