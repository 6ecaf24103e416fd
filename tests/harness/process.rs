//! The built binary as a child process: its settings, its output, its end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::wait::eventually;

/// A running `segment-relay`, killed when this is dropped.
pub struct Process {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

type Lines = Arc<Mutex<Vec<String>>>;

impl Process {
    /// Starts the binary. Of the environment it sees these settings and nothing else that could mean something to it.
    pub fn start(arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::of(Command::new(env!("CARGO_BIN_EXE_segment-relay")), arguments, settings)
    }

    /// The same from a shell that sets limits first, such as `ulimit -S -n 1024`.
    pub fn limited(limits: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{limits} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_segment-relay")]);
        Self::of(shell, arguments, settings)
    }

    fn of(mut command: Command, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        for (name, _) in std::env::vars_os() {
            let shown = name.to_string_lossy().to_ascii_uppercase();
            let prefixed = ["RELAY_", "SEGMENT_", "OTEL_"].iter().any(|prefix| shown.starts_with(prefix));
            let common = shown == "PORT" || shown.ends_with("_PROXY") || shown.starts_with("SSL_CERT_");
            if prefixed || common {
                command.env_remove(name);
            }
        }
        command.args(arguments).envs(settings.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stdout = read(child.stdout.take().expect("a pipe"));
        let stderr = read(child.stderr.take().expect("a pipe"));
        Self { child, stdout, stderr }
    }

    /// The lines on standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.lock().unwrap().clone()
    }

    /// The lines on standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits for a line on standard output of which `find` makes something.
    pub async fn line<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> T {
        let mut found = None;
        eventually(|| {
            found = self.stdout().iter().find_map(|line| find(line));
            let ended = self.child.try_wait().expect("a child").is_some();
            let is_there = found.is_some();
            assert!(is_there || !ended, "it ended: {:?} {:?}", self.stdout(), self.stderr());
            async move { is_there }
        })
        .await;
        found.expect("just found")
    }

    /// Sends it a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("a shell");
        assert!(status.success(), "{kill}");
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How much memory it has in use now, in bytes, as Linux counts it.
    pub fn memory(&self) -> u64 {
        self.memory_of("VmRSS:")
    }

    /// The most it ever had in use, in bytes, as Linux counts it.
    pub fn peak_memory(&self) -> u64 {
        self.memory_of("VmHWM:")
    }

    fn memory_of(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("Linux, and a process");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect(field);
        1024 * line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Waits until it has ended and all it wrote was read. `None` if a signal ended it.
    pub async fn exit_code(&mut self) -> Option<i32> {
        eventually(|| {
            let ended = !self.is_running();
            // The readers drop their ends when the pipes are closed.
            let read = Arc::strong_count(&self.stdout) + Arc::strong_count(&self.stderr) == 2;
            async move { ended && read }
        })
        .await;
        self.child.wait().expect("a child").code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which is just as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(pipe: impl Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let end = lines.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            end.lock().unwrap().push(line);
        }
    });
    lines
}
