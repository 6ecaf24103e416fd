//! Secrets from files (`_FILE`), and SIGHUP, which reads them again.

mod read_again;
mod settings;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A directory of files, each of which holds one secret.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes a file, and returns its path.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name).display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    fn directory(&self) -> &Path {
        self.0.path()
    }
}
