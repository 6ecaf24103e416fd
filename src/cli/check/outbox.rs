//! The rows of the outbox: whether its file can be used, what it holds, and its disk.

use std::path::Path;

use bytesize::ByteSize;

use super::database;
use super::row::Row;
use super::stored::{FILE, RIGHTS, SERVER, SOURCES, STANDBY, VERSION, sources};
use crate::config::{OutboxPlace, OutboxSettings, Problems};
use crate::outbox::sqlite::{self, Disk, DiskKind, NEWEST_VERSION};
use crate::sources::settings::SourceTable;

const SPACE: &str = "outbox-space";
const DISK: &str = "outbox-disk";

/// `table`: the sources that are configured, if the file of sources is right.
pub(super) async fn rows(
    settings: Option<&OutboxSettings>,
    table: Option<&SourceTable>,
    problems: &Problems,
) -> Vec<Row> {
    let none = |why: &str| {
        let others = [VERSION, SOURCES, SPACE, DISK, SERVER, RIGHTS, STANDBY]
            .map(|name| Row::skipped(name, "there is no outbox"));
        [Row::skipped(FILE, why)].into_iter().chain(others).collect()
    };
    let settings = match settings {
        _ if problems.name_any(&["RELAY_OUTBOX_URL"]) => return none("RELAY_OUTBOX_URL is wrong"),
        None => return none("RELAY_OUTBOX_URL is not set: calls go straight to Segment"),
        Some(settings) => settings,
    };
    let path = match &settings.place {
        OutboxPlace::Sqlite(path) => path,
        OutboxPlace::Postgres(url) => {
            let (mut rows, others) = database::rows(url, table).await;
            rows.extend([SPACE, DISK].map(|name| Row::skipped(name, "the outbox is in PostgreSQL")));
            rows.extend(others);
            return rows;
        }
    };
    let mut rows = file(path, table);
    let disk = sqlite::inspect_disk(path, settings.max_bytes);
    if problems.name_any(&["RELAY_OUTBOX_MAX_SIZE"]) {
        rows.push(Row::skipped(SPACE, "RELAY_OUTBOX_MAX_SIZE is wrong"));
    } else {
        rows.push(space(&disk, settings));
    }
    rows.push(kind(disk.kind));
    rows.extend([SERVER, RIGHTS, STANDBY].map(|name| Row::skipped(name, "the outbox is a file")));
    rows
}

fn file(file: &Path, table: Option<&SourceTable>) -> Vec<Row> {
    let path = file.display();
    let usable = match sqlite::check_file(file) {
        Ok(true) => Row::ok(FILE, format!("{path} can be used")),
        Ok(false) => {
            let why = "there is no file yet";
            let made = Row::ok(FILE, format!("{path} can be made"));
            return vec![made, Row::skipped(VERSION, why), Row::skipped(SOURCES, why)];
        }
        Err(error) => {
            let advice = "The relay's user must be able to write to the directory, and own the file.";
            let why = "the file cannot be used";
            let failed = Row::failed(FILE, format!("{path}: {error:#}")).advise(advice);
            return vec![failed, Row::skipped(VERSION, why), Row::skipped(SOURCES, why)];
        }
    };
    let content = match sqlite::inspect_file(file) {
        Ok(content) => content,
        Err(error) => {
            let failed = Row::failed(VERSION, format!("{error:#}"))
                .advise("Do what it says. Restore a backup only of a damaged file, because calls that it holds are delivered again.");
            return vec![usable, failed, Row::skipped(SOURCES, "the file cannot be read")];
        }
    };
    let version = match content.version {
        NEWEST_VERSION => Row::ok(VERSION, format!("version {NEWEST_VERSION}, which this program writes")),
        0 => Row::ok(VERSION, format!("the file is empty: the next start makes version {NEWEST_VERSION}")),
        older => Row::warning(VERSION, format!("version {older}: the next start makes it version {NEWEST_VERSION}"))
            .advise("An older program cannot read it then. Make a backup before (segment-relay backup)."),
    };
    let mut rows = vec![usable, version];
    rows.extend(sources(content.sources, table, "dead letters among the newest 1,000"));
    rows
}

fn space(disk: &Disk, settings: &OutboxSettings) -> Row {
    let (needed, limit) = (ByteSize(disk.needed), ByteSize(settings.max_bytes));
    match disk.free {
        None => Row::skipped(SPACE, "the file system does not say"),
        Some(free) if free < disk.needed => {
            let found = format!("{} are free, and the outbox may still grow by {needed}", ByteSize(free));
            Row::warning(SPACE, found).advise(format!(
                "Free some, or lower RELAY_OUTBOX_MAX_SIZE ({limit}): a full disk is answered with 503."
            ))
        }
        Some(free) => Row::ok(SPACE, format!("{} are free, of which it may take {needed}", ByteSize(free))),
    }
}

fn kind(kind: DiskKind) -> Row {
    match kind {
        DiskKind::Local(Some(name)) => Row::ok(DISK, name),
        DiskKind::Local(None) => Row::ok(DISK, "neither a known network file system nor one in memory"),
        DiskKind::Unknown => Row::skipped(DISK, "this system does not say"),
        DiskKind::Network(name) => {
            Row::warning(DISK, format!("{name} is a network file system: its locks and syncs may not hold"))
                .advise("Use a local disk. SQLite can lose stored calls on another machine's.")
        }
        DiskKind::Memory(name) => {
            Row::warning(DISK, format!("{name} is in memory: a restart loses every stored call")).advise("Use a disk.")
        }
        DiskKind::Layer(name) => {
            Row::warning(DISK, format!("{name} is a container's own layer: it is deleted with the container"))
                .advise("Mount a volume there.")
        }
    }
}
