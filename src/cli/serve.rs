//! `segment-relay serve`: the service, with the settings of the environment.

use std::process::ExitCode;
use std::sync::Arc;

use super::address::{listen, listen_if_set};
use super::runtime::runtime_with_signals;
use crate::app::{App, ReadAgain};
use crate::config::{self, OutboxSettings, Settings};
use crate::sources::settings::SourceTable;
use crate::supervisor::Supervisor;
use crate::telemetry;

pub(super) fn run() -> anyhow::Result<ExitCode> {
    let (runtime, mut signals) = runtime_with_signals()?;
    let hangups = signals.take_hangup();
    let settings = config::from_environment()?;
    let table = SourceTable::of(&settings)?;
    let logs = telemetry::start(&settings.logs, settings.traces.as_ref())?;
    runtime.block_on(async {
        let supervisor = Supervisor::new();
        let listener = listen(settings.listen)?;
        let operators = listen_if_set(settings.admin_listen)?;
        let app = App::build(&settings, &table, &supervisor, logs.lines()).await?;
        let hangups = hangups.map(|hangups| (hangups, read_again(settings.outbox.clone())));
        Ok(app.run(listener, operators, hangups, signals, &settings).await?.into())
    })
}

/// What SIGHUP reads again: all but the outbox, which stays as it was at the start.
fn read_again(outbox: Option<OutboxSettings>) -> ReadAgain {
    Arc::new(move || {
        let (names, settings) = config::secrets_from_files(config::variables())?;
        let settings = Settings { outbox: outbox.clone(), ..settings };
        let table = SourceTable::of(&settings)?;
        Ok((names, settings, table))
    })
}
