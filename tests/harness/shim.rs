//! The preload library of `tests/shim/disk.rs`: built once a process, put before a relay, directed by a file.
//!
//! It needs Linux with a dynamically linked relay; where it does not take hold, [`Shim::trace`] fails loudly.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::durable::Durable;
use super::trace::Trace;

/// What one relay with the library before it writes and reads.
pub struct Shim {
    directory: TempDir,
}

impl Shim {
    /// Puts the library before the next relay that `durable` starts. Nothing fails yet.
    pub fn before(durable: &mut Durable) -> Self {
        let shim = Self { directory: tempfile::tempdir().expect("a directory") };
        shim.heal();
        let file = durable.file();
        let directory = durable.directory().to_owned();
        for (name, value) in [
            ("LD_PRELOAD", built()),
            ("SHIM_OUTBOX", &*file),
            ("SHIM_DIRECTORY", &*directory),
            ("SHIM_LOG", &*shim.log()),
            ("SHIM_CONTROL", &*shim.control()),
        ] {
            durable.set(name, value.to_str().expect("a path in UTF-8"));
        }
        shim
    }

    /// The relays to come are without it.
    pub fn removed(self, durable: &mut Durable) {
        durable.unset("LD_PRELOAD");
    }

    /// From now on the disk fails like this, and in no other way: `fail-sync N`, `room N`,
    /// `no-shared-memory 1`.
    pub fn fail(&self, fault: &str) {
        // Moved to its place, so that nobody reads half of it.
        let aside = self.directory.path().join("aside");
        fs::write(&aside, format!("{fault}\n")).expect("a file");
        fs::rename(&aside, self.control()).expect("a file");
    }

    /// From now on the disk is sound.
    pub fn heal(&self) {
        self.fail("");
    }

    /// Everything noted so far.
    ///
    /// # Panics
    /// If there is nothing: the library did not take hold.
    pub fn trace(&self) -> Trace {
        let bytes = fs::read(self.log()).unwrap_or_default();
        assert!(!bytes.is_empty(), "the library of tests/shim did not take hold: is the relay linked statically?");
        Trace::parse(&bytes)
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("trace")
    }

    fn control(&self) -> PathBuf {
        self.directory.path().join("control")
    }
}

/// The library, built with the compiler that is beside cargo.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shim/disk.rs");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shim-{}.so", std::process::id()));
        let beside_cargo = std::env::var_os("CARGO").map(|cargo| Path::new(&cargo).with_file_name("rustc"));
        let compiler = beside_cargo.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("rustc"));
        let arguments = ["--edition", "2024", "--crate-type", "cdylib", "-C", "panic=abort", "-C", "opt-level=1"];
        let built = Command::new(compiler)
            .args(arguments)
            .args(["-D", "warnings", "-o"])
            .args([&library, &source])
            .output()
            .expect("rustc, which builds tests/shim, can be run");
        assert!(built.status.success(), "tests/shim is not built: {}", String::from_utf8_lossy(&built.stderr));
        library
    })
}
