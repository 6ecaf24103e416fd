//! The profile `fleet` of docker-compose.yml, by the programs of its services: PostgreSQL and its synchronous standby from the scripts of
//! `config/postgres`. nginx from `config/nginx/fleet.conf` is in `proxied`.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::at_last;
use crate::harness::postgres::{NOBODY, free_port, is_root, program};

/// The password of compose when POSTGRES_PASSWORD is not set.
const PASSWORD: &str = "segment-relay";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A service as compose reads it.
fn service(name: &str) -> Value {
    let file = fs::read_to_string(path("docker-compose.yml")).expect("a file");
    let compose: Value = serde_saphyr::from_str(&file).expect("YAML");
    compose["services"][name].clone()
}

/// A service's variable, with the default of what compose would put in.
fn variable(service: &Value, name: &str) -> String {
    let value = service["environment"][name].as_str().unwrap_or_else(|| panic!("no {name}"));
    value.replace(&format!("${{POSTGRES_PASSWORD:-{PASSWORD}}}"), PASSWORD)
}

/// The script of `config/postgres` that a service mounts at this path.
fn mounted(service: &Value, at: &str) -> PathBuf {
    let mut volumes = service["volumes"].as_array().expect("volumes").iter().filter_map(Value::as_str);
    path(volumes.find_map(|volume| volume.strip_suffix(&format!(":{at}:ro"))).expect("it is mounted"))
}

/// One server of PostgreSQL, on a free port, in a directory of its own.
struct Server {
    home: TempDir,
    port: u16,
    process: Option<Child>,
}

impl Server {
    /// A directory for a server, in which an unprivileged user may write: PostgreSQL does not run as root.
    fn prepared() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).expect("the owner");
        Self { home, port: free_port(), process: None }
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("pgdata")
    }

    /// A program as the unprivileged user, with a clean environment, which ends when the tests do. It reaches this server by its socket.
    fn command(&self, name: impl AsRef<Path>) -> Command {
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=KILL");
        if is_root() {
            command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
        }
        let folder = program("postgres").parent().expect("a folder").display().to_string();
        command.arg(name.as_ref()).env_clear().env("PATH", format!("{folder}:/usr/bin:/bin")).env("LC_ALL", "C");
        command.env("PGDATA", self.data()).env("PGHOST", self.home.path()).env("PGPORT", self.port.to_string());
        command.current_dir(self.home.path());
        command
    }

    /// What the server is told besides its own settings.
    fn arguments(&self, listen: &str) -> Vec<String> {
        let home = self.home.path().display();
        let settings = [format!("listen_addresses={listen}"), format!("unix_socket_directories={home}")];
        let port = format!("port={}", self.port);
        settings.into_iter().chain([port]).flat_map(|setting| ["-c".to_owned(), setting]).collect()
    }

    /// Starts the server by this command, and waits until it answers.
    async fn start(&mut self, mut command: Command) {
        let log = File::create(self.home.path().join("log")).expect("a file");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        self.process = Some(command.spawn().expect("a process"));
        at_last(|| {
            let ended = self.process.as_mut().and_then(|process| process.try_wait().expect("a child"));
            assert!(ended.is_none(), "{}", fs::read_to_string(self.home.path().join("log")).unwrap_or_default());
            let is_ready = self.command("pg_isready").output().expect("pg_isready").status.success();
            async move { is_ready }
        })
        .await;
    }

    /// Ends the server as a stop of the container does (INT), or at once (QUIT).
    fn stop(&mut self, signal: &str) {
        let Some(mut process) = self.process.take() else { return };
        let kill = format!("kill -{signal} {}", process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success(), "{kill}");
        process.wait().expect("a child");
    }

    /// A statement as this user, over TCP with the password. The superuser has none, and comes by the socket.
    fn ask(&self, user: &str, database: &str, statement: &str) -> Command {
        let mut psql = self.command("psql");
        if user != "postgres" {
            psql.env("PGHOST", "127.0.0.1").env("PGPASSWORD", PASSWORD);
        }
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--username", user, "--dbname", database]);
        psql.args(["--command", statement]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        psql
    }

    /// What a statement that succeeds prints.
    fn tell(&self, user: &str, database: &str, statement: &str) -> String {
        let output = self.ask(user, database, statement).output().expect("psql");
        assert!(output.status.success(), "{statement}: {output:?}");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop("QUIT");
    }
}

