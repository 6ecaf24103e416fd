//! The disk on which an outbox is measured: a directory of its own, removed with its files when this is dropped.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use tempfile::TempDir;

/// A new outbox's directory. The relay that uses it must be dropped first.
pub struct Store {
    directory: TempDir,
}

impl Store {
    /// # Errors
    /// If there can be none, or it would be in memory, where a sync costs nothing.
    pub fn new(disk: &Path) -> anyhow::Result<Self> {
        let file_system = file_system(disk);
        if ["tmpfs", "ramfs"].contains(&file_system.as_str()) {
            bail!("{} is no disk but {file_system}: choose one with --disk", disk.display());
        }
        fs::create_dir_all(disk).with_context(|| format!("cannot make {}", disk.display()))?;
        let directory = tempfile::Builder::new().prefix("outbox-").tempdir_in(disk.canonicalize()?)?;
        Ok(Self { directory })
    }

    /// What goes into `RELAY_OUTBOX_URL`.
    pub fn url(&self) -> String {
        format!("sqlite://{}", self.directory.path().join("outbox.db").display())
    }

    /// The bytes of all its files.
    pub fn bytes(&self) -> anyhow::Result<u64> {
        let mut bytes = 0;
        for file in fs::read_dir(&self.directory)? {
            bytes += file?.metadata()?.len();
        }
        Ok(bytes)
    }
}

/// The kind of the file system that a directory is on, or will be on once it is made.
pub fn file_system(directory: &Path) -> String {
    let directory = directory.ancestors().find_map(|directory| directory.canonicalize().ok()).unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    // The innermost; of two in one place the later one.
    let holding = mounts.filter(|(at, _)| directory.starts_with(at)).max_by_key(|(at, _)| at.len());
    holding.map_or("unknown", |(_, kind)| kind).to_owned()
}
