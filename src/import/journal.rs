//! The journal of an import: a file beside the imported one that says up to which line all are settled.
//!
//! The first line names the version, the file's SHA-256, the job, the target and when the job began. Each further one is a number of
//! lines. Each is synced. A last line that is torn is ignored. The file is locked while it is open.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

/// A journal has a line for each second, or for 5,000 lines: of ten million lines some 100 KiB.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Header {
    version: u32,
    sha256: String,
    pub(super) job: String,
    target: String,
    /// The time of lines without a `timestamp`, so that a line that is sent again has the same bytes. In milliseconds.
    began_at: i64,
}

impl Header {
    pub(super) fn began_at(&self) -> anyhow::Result<Timestamp> {
        Timestamp::from_millisecond(self.began_at).context("the journal's beganAt is no time")
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    done: u64,
    #[serde(default)]
    is_finished: bool,
}

pub(super) struct Journal {
    path: PathBuf,
    file: File,
    pub(super) header: Header,
    /// All lines up to this one are settled.
    pub(super) done: u64,
    pub(super) is_finished: bool,
    /// Nothing was done before.
    pub(super) is_new: bool,
}

impl Journal {
    /// Opens the journal of this file at `path`, or begins it. `job`: the one that was asked for.
    pub(super) fn open(path: &Path, sha256: &str, job: Option<&str>, target: &str) -> anyhow::Result<Self> {
        let cannot_open = || format!("cannot write the journal {}; --journal names another place", path.display());
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).with_context(cannot_open)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("{} is in use: another import of this file runs", path.display()),
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot_open),
        }
        let mut text = Vec::new();
        (&mut file).take(MAX_BYTES).read_to_end(&mut text).with_context(cannot_open)?;
        let wanted = Header {
            version: VERSION,
            sha256: sha256.to_owned(),
            job: job.unwrap_or(sha256).to_owned(),
            target: target.to_owned(),
            began_at: Timestamp::now().as_millisecond(),
        };
        let mut journal =
            Self { path: path.to_owned(), file, header: wanted, done: 0, is_finished: false, is_new: true };
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole == 0 {
            ensure!(text.is_empty() || text.starts_with(b"{\"version\":"), not_a_journal(path));
            journal.begin()?;
            return Ok(journal);
        }
        let mut lines = text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let header: Option<Header> = lines.next().and_then(|line| serde_json::from_slice(line).ok());
        let header = header.filter(|header| header.version == VERSION).with_context(|| not_a_journal(path))?;
        if job.is_some_and(|job| job != header.job) {
            journal.begin()?;
            return Ok(journal);
        }
        ensure!(
            header.sha256 == sha256,
            "{} is of a file with another content: the file has changed since its import began; --job NAME starts anew",
            path.display()
        );
        ensure!(
            header.target == target,
            "{} is of an import to {}, and this one is to {target}; --job NAME starts anew",
            path.display(),
            header.target
        );
        for line in lines {
            let record: Record = serde_json::from_slice(line).with_context(|| not_a_journal(path))?;
            (journal.done, journal.is_finished) = (record.done, record.is_finished);
        }
        journal.header = header;
        journal.is_new = false;
        journal.file.set_len(whole as u64).with_context(cannot_open)?;
        journal.file.seek(SeekFrom::End(0)).with_context(cannot_open)?;
        Ok(journal)
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        let cannot_write = || format!("cannot write {}", self.path.display());
        self.file.set_len(0).with_context(cannot_write)?;
        self.file.rewind().with_context(cannot_write)?;
        let header = serde_json::to_string(&self.header)?;
        self.file.write_all(format!("{header}\n").as_bytes()).with_context(cannot_write)?;
        self.file.sync_all().with_context(cannot_write)?;
        // The name is synced too: otherwise the file could be gone after the power failed.
        let directory = self.path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).with_context(cannot_write)
    }

    /// All lines up to `done` are settled.
    pub(super) fn record(&mut self, done: u64, is_finished: bool) -> anyhow::Result<()> {
        let cannot_write = || format!("cannot write {}", self.path.display());
        let record = serde_json::to_string(&Record { done, is_finished })?;
        self.file.write_all(format!("{record}\n").as_bytes()).with_context(cannot_write)?;
        self.file.sync_data().with_context(cannot_write)?;
        (self.done, self.is_finished) = (done, is_finished);
        Ok(())
    }
}

fn not_a_journal(path: &Path) -> String {
    format!("{} is not a journal of an import; --journal names another place", path.display())
}
