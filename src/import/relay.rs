//! Into a running relay: batches of lines to its `POST /customers`, one request at a time.
//!
//! A request holds one line of a user at most, so that a line whose turn has not come is never behind a failed one of its user.

use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;

use anyhow::bail;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use tokio::time::{interval, sleep};

use super::job::{End, Job};
use super::refused::Reasons;
use super::sender::Sender;
use crate::customer::{BrokenRule, MAX_CUSTOMERS};
use crate::segment::{Call, ErrorCode, MAX_CALL_BYTES};
use crate::supervisor::Supervisor;

/// The largest body of a request: the limit of `POST /customers` for several customers.
const MAX_BATCH: usize = 1024 * 1024;

/// The pause after a failure that names none; it doubles up to the longest.
const MIN_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// How often the progress is shown during a pause.
const TICK: Duration = Duration::from_millis(250);

/// A running relay.
pub struct RelayTarget {
    pub client: Client,
    /// Of `POST /customers`.
    pub url: String,
    pub sender: Option<Sender>,
}

#[derive(Deserialize)]
struct Answer {
    results: Option<Vec<Outcome>>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Outcome {
    status: u16,
    #[serde(flatten)]
    failure: Failure,
}

#[derive(Deserialize, Default)]
struct Failure {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    field: String,
    message: String,
}

/// What an answer asks for.
enum Next {
    GoOn,
    /// Why, and how long if the relay says so.
    Pause(String, Option<Duration>),
}

impl RelayTarget {
    /// Sends all lines of the job, or until the process drains: then the request in flight is finished first.
    ///
    /// # Errors
    /// If the relay refuses the sender, the file cannot be read, or the journal or the file of refused lines not be written.
    pub async fn send(&self, job: &mut Job, supervisor: &Supervisor) -> anyhow::Result<()> {
        let mut pause = MIN_PAUSE;
        while !supervisor.is_draining() {
            let lines = batch(job)?;
            if lines.is_empty() {
                if job.is_finished() {
                    break;
                }
                if job.is_reading() {
                    tokio::select! {
                        received = job.receive() => { received?; },
                        () = supervisor.draining() => {}
                    }
                } else {
                    // All taken lines are settled, and the journal is what is waited for.
                    job.record_now()?;
                }
                continue;
            }
            let next = tokio::select! {
                next = self.post(job, &lines) => next?,
                () = supervisor.cancelled() => break,
            };
            job.record()?;
            let counts = job.counts;
            match next {
                Next::GoOn => {
                    pause = MIN_PAUSE;
                    job.progress.show(&counts, None);
                }
                Next::Pause(reason, asked) => {
                    let reason = format!("waiting: {reason}");
                    let mut wait = pin!(sleep(asked.unwrap_or(pause)));
                    let mut ticks = interval(TICK);
                    loop {
                        tokio::select! {
                            () = &mut wait => break,
                            () = supervisor.draining() => break,
                            _ = ticks.tick() => job.progress.show(&counts, Some(&reason)),
                        }
                    }
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
        job.record_now()
    }

    async fn post(&self, job: &mut Job, lines: &[u64]) -> anyhow::Result<Next> {
        let mut body = Vec::new();
        for call in lines.iter().filter_map(|line| job.open_lines().get(line)) {
            body.extend_from_slice(call.json());
            body.push(b'\n');
        }
        let request = self.client.post(&self.url).header(CONTENT_TYPE, "application/x-ndjson");
        let request = match &self.sender {
            Some(sender) => sender.sign(request, &body)?,
            None => request,
        };
        let answer = match request.body(body).send().await {
            Ok(answer) => answer,
            Err(_) => return Ok(Next::Pause(format!("{} does not answer", self.url), None)),
        };
        let status = answer.status();
        let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let asked = asked.map(Duration::from_secs);
        let Ok(text) = answer.text().await else {
            return Ok(Next::Pause(format!("the answer of {} broke off", self.url), None));
        };
        let answer: Option<Answer> = serde_json::from_str(&text).ok();
        if let Some(results) = answer.as_ref().and_then(|answer| answer.results.as_ref()) {
            if results.len() != lines.len() {
                bail!("{} answers {} lines with {} results", self.url, lines.len(), results.len());
            }
            let mut failed = None;
            for (line, outcome) in lines.iter().zip(results) {
                match end_of(outcome) {
                    Some(end) => job.settle(*line, end)?,
                    None => failed = failed.or(Some(outcome)),
                }
            }
            let pause = |outcome: &Outcome| Next::Pause(shown(outcome.status, &outcome.failure), asked);
            return Ok(failed.map_or(Next::GoOn, pause));
        }
        let failure = answer.and_then(|answer| answer.error).unwrap_or_default();
        let reason = shown(status.as_u16(), &failure);
        let passes =
            status.is_server_error() || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
        if !passes {
            bail!("{} answers {reason}", self.url);
        }
        Ok(Next::Pause(reason, asked))
    }
}

fn shown(status: u16, failure: &Failure) -> String {
    format!("{status} {} {}", failure.code, failure.message.escape_debug()).trim_end().to_owned()
}

/// `None`: the line is sent again.
fn end_of(Outcome { status, failure }: &Outcome) -> Option<End> {
    let problems = || {
        failure
            .details
            .iter()
            .map(|Rule { field, message }| BrokenRule { field: field.clone(), message: message.clone() })
    };
    let reasons = || Reasons { problems: problems().collect(), ..Reasons::of(&failure.message, Some(*status)) };
    match status {
        200 => Some(End::Accepted),
        202 => Some(End::Stored),
        // These will not be taken, whatever the status is.
        _ if failure.code == ErrorCode::GaveUp.as_str() => Some(End::GaveUp(reasons())),
        _ if failure.code == ErrorCode::Rejected.as_str() => Some(End::Refused(reasons())),
        408 | 429 | 500.. => None,
        _ => Some(End::Refused(reasons())),
    }
}

/// The next lines to send: those that are open, and new ones.
fn batch(job: &mut Job) -> anyhow::Result<Vec<u64>> {
    let mut lines = Vec::new();
    let mut users = HashSet::new();
    let mut bytes = 0;
    let mut add = |line: u64, call: &Call| {
        let is_free = !users.contains(call.user_id());
        // The user's later lines wait, whether this one is sent now or not.
        users.insert(call.user_id().clone());
        let size = call.json().len() + 1;
        if is_free && lines.len() < MAX_CUSTOMERS && bytes + size <= MAX_BATCH {
            bytes += size;
            lines.push(line);
        }
        lines.len() < MAX_CUSTOMERS && bytes + MAX_CALL_BYTES < MAX_BATCH
    };
    let mut has_room = true;
    for (line, call) in job.open_lines() {
        has_room = add(*line, call);
        if !has_room {
            break;
        }
    }
    while has_room {
        if job.is_reading() {
            job.receive_now()?;
        }
        if !job.has_next() {
            break;
        }
        if let Some((line, call)) = job.take()? {
            has_room = add(line, &call);
        }
    }
    Ok(lines)
}
