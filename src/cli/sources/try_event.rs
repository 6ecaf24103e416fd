//! `segment-relay sources test`: what a source's filter makes of an event.
//!
//! Customers go to stdout, one a line, for other programs. Everything else goes to stderr.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use axum::http::{HeaderName, HeaderValue};
use bytes::Bytes;
use jiff::Timestamp;

use super::examples;
use crate::cli::dead_letters::table::{escape, escape_json};
use crate::cli::output::print;
use crate::cli::runtime::runtime;
use crate::metrics::Metrics;
use crate::sources::event::{EventError, Unmapped, check_customers, make_customers};
use crate::sources::mapping::{Event, Mapper};
use crate::sources::settings::{SourceSettings, SourceTable};
use crate::supervisor::Supervisor;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The source
    name: String,
    /// The file with the event's body; - or none reads it from stdin
    file: Option<PathBuf>,
    /// A header of the event, such as 'x-shopify-topic: customers/update'; may be repeated
    #[arg(long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<(String, Vec<u8>)>,
}

/// `NAME: VALUE`, with the name in lower case.
fn header(text: &str) -> Result<(String, Vec<u8>), String> {
    let (name, value) = text.split_once(':').ok_or("must be a name, a colon and a value")?;
    let name: HeaderName = name.trim().parse().map_err(|_| "the name is not that of a header")?;
    let value: HeaderValue = value.trim().parse().map_err(|_| "the value is not that of a header")?;
    Ok((name.as_str().to_owned(), value.as_bytes().to_vec()))
}

pub(super) fn run(table: &SourceTable, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let name = &arguments.name;
    let Some(source) = table.get(name) else {
        let names: Vec<&str> = table.names().map(|name| &**name).collect();
        let names = if names.is_empty() { "none; set RELAY_SOURCES or --sources".to_owned() } else { names.join(", ") };
        bail!("there is no source {name}; there are: {names}");
    };
    let body = read(arguments.file.as_deref(), source.max_body)?;
    let event = Event { headers: arguments.headers.clone(), body, received_at: Timestamp::now().as_millisecond() };
    let is_right = runtime()?.block_on(async {
        let mapper = Mapper::start(&Supervisor::new(), Arc::new(Metrics::new()?))?;
        let filters: Vec<_> = source.filter.iter().cloned().collect();
        let mut problems = mapper.check(&filters).await;
        if problems.is_empty() {
            problems = show(&mapper, source, event).await?;
            problems.extend(examples::problems(&*mapper, source).await);
        }
        problems.iter().flat_map(|problem| problem.lines()).for_each(|line| eprintln!("{}", escape(line)));
        anyhow::Ok(problems.is_empty())
    })?;
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the customers of an event. Returns why they are not sent.
async fn show(mapper: &Mapper, source: &SourceSettings, event: Event) -> anyhow::Result<Vec<String>> {
    let texts = match make_customers(mapper, source, event).await {
        Ok(texts) => texts,
        Err(EventError::Unmapped(why)) => return Ok(vec![why.to_string()]),
        Err(EventError::Overloaded) => bail!("too many events wait for the filter"),
    };
    for text in &texts {
        print(escape_json(String::from_utf8_lossy(text).trim()))?;
    }
    if texts.is_empty() {
        eprintln!("no customer: the relay answers 200, and nothing is sent");
    }
    Ok(match check_customers(source, &texts) {
        Ok(_) => Vec::new(),
        Err(Unmapped::Invalid(broken)) => broken.iter().map(ToString::to_string).collect(),
        Err(why) => vec![why.to_string()],
    })
}

/// The event's body, of a file or of stdin.
fn read(file: Option<&Path>, limit: usize) -> anyhow::Result<Bytes> {
    let mut body = Vec::new();
    let beyond = u64::try_from(limit)?.saturating_add(1);
    match file.filter(|path| *path != Path::new("-")) {
        Some(path) => {
            let file = File::open(path).and_then(|file| file.take(beyond).read_to_end(&mut body));
            file.with_context(|| format!("cannot read {}", path.display()))?;
        }
        None => {
            io::stdin().lock().take(beyond).read_to_end(&mut body).context("cannot read the event from stdin")?;
        }
    }
    if body.len() > limit {
        bail!("the event is larger than {limit} bytes, the max_body of this source: the relay answers 413");
    }
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use super::header;

    #[test]
    fn a_header_is_a_name_and_a_value_without_the_spaces_around_them() {
        let topic = ("x-shopify-topic".to_owned(), b"customers/update".to_vec());
        assert_eq!(header("X-Shopify-Topic: customers/update "), Ok(topic));
        assert_eq!(header("x-time:12:30").map(|(_, value)| value), Ok(b"12:30".to_vec()));
        for wrong in ["", "x", "x y: z", ": z", "x: a\nb"] {
            assert!(header(wrong).is_err(), "{wrong:?}");
        }
    }
}
