//! The rows of the outbox: nothing of it is changed, also while a relay uses it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rusqlite::Connection;

use super::Report;
use crate::harness::{Durable, Segment, ada};

const ROWS: [&str; 5] = ["outbox", "outbox-version", "outbox-sources", "outbox-space", "outbox-disk"];

/// The names and bytes of the files in a directory, but for the memory that SQLite's processes share.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    named
        .map(|(name, path)| (name.clone(), if name.ends_with("-shm") { vec![] } else { fs::read(path).unwrap() }))
        .collect()
}

#[tokio::test]
async fn the_outbox_can_be_used_or_made_or_not_and_nothing_is_made() {
    let segment = Segment::start().await;
    let check = async |path: &str| {
        let outbox = format!("sqlite://{path}");
        Report::of(&[("SEGMENT_ENDPOINT", segment.url()), ("RELAY_OUTBOX_URL", &outbox)]).await
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let names = || fs::read_dir(folder.path()).unwrap().count();
    for missing in [path("o.db"), path("a/b/o.db")] {
        let report = check(&missing).await;
        assert_eq!((report.code, report.row("outbox")), (Some(0), ("ok", &*format!("{missing} can be made"))));
        assert_eq!(report.results(["outbox-version", "outbox-sources"]), ["skipped"; 2]);
    }
    assert_eq!(names(), 0);
    fs::write(path("text"), "no database at all").unwrap();
    fs::write(path("empty"), "").unwrap();
    let report = check(&path("empty")).await;
    assert_eq!((report.code, report.row("outbox").1), (Some(0), &*format!("{} can be used", path("empty"))));
    fs::hard_link(path("empty"), path("second")).unwrap();
    symlink(path("nothing"), path("link")).unwrap();
    fs::create_dir(path("folder")).unwrap();
    for (wrong, reason) in [
        ("/proc/nope/o.db".to_owned(), "cannot make a file in /proc"),
        (path("text/o.db"), "cannot open the file"),
        (path("text"), "not an SQLite database"),
        (path("folder"), "not a file"),
        (path("second"), "hard link"),
        (path("link"), "link to a file that does not exist"),
    ] {
        let report = check(&wrong).await;
        let (result, found) = report.row("outbox");
        assert!(found.starts_with(&format!("{wrong}: ")) && found.contains(reason), "{report:#?}");
        assert_eq!((report.code, result, report.result("outbox-version")), (Some(1), "failed", "skipped"));
    }
    assert_eq!(names(), 5);
}

#[tokio::test]
async fn a_running_relay_and_its_files_are_not_disturbed() {
    let durable = Durable::start().await;
    let (outbox, address) = (format!("sqlite://{}", durable.file().display()), durable.relay().address().to_string());
    let settings =
        [("SEGMENT_ENDPOINT", durable.segment().url()), ("RELAY_OUTBOX_URL", &*outbox), ("RELAY_LISTEN", &*address)];
    for _ in 0..3 {
        assert!(durable.post(&ada()).await.is_stored());
        crate::harness::eventually(async || durable.relay().metric("segment_relay_outbox_calls").await == 0.0).await;
        let before = files(durable.directory());
        let report = Report::of(&settings).await;
        assert_eq!((report.code, report.result("listen")), (Some(0), "warning"), "{report:#?}");
        assert_eq!(report.results(ROWS)[..3], ["ok"; 3], "{report:#?}");
        assert!(before == files(durable.directory()), "a file was changed");
    }
    assert!(durable.post(&ada()).await.is_stored());
    assert_eq!(durable.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn nothing_is_left_beside_the_file_of_a_stopped_relay_and_its_version_is_told() {
    let mut durable = Durable::start().await;
    assert!(durable.post(&ada()).await.is_stored());
    assert_eq!(durable.stop().await, Some(0));
    let outbox = format!("sqlite://{}", durable.file().display());
    let settings = [("SEGMENT_ENDPOINT", durable.segment().url()), ("RELAY_OUTBOX_URL", &*outbox)];
    let before = files(durable.directory());
    let report = Report::of(&settings).await;
    assert_eq!((report.code, report.result("outbox-version")), (Some(0), "ok"), "{report:#?}");
    assert!(before == files(durable.directory()), "a file was changed");
    // SQLite deletes the log when the last one leaves, and makes one for who comes.
    let file = Connection::open(durable.file()).unwrap();
    file.query_row("SELECT count(*) FROM sqlite_schema", [], |_row| Ok(())).unwrap();
    drop(file);
    let before = files(durable.directory());
    assert_eq!(before.keys().filter(|name| name.contains("db-")).count(), 0);
    let report = Report::of(&settings).await;
    assert_eq!((report.code, report.result("outbox-version")), (Some(0), "ok"), "{report:#?}");
    assert!(before == files(durable.directory()), "a file was changed");
    // As a backup is.
    let file = Connection::open(durable.file()).unwrap();
    file.pragma_update(None, "journal_mode", "DELETE").unwrap();
    let newest: i64 = file.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    for (version, code, result) in [(newest - 1, 0, "warning"), (newest + 1, 1, "failed")] {
        file.pragma_update(None, "user_version", version).unwrap();
        let before = files(durable.directory());
        let report = Report::of(&settings).await;
        let (told, found) = report.row("outbox-version");
        assert_eq!((report.code, told), (Some(code), result), "{report:#?}");
        assert!(found.contains(&format!("version {version}")), "{found}");
        assert!(before == files(durable.directory()), "a file was changed");
    }
    file.pragma_update(None, "application_id", 7).unwrap();
    assert!(Report::of(&settings).await.row("outbox-version").1.contains("another program's"));
}

#[tokio::test]
async fn a_disk_that_is_too_small_for_the_limit_is_a_warning() {
    let (segment, folder) = (Segment::start().await, tempfile::tempdir().unwrap());
    let outbox = format!("sqlite://{}", folder.path().join("o.db").display());
    for (size, result) in [("1MiB", "ok"), ("256TiB", "warning")] {
        let settings =
            [("SEGMENT_ENDPOINT", segment.url()), ("RELAY_OUTBOX_URL", &outbox), ("RELAY_OUTBOX_MAX_SIZE", size)];
        let report = Report::of(&settings).await;
        assert_eq!((report.code, report.result("outbox-space")), (Some(0), result), "{report:#?}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_disk_in_memory_is_a_warning() {
    let (segment, folder) = (Segment::start().await, tempfile::tempdir_in("/dev/shm").unwrap());
    let outbox = format!("sqlite://{}", folder.path().join("o.db").display());
    let settings =
        [("SEGMENT_ENDPOINT", segment.url()), ("RELAY_OUTBOX_URL", &outbox), ("RELAY_OUTBOX_MAX_SIZE", "1MiB")];
    let report = Report::of(&settings).await;
    let (result, found) = report.row("outbox-disk");
    assert!(report.code == Some(0) && result == "warning" && found.starts_with("tmpfs"), "{report:#?}");
}
