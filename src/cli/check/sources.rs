//! The rows of the sources: their file, their filters and their examples.

use std::sync::Arc;

use super::row::Row;
use crate::cli::sources::examples;
use crate::config::{Problems, Settings};
use crate::metrics::Metrics;
use crate::sources::mapping::Mapper;
use crate::sources::settings::SourceTable;
use crate::supervisor::Supervisor;

const SOURCES: &str = "sources";
const EXAMPLES: &str = "examples";
const FIRST: &str = "the sources are not right yet";

/// The rows, and the problems of filters that would stop the start. `table` is what the file of sources says, unless it has the
/// problems `of_file`.
pub(super) async fn rows(
    settings: &Settings,
    table: Option<&SourceTable>,
    of_file: &Problems,
    problems: &Problems,
) -> anyhow::Result<(Vec<Row>, Problems)> {
    let skip = |why| Ok((vec![Row::skipped(SOURCES, why), Row::skipped(EXAMPLES, why)], Problems::default()));
    let table = match table {
        _ if problems.name_any(&["RELAY_SOURCES"]) => return skip("RELAY_SOURCES is wrong"),
        _ if settings.sources.is_none() => return skip("RELAY_SOURCES is not set"),
        None => return Ok((failed(of_file), Problems::default())),
        Some(table) => table,
    };
    let mapper = Mapper::start(&Supervisor::new(), Arc::new(Metrics::new()?))?;
    let mut problems = Problems::default();
    for line in mapper.check(&table.filters()).await {
        let (place, problem) = line.split_once(": ").unwrap_or((SOURCES, &line));
        problems.add(place, problem);
    }
    if !problems.lines().is_empty() {
        return Ok((failed(&problems), problems));
    }
    let mut rows: Vec<Row> = table.warnings().into_iter().map(|warning| Row::warning(SOURCES, warning)).collect();
    if rows.is_empty() {
        let all: Vec<String> = table.iter().map(|source| format!("{} ({})", source.name, source.verify)).collect();
        let names = if all.is_empty() { "the file has none".to_owned() } else { all.join(", ") };
        rows.push(Row::ok(SOURCES, names));
    }
    rows.extend(example_rows(&mapper, table).await);
    Ok((rows, problems))
}

fn failed(problems: &Problems) -> Vec<Row> {
    let rows = problems
        .lines()
        .iter()
        .map(|line| Row::failed(SOURCES, line).advise("docs/sources.md explains every key of the file."));
    rows.chain([Row::skipped(EXAMPLES, FIRST)]).collect()
}

async fn example_rows(mapper: &Mapper, table: &SourceTable) -> Vec<Row> {
    let (mut rows, mut right) = (Vec::new(), Vec::new());
    for source in table.iter() {
        let found = examples::problems(mapper, source).await;
        let (name, count) = (&source.name, source.examples.len());
        if found.is_empty() {
            let plural = if count == 1 { "" } else { "s" };
            right.push(format!("{name}: {count} example{plural} right"));
        }
        let advice = format!("Mend the filter or the example. segment-relay sources test {name} shows more.");
        rows.extend(found.into_iter().map(|problem| Row::failed(EXAMPLES, problem).advise(&*advice)));
    }
    if rows.is_empty() {
        let found = if right.is_empty() { "there are no sources".to_owned() } else { right.join("\n") };
        rows.push(Row::ok(EXAMPLES, found));
    }
    rows
}
