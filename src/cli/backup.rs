//! `segment-relay backup FILE`: fetches a copy of the running relay's outbox.
//!
//! The file is there when it is whole and synced, or not at all. A regular file of this name that is no database in use
//! is replaced, and nothing else is.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args;
use reqwest::Method;

use super::output::print;
use super::relay_client::RelayClient;
use super::runtime::runtime_with_signals;
use crate::outbox::sqlite::{beside, file_length, sync_directory_of};

#[derive(Args)]
pub(super) struct Arguments {
    /// The file to write. An existing regular file is replaced when the copy is complete
    file: PathBuf,
    /// The running relay, instead of the address of RELAY_ADMIN_LISTEN, RELAY_LISTEN or PORT on this machine
    #[arg(long, value_name = "BASE")]
    url: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let relay = RelayClient::new(arguments.url.as_deref())?;
    let file = &arguments.file;
    check_target(file)?;
    let (runtime, mut signals) = runtime_with_signals()?;
    let bytes = runtime.block_on(async {
        tokio::select! {
            bytes = fetch(&relay, file) => bytes,
            signal = signals.recv() => bail!("{signal}: no backup was written"),
        }
    })?;
    // The reader of the output may have left; the backup is there all the same.
    let _ = print(format_args!("wrote {}: {bytes} bytes", file.display()));
    Ok(ExitCode::SUCCESS)
}

/// Refuses a name under which a backup would be lost, would replace what is no file, or would damage a database: SQLite would
/// apply a log beside it.
fn check_target(file: &Path) -> anyhow::Result<()> {
    ensure!(file.file_name().is_some() && !file.is_dir(), "{} is a directory; name a file", file.display());
    // A link is refused too: nobody can tell whether it or its target was meant.
    let is_replaceable = file.symlink_metadata().map_or(true, |existing| existing.is_file());
    ensure!(is_replaceable, "{} is no regular file; name another file", file.display());
    for log in ["-wal", "-journal"].map(|end| beside(file, end)) {
        ensure!(
            log.symlink_metadata().is_err(),
            "{} is there, so {} is a database in use, or was not closed; name another file",
            log.display(),
            file.display()
        );
    }
    Ok(())
}

/// A file that is deleted unless it gets its name.
struct PartialFile {
    path: PathBuf,
    file: File,
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // After the rename nothing has this name any more.
        let _ = fs::remove_file(&self.path);
    }
}

async fn fetch(relay: &RelayClient, target: &Path) -> anyhow::Result<u64> {
    let mut answer = relay.request(Method::GET, "/backup").await?;
    let announced = answer.content_length();
    let path = beside(target, &format!(".{}.part", std::process::id()));
    let cannot_write = || format!("cannot write {}", path.display());
    // Calls are personal: only the owner may read them.
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
    let mut partial = PartialFile { path: path.clone(), file: file.with_context(cannot_write)? };
    let mut bytes = 0;
    while let Some(piece) = answer.chunk().await.with_context(|| relay.broke_off())? {
        partial.file.write_all(&piece).with_context(cannot_write)?;
        bytes += piece.len() as u64;
    }
    ensure!(announced.is_none_or(|announced| announced == bytes), relay.broke_off());
    // A copy that a proxy cut is noticed, whatever length it announced.
    ensure!(file_length(&partial.file) == Some(bytes), "the answer is not a whole SQLite file");
    partial.file.sync_all().with_context(cannot_write)?;
    // Another relay may have opened the file meanwhile, or something else may have taken its name.
    check_target(target)?;
    fs::rename(&path, target).with_context(|| format!("cannot write {}", target.display()))?;
    sync_directory_of(target)?;
    Ok(bytes)
}
