//! A Prometheus of Debian's package, on a free port, and `promtool`.
//!
//! All of it goes when the [`Prometheus`] is dropped, or when the process of the test ends in any other way.

use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

/// Runs Prometheus with this configuration and this directory of data. It is killed when the standard input of the shell is closed,
/// which the system does when the test's process ends. Standard output is Prometheus' alone, so that it ends with it.
const SERVER: &str = "set -m; prometheus --config.file=\"$1\" --storage.tsdb.path=\"$2\" --web.listen-address=127.0.0.1:0 2>&1 & \
                      exec >/dev/null; read -r _; kill -KILL -- -$!; wait";

/// A Prometheus with data of its own.
pub struct Prometheus {
    shell: Child,
    /// Closed to end it.
    input: Option<ChildStdin>,
    address: String,
    client: Client,
    /// Where it keeps its data.
    _home: TempDir,
}

impl Prometheus {
    /// Starts one with this configuration, and waits until it listens.
    pub fn start(config: &Path) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let mut command = Command::new("bash");
        command.args(["-c", SERVER, "bash"]).args([config, home.path()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // A Ctrl-C is for the test, whose end ends this.
        command.process_group(0);
        let mut shell = command.spawn().expect("bash");
        let input = shell.stdin.take();
        let mut lines = BufReader::new(shell.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        let mut seen = String::new();
        let address = lines.find_map(|line| {
            seen += &format!("{line}\n");
            Some(line.split_once("\"Listening on\" address=")?.1.to_owned())
        });
        let address =
            address.unwrap_or_else(|| panic!("Prometheus (tests/tools/prometheus installs it) said:\n{seen}"));
        // It must be able to write more.
        std::thread::spawn(move || lines.count());
        Self { shell, input, address, client: super::client(), _home: home }
    }

    /// The data of its answer at this path of its API, which is a success.
    pub async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Value {
        self.try_ask(path, query).await.unwrap_or_else(|error| panic!("{path} {query:?}: {error}"))
    }

    /// The same.
    ///
    /// # Errors
    /// What Prometheus says against the request.
    pub async fn try_ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let mut url = reqwest::Url::parse(&format!("http://{}/api/v1/{path}", self.address)).expect("a URL");
        url.query_pairs_mut().extend_pairs(query);
        let answer = self.client.get(url).send().await.map_err(|error| error.to_string())?;
        let mut answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        if answer["status"] == "success" { Ok(answer["data"].take()) } else { Err(answer["error"].to_string()) }
    }

    /// The series that this expression gives now.
    pub async fn series(&self, expression: &str) -> Vec<Value> {
        let mut data = self.ask("query", &[("query", expression)]).await;
        assert_eq!(data["resultType"], "vector", "{expression}");
        let Value::Array(series) = data["result"].take() else { panic!("{expression}: {data}") };
        series
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.shell.wait();
    }
}

/// Runs `promtool` with this input. Returns what it says, if it found nothing.
///
/// # Panics
/// If it found anything.
pub fn promtool(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool; tests/tools/prometheus installs it");
    // A promtool that reads no input may have ended.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("its output");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}:\n{said}");
    said
}
