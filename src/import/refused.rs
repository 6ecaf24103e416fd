//! The file of lines that were not taken: one JSON a line, with the line's number and every reason.
//!
//! It has the numbers and not the customers, who are in the imported file already.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::customer::BrokenRule;

/// How each line begins. A file that begins otherwise is somebody else's.
const BEGIN: &[u8] = br#"{"line":"#;

/// Why a line was not taken.
#[derive(Default, Serialize)]
pub(super) struct Reasons {
    /// Rules of customers that it breaks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) problems: Vec<BrokenRule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// The status of the answer, if it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
}

impl Reasons {
    pub(super) fn of(reason: impl Into<String>, status: Option<u16>) -> Self {
        Self { problems: Vec::new(), reason: Some(reason.into()), status }
    }
}

#[derive(Serialize)]
struct Entry<'a> {
    line: u64,
    #[serde(flatten)]
    reasons: &'a Reasons,
}

#[derive(Deserialize)]
struct Numbered {
    line: u64,
}

pub(super) struct RefusedFile {
    path: PathBuf,
    /// `None` as long as there is nothing to write.
    file: Option<BufWriter<File>>,
    /// Lines behind the journal that an earlier run has written.
    known: HashSet<u64>,
    /// All lines in the file.
    pub(super) lines: u64,
    is_synced: bool,
}

impl RefusedFile {
    /// Continues the file of a job whose journal stands at line `done`. `None`: the job begins, and an old file goes.
    pub(super) fn open(path: &Path, done: Option<u64>) -> anyhow::Result<Self> {
        let mut refused = Self { path: path.to_owned(), file: None, known: HashSet::new(), lines: 0, is_synced: true };
        if path.symlink_metadata().is_err() {
            return Ok(refused);
        }
        let cannot_write = || format!("cannot write {}; --refused names another place", path.display());
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).open(path).with_context(cannot_write)?;
        let mut begin = Vec::new();
        (&mut file).take(BEGIN.len() as u64).read_to_end(&mut begin).with_context(cannot_write)?;
        ensure!(
            BEGIN.starts_with(&begin),
            "{} has no lines of an import; --refused names another place",
            path.display()
        );
        file.rewind().with_context(cannot_write)?;
        let mut whole = 0;
        if let Some(done) = done {
            let mut reader = BufReader::new(&mut file);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).with_context(cannot_write)? > 0 && line.ends_with(b"\n") {
                let Ok(Numbered { line: number }) = serde_json::from_slice(&line) else { break };
                whole += line.len() as u64;
                refused.lines += 1;
                if number > done {
                    refused.known.insert(number);
                }
                line.clear();
            }
        }
        // What is behind the last whole line is torn.
        file.set_len(whole).with_context(cannot_write)?;
        file.seek(SeekFrom::End(0)).with_context(cannot_write)?;
        refused.file = Some(BufWriter::new(file));
        Ok(refused)
    }

    pub(super) fn add(&mut self, line: u64, reasons: &Reasons) -> anyhow::Result<()> {
        if self.known.remove(&line) {
            return Ok(());
        }
        let cannot_write = || format!("cannot write {}; --refused names another place", self.path.display());
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path);
                self.file.insert(BufWriter::new(file.with_context(cannot_write)?))
            }
        };
        serde_json::to_writer(&mut *file, &Entry { line, reasons }).with_context(cannot_write)?;
        file.write_all(b"\n").with_context(cannot_write)?;
        self.lines += 1;
        self.is_synced = false;
        Ok(())
    }

    /// Everything is on disk when this returns.
    pub(super) fn sync(&mut self) -> anyhow::Result<()> {
        let Some(file) = self.file.as_mut().filter(|_| !self.is_synced) else { return Ok(()) };
        let synced = file.flush().and_then(|()| file.get_ref().sync_data());
        synced.with_context(|| format!("cannot write {}", self.path.display()))?;
        self.is_synced = true;
        Ok(())
    }
}
