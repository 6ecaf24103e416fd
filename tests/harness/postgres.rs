//! PostgreSQL clusters for tests: on free ports, as a user without rights, gone when the test process is.
//!
//! It depends on nothing of the project, so that the unit tests of the store use it, too.
//!
//! A shell watches over each cluster: it holds a pipe from the test process, and when that ends, however it does, the shell kills the
//! cluster and deletes its directory.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, NoTls};

/// Whom PostgreSQL runs as where the tests run as root, which it refuses: nobody.
pub const NOBODY: u32 = 65_534;

/// The cluster's superuser.
const SUPERUSER: &str = "postgres";

/// Kills what `postmaster.pid` names, and its children, which end when it does; then deletes the directory.
const WATCH: &str = r#"cat >/dev/null; [ -f "$0/data/postmaster.pid" ] && kill -9 "$(head -n 1 "$0/data/postmaster.pid")" 2>/dev/null; sleep 0.2; rm -rf "$0""#;

/// Runs a program, and kills it when the pipe closes.
const TETHER: &str = r#""$@" & p=$!; cat >/dev/null; kill -9 $p 2>/dev/null; wait $p"#;

/// A running server, or one that was stopped.
pub struct Cluster {
    directory: PathBuf,
    port: u16,
    /// Dropped last: its pipe closes.
    _watch: Tether,
}

/// A child whose end is the end of the pipe to it.
struct Tether(Child);

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are cut, and what is committed is written.
    Fast,
    /// As after a crash: the next start recovers from the log.
    Immediate,
    /// Every process is killed at once.
    Kill,
}

impl Cluster {
    /// One cluster for the whole test process, with default settings.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&["max_connections=400"]))
    }

    /// A new cluster with these settings, each `name=value`.
    pub fn start(settings: &[&str]) -> Self {
        let mut cluster = Self::new();
        let data = cluster.data();
        run(unprivileged(&program("initdb"))
            .args(["--pgdata", &data, "--auth=trust", "--username", SUPERUSER])
            .args(["--encoding=UTF8", "--locale=C", "--no-sync"]));
        cluster.set(settings);
        cluster.start_at_free_port();
        cluster
    }

    /// A streaming copy of this cluster, called `name`. It is a synchronous standby when `synchronous_standby_names` says so.
    pub fn standby(&self, name: &str) -> Self {
        let mut standby = Self::new();
        let from = format!("host=127.0.0.1 port={} user={SUPERUSER} application_name={name}", self.port);
        run(unprivileged(&program("pg_basebackup"))
            .args(["--pgdata", &standby.data(), "--write-recovery-conf"])
            .args(["--checkpoint=fast", "--no-sync", "--dbname", &from]));
        standby.set(&[&format!("cluster_name={name}")]);
        standby.start_at_free_port();
        standby
    }

    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("relay-postgres").tempdir().expect("a directory").keep();
        if is_root() {
            chown(&directory, Some(NOBODY), Some(NOBODY)).expect("root may");
        }
        let watch = Tether::new(Command::new("sh").args(["-c", WATCH]).arg(&directory));
        Self { directory, port: 0, _watch: watch }
    }

    /// It holds the data, the log and the sockets.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn data(&self) -> String {
        self.directory.join("data").display().to_string()
    }

    /// Sets `name=value` for the next start. The last one of a name counts.
    pub fn set(&self, settings: &[&str]) {
        let path = self.directory.join("data/postgresql.auto.conf");
        let mut text = fs::read_to_string(&path).unwrap_or_default();
        for setting in settings {
            let (name, value) = setting.split_once('=').expect("name=value");
            text.push_str(&format!("{name} = '{value}'\n"));
        }
        fs::write(path, text).expect("a file");
    }

    fn start_at_free_port(&mut self) {
        // Somebody else may take the port in between.
        for _ in 0..20 {
            self.port = free_port();
            if self.try_start() {
                return;
            }
        }
        panic!("PostgreSQL does not start: {}", self.log());
    }

    /// Starts it again at its port.
    pub fn restart(&self) {
        assert!(self.try_start(), "PostgreSQL does not start: {}", self.log());
    }

    fn try_start(&self) -> bool {
        let log = self.directory.join("log").display().to_string();
        let sockets = self.directory.display();
        let options =
            format!("-c listen_addresses=127.0.0.1 -c unix_socket_directories={sockets} -c port={}", self.port);
        let mut start = unprivileged(&program("pg_ctl"));
        start.args(["start", "--wait", "--timeout=60", "--pgdata", &self.data(), "--log", &log, "--options", &options]);
        start.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("pg_ctl").success()
    }

    /// What the server logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    pub fn stop(&self, how: Stop) {
        let mode = match how {
            Stop::Kill => return self.kill(),
            Stop::Immediate => "--mode=immediate",
            Stop::Fast => "--mode=fast",
        };
        run(unprivileged(&program("pg_ctl")).args(["stop", "--wait", mode, "--pgdata", &self.data()]));
    }

    /// Kills the postmaster and all its children, and waits until they are gone.
    fn kill(&self) {
        let postmaster = self.postmaster();
        // It would make another child, or begin to recover when it saw one die.
        signal("STOP", &[postmaster]);
        let all: Vec<u32> = children_of(postmaster).into_iter().chain([postmaster]).collect();
        signal("KILL", &all);
        while all.iter().any(|pid| is_alive(*pid)) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        // Somebody who does not wait for the dead child keeps its number in use, and the next start would take it for a server.
        for file in ["data/postmaster.pid", &format!(".s.PGSQL.{}.lock", self.port)] {
            fs::remove_file(self.directory.join(file)).expect("a file");
        }
    }

    /// Kills the process that serves a connection, by the number that `pg_backend_pid()` says.
    pub fn kill_backend(&self, pid: i32) {
        signal("KILL", &[u32::try_from(pid).expect("a process")]);
    }

    /// Stops the postmaster and all its children for a while, or lets them go on (`STOP`, `CONT`).
    pub fn freeze(&self, name: &str) {
        let postmaster = self.postmaster();
        let all: Vec<u32> = children_of(postmaster).into_iter().chain([postmaster]).collect();
        signal(name, &all);
    }

    fn postmaster(&self) -> u32 {
        let file = fs::read_to_string(self.directory.join("data/postmaster.pid")).expect("it runs");
        file.lines().next().expect("a line").parse().expect("a number")
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        run(unprivileged(&program("pg_ctl")).args(["promote", "--wait", "--pgdata", &self.data()]));
    }

    /// Reads changed settings again, as after [`set`](Self::set).
    pub fn reload(&self) {
        run(unprivileged(&program("pg_ctl")).args(["reload", "--pgdata", &self.data()]));
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database of this cluster.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database. Returns its name.
    pub async fn create_database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("relay_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.client("postgres").await.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
        name
    }

    /// A connection as the superuser.
    pub async fn client(&self, database: &str) -> Client {
        client(&self.url(database)).await
    }

    /// Runs statements as the superuser.
    pub async fn execute(&self, database: &str, statements: &str) {
        self.client(database).await.batch_execute(statements).await.expect("the statements");
    }
}

