//! A PostgreSQL cluster of one test. It is gone when it is dropped.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use super::connect::{Connection, Connector};

/// PostgreSQL does not run as root.
const NOBODY: u32 = 65534;

pub(super) const PASSWORD: &str = "s3cret-of-tests";

pub(super) struct TestCluster {
    directory: TempDir,
    pub(super) port: u16,
    server: Child,
}

/// The directory of PostgreSQL's programs: the newest version of Debian's, or that of the `PATH`.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists()).max();
    newest.unwrap_or_else(|| name.into())
}

fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

impl TestCluster {
    /// Starts a cluster whose superuser is `postgres`, with these lines in `postgresql.conf` and `pg_hba.conf`. The server's
    /// certificate is in its directory.
    pub(super) fn start(settings: &str, hba: &str) -> Self {
        Self::start_with(settings, hba, &[])
    }

    /// The same with empty files of these names in the data directory.
    pub(super) fn start_with(settings: &str, hba: &str, files: &[&str]) -> Self {
        let base = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let directory = tempfile::tempdir_in(base).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
        for name in ["server.pem", "server.key", "authority.pem"] {
            fs::copy(certificates.join(name), directory.path().join(name)).unwrap();
        }
        fs::write(directory.path().join("password"), PASSWORD).unwrap();
        if geteuid().is_root() {
            let own = |path: &Path| std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            fs::read_dir(directory.path()).unwrap().for_each(|entry| own(&entry.unwrap().path()));
            own(directory.path());
        }
        fs::set_permissions(directory.path().join("server.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let (data, password) = (directory.path().join("data"), directory.path().join("password"));
        let mut init = command("initdb");
        init.args([
            "--no-sync",
            "--no-instructions",
            "-E",
            "UTF8",
            "--locale=C",
            "-U",
            "postgres",
            "-A",
            "scram-sha-256",
        ]);
        assert!(init.arg("--pwfile").arg(password).arg("-D").arg(&data).status().unwrap().success(), "initdb failed");
        let socket = directory.path().display().to_string();
        let more = format!(
            "\nunix_socket_directories = '{socket}'\nlisten_addresses = '127.0.0.1'\nport = {port}\n{settings}\n"
        );
        let conf = data.join("postgresql.conf");
        fs::write(&conf, fs::read_to_string(&conf).unwrap() + &more).unwrap();
        fs::write(
            data.join("pg_hba.conf"),
            format!("{hba}\nlocal all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n"),
        )
        .unwrap();
        for name in files {
            fs::write(data.join(name), "").unwrap();
            if geteuid().is_root() {
                std::os::unix::fs::chown(data.join(name), Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let server = command("postgres").arg("-D").arg(&data).spawn().unwrap();
        Self { directory, port, server }
    }

    /// The URL of a user, with the password of all, and further parameters.
    pub(super) fn url(&self, user: &str, database: &str, parameters: &str) -> String {
        format!("postgres://{user}:{PASSWORD}@127.0.0.1:{}/{database}?{parameters}", self.port)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A connection of the superuser, once the server is up.
    pub(super) async fn admin(&self, database: &str) -> Connection {
        let url = self.url("postgres", database, "sslmode=disable").parse().unwrap();
        let connector = Connector::new(&url).unwrap();
        loop {
            match connector.open("test").await {
                Ok(connection) => return connection,
                Err(error) if error.is_final() => panic!("{error}"),
                // It starts.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw) {
            // An immediate stop.
            let _ = kill_process(pid, Signal::QUIT);
        }
        let _ = self.server.wait();
    }
}