/// A server that was made as the image of PostgreSQL makes it: a superuser with a password, the script, a restart.
async fn primary() -> Server {
    let (service, mut server) = (service("primary"), Server::prepared());
    assert_eq!(service["environment"]["PGDATA"], "/var/lib/postgresql/data/pgdata", "the volume is at its parent");
    let initdb = server.command("initdb").args(["--username=postgres", "--auth=trust", "--no-sync"]).output();
    assert!(initdb.as_ref().is_ok_and(|output| output.status.success()), "{initdb:?}");
    let hba = server.data().join("pg_hba.conf");
    let rules =
        fs::read_to_string(&hba).expect("a file").replace("127.0.0.1/32            trust", "0.0.0.0/0 scram-sha-256");
    fs::write(&hba, rules).expect("a file");
    let mut command = server.command("postgres");
    command.args(server.arguments(""));
    server.start(command).await;
    let script = mounted(&service, "/docker-entrypoint-initdb.d/segment-relay.sh");
    let mut run = server.command(script);
    run.env("POSTGRES_USER", "postgres").env("POSTGRES_DB", "postgres");
    let output = run.env("POSTGRES_PASSWORD", variable(&service, "POSTGRES_PASSWORD")).output().expect("a shell");
    assert!(output.status.success(), "{output:?}");
    server.stop("INT");
    let mut command = server.command("postgres");
    command.args(server.arguments("127.0.0.1"));
    server.start(command).await;
    server
}

/// The standby of this server, as compose starts it.
async fn standby(primary: &Server) -> Server {
    let (service, mut server) = (service("standby"), Server::prepared());
    let mut command = server.command(mounted(&service, "/standby.sh"));
    assert_eq!(service["entrypoint"], serde_json::json!(["/bin/sh", "/standby.sh"]));
    assert_eq!(variable(&service, "PGHOST"), "primary");
    command.env("PGHOST", "127.0.0.1").env("PGPORT", primary.port.to_string());
    command.env("PGUSER", variable(&service, "PGUSER")).env("PGPASSWORD", variable(&service, "PGPASSWORD"));
    command.args(service["command"].as_array().expect("arguments").iter().map(|word| word.as_str().expect("text")));
    command.args(server.arguments("127.0.0.1"));
    server.start(command).await;
    server
}

#[tokio::test]
async fn every_commit_of_the_fleets_database_waits_for_its_standby_which_can_take_its_place() {
    let url = variable(&service("relay-1"), "RELAY_OUTBOX_URL");
    let [user, database] = ["segment_relay", "segment_relay"];
    assert!(url.starts_with(&format!("postgres://{user}:{PASSWORD}@primary,standby/{database}?")), "{url}");
    let mut primary = primary().await;
    // There is no standby yet, so a commit waits until somebody cancels it.
    let waits = primary.ask(user, database, "CREATE TABLE waits ()").spawn().expect("psql");
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    at_last(async || primary.tell("postgres", "postgres", cancel) == "t").await;
    let output = waits.wait_with_output().expect("psql");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("canceling wait for synchronous replication"),
        "{output:?}"
    );
    let standby = standby(&primary).await;
    let state = "SELECT application_name, sync_state FROM pg_stat_replication";
    at_last(async || primary.tell("postgres", "postgres", state) == "standby|sync").await;
    // What the relay does first.
    primary.tell(user, database, "CREATE SCHEMA segment_relay; CREATE TABLE segment_relay.calls (id bigint)");
    primary.tell(user, database, "INSERT INTO segment_relay.calls VALUES (7)");
    primary.stop("QUIT");
    let promoted = standby.command("pg_ctl").arg("promote").output().expect("pg_ctl");
    assert!(promoted.status.success(), "{promoted:?}");
    assert_eq!(standby.tell(user, database, "SELECT id FROM segment_relay.calls"), "7");
    standby.tell(user, database, "INSERT INTO segment_relay.calls VALUES (8)");
}