/// A connection to the database of a URL.
pub async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    #[expect(clippy::disallowed_methods, reason = "there is no supervisor in a test; it ends with the client")]
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// PgBouncer in transaction mode in front of a cluster.
pub struct PgBouncer {
    port: u16,
    _tether: Tether,
    _directory: tempfile::TempDir,
}

impl PgBouncer {
    pub async fn start(cluster: &Cluster) -> Self {
        let directory = tempfile::Builder::new().prefix("relay-pgbouncer").tempdir().expect("a directory");
        let (port, ini) = (free_port(), directory.path().join("pgbouncer.ini"));
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user={SUPERUSER}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 10\nmax_client_conn = 200\n",
            cluster.port
        );
        fs::write(&ini, text).expect("a file");
        if is_root() {
            chown(directory.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
        }
        let mut command = Command::new("sh");
        command.args(["-c", TETHER, "sh"]).args(as_nobody()).arg("pgbouncer").arg("--quiet").arg(&ini);
        command.env("PATH", format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default()));
        let bouncer = Self { port, _tether: Tether::new(command.stderr(Stdio::null())), _directory: directory };
        for _ in 0..1000 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return bouncer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("PgBouncer does not start");
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/{database}", self.port)
    }
}

impl Tether {
    fn new(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a shell"))
    }
}

impl Drop for Tether {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A port that nobody used a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// The newest server's program of this name: Debian keeps them where no path leads.
pub fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &Path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(|path| number(path));
    newest.map_or_else(|| PathBuf::from(name), |path| path.join("bin").join(name))
}

/// Whether the server's programs are there.
pub fn is_installed() -> bool {
    Command::new(program("initdb")).arg("--version").output().is_ok_and(|output| output.status.success())
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").expect("Linux").uid() == 0
}

/// What comes before a command, so that it runs without rights.
fn as_nobody() -> Vec<String> {
    if !is_root() {
        return Vec::new();
    }
    ["setpriv".into(), format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".into()].into()
}

fn unprivileged(program: &Path) -> Command {
    let words = [as_nobody(), vec![program.display().to_string()]].concat();
    let mut command = Command::new(&words[0]);
    // The directory of the tests may be one that nobody may enter.
    command.args(&words[1..]).current_dir("/");
    command
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("a program: run tests/tools/postgres");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn signal(name: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    // One that has ended meanwhile is an error that does not matter.
    let _ = Command::new("kill").arg(format!("-{name}")).args(pids).stderr(Stdio::null()).status();
}

/// The parent of a process, and whether it is more than a zombie.
fn stat(pid: u32) -> Option<(u32, bool)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    let state = words.next()?;
    Some((words.next()?.parse().ok()?, !matches!(state, "Z" | "X")))
}

fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(_, is_alive)| is_alive)
}

fn children_of(parent: u32) -> Vec<u32> {
    let all =
        fs::read_dir("/proc").expect("Linux").flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(|pid: &u32| stat(*pid).is_some_and(|(of, _)| of == parent)).collect()
}
