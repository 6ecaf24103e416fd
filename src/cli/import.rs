//! `segment-relay import FILE...`: back-fill of customers from files, straight to Segment or into a running relay.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use reqwest::redirect::Policy;

use super::address::{given_url, http_client};
use super::output::{EXIT_USAGE, print};
use super::runtime::runtime_with_signals;
use crate::config::{self, Settings, WriteKeys};
use crate::import::{Counts, Job, JobSettings, Progress, RelayTarget, Sender, send_straight};
use crate::metrics::Metrics;
use crate::publisher::LiveClients;
use crate::supervisor::{ShutdownOutcome, Signals, Supervisor};

/// As a shell reports the end by Ctrl-C.
const EXIT_INTERRUPTED: u8 = 130;

/// How long a stop waits for the requests in flight: longer than one attempt.
const GRACE: Duration = Duration::from_secs(30);

/// The relay answers a batch within its own RELAY_REQUEST_TIMEOUT.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Args)]
pub(super) struct Arguments {
    /// Files of customers, one JSON object a line (NDJSON), with the rules of POST /customers; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Check every line, print those that would be refused, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Send into the running relay at this URL instead of to Segment; its sender's secret is in RELAY_IMPORT_SECRET
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The name of the job, which is a part of each messageId: a new name sends everything anew
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// The journal, by which an interrupted import goes on, instead of FILE.import
    #[arg(long, value_name = "PATH")]
    journal: Option<PathBuf>,
    /// Where lines that are not taken are listed, with every reason, instead of FILE.refused.ndjson
    #[arg(long, value_name = "PATH")]
    refused: Option<PathBuf>,
}

enum Target {
    Nothing,
    Segment(Box<Settings>),
    Relay(RelayTarget),
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let is_one = arguments.files.len() == 1;
    if !is_one && (arguments.journal.is_some() || arguments.refused.is_some()) {
        eprintln!("segment-relay: --journal and --refused are of one FILE");
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let (target, name) = if arguments.dry_run {
        (Target::Nothing, String::new())
    } else if let Some(url) = &arguments.url {
        let url = format!("{}/customers", given_url(url)?.trim_end_matches('/'));
        let client = http_client(&url).redirect(Policy::none()).timeout(ANSWER_TIMEOUT).build();
        let client = client.context("cannot set up HTTP")?;
        let sender = config::import_secret_from_environment()?.map(|(scheme, secret)| Sender { scheme, secret });
        (Target::Relay(RelayTarget { client, url: url.clone(), sender }), url)
    } else {
        let settings = config::from_environment()?;
        let name = settings.segment.endpoint.to_string();
        (Target::Segment(Box::new(settings)), name)
    };
    let (runtime, signals) = runtime_with_signals()?;
    runtime.block_on(import(arguments, &target, name, signals))
}

async fn import(arguments: &Arguments, target: &Target, name: String, signals: Signals) -> anyhow::Result<ExitCode> {
    let supervisor = Supervisor::new();
    let clients = match target {
        Target::Segment(settings) => {
            let keys = WriteKeys::new(settings.segment.write_key.clone());
            let metrics = Arc::new(Metrics::new()?);
            Some(LiveClients::start(settings.segment.clone(), &keys, metrics, &supervisor)?)
        }
        _ => None,
    };
    let job = JobSettings {
        job: arguments.job.clone(),
        journal: arguments.journal.clone(),
        refused: arguments.refused.clone(),
        target: name,
        is_dry_run: arguments.dry_run,
    };
    let files = async {
        let mut all = true;
        for file in &arguments.files {
            let imported = one(file, &job, target, clients.as_ref(), &supervisor).await;
            // A stop in the middle of a file is not its end.
            if supervisor.is_stopping() || imported.is_err() {
                let is_interrupted = supervisor.is_stopping();
                supervisor.stop();
                return imported.map(|is_all| (is_all, is_interrupted));
            }
            all &= imported?;
        }
        supervisor.stop();
        Ok((all, false))
    };
    let (imported, outcome) = tokio::join!(files, supervisor.run(signals, Duration::ZERO, GRACE));
    let (all, is_interrupted) = imported?;
    if outcome == ShutdownOutcome::Failed {
        bail!("the import has failed inside; run the same command to go on");
    }
    Ok(match (all, is_interrupted) {
        (_, true) => ExitCode::from(EXIT_INTERRUPTED),
        (true, false) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
    })
}

/// Imports a file. False if lines were refused.
async fn one(
    file: &Path,
    settings: &JobSettings,
    target: &Target,
    clients: Option<&LiveClients>,
    supervisor: &Supervisor,
) -> anyhow::Result<bool> {
    let is_stdin = file == Path::new("-");
    let shown = if is_stdin { "standard input".to_owned() } else { file.display().to_string() };
    if is_stdin && !settings.is_dry_run {
        eprintln!("standard input has no journal: an import of it that is interrupted begins anew");
    }
    let bytes = fs::metadata(file).ok().filter(|_| !is_stdin).map(|file| file.len());
    let progress = Progress::new(shown.clone(), bytes);
    let mut job = match Job::open(file, settings, progress, supervisor)? {
        Ok(job) => job,
        Err(counts) => {
            let Counts { done_before, refused_before, .. } = counts;
            let line = format!(
                "{shown}: finished before ({done_before} lines, {refused_before} refused); nothing was sent; --job NAME starts anew"
            );
            let _ = print(line);
            return Ok(refused_before == 0);
        }
    };
    let begun = std::time::Instant::now();
    let sent = match (target, clients) {
        (Target::Relay(relay), _) => relay.send(&mut job, supervisor).await,
        (Target::Segment(_), Some(clients)) => send_straight(&mut job, clients, supervisor).await,
        _ => job.try_all(|line| print(line)).await,
    };
    let counts = job.counts;
    // The bar goes before the summary comes.
    drop(job);
    let Counts { accepted, stored, refused, gave_up, done_before, refused_before } = counts;
    let lines = accepted + stored + refused + gave_up;
    let seconds = begun.elapsed().as_secs_f64();
    let rate = lines as f64 / seconds.max(0.001);
    let summary = if settings.is_dry_run {
        format!("{shown}: {lines} lines: {accepted} right, {refused} would be refused; nothing was sent")
    } else {
        format!(
            "{shown}: {lines} lines: {accepted} accepted, {stored} stored, {refused} refused, {gave_up} gave up; {done_before} \
             skipped as done before, {refused_before} of them refused; {seconds:.1} s, {rate:.0} lines a second"
        )
    };
    // The exit code says the same to whoever does not read it.
    let _ = print(summary);
    sent.map(|()| refused + gave_up + refused_before == 0)
}
