//! nginx or HAProxy as a process, from the configuration that operators copy.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Answer, client_builder, eventually};

/// A proxy that the project has a configuration for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Nginx,
    Haproxy,
    /// nginx before three relays, without TLS.
    NginxOfFleet,
}

/// Those before one relay.
pub const KINDS: [Kind; 2] = [Kind::Nginx, Kind::Haproxy];

/// A running proxy. Dropping this ends it.
pub struct Proxy {
    child: Child,
    address: SocketAddr,
    scheme: &'static str,
    client: Client,
    directory: TempDir,
}

/// Ports below those that Linux gives to connections: nobody takes one of them while a relay is restarted.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port that nobody listens on now, and that no other call in this process gets.
pub fn free_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // Other processes of tests begin elsewhere.
    let begin = 97 * std::process::id() as usize;
    loop {
        let offset = (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS.len();
        let port = PORTS.start + u16::try_from(offset).expect("less than the length");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Replaces what is there exactly once.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from} is in the configuration once");
    text.replace(from, to)
}

/// nginx's own settings around the file that operators copy: one process, and nothing outside of this directory.
fn around(directory: &str) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let paths: String = kinds.map(|kind| format!("{kind}_temp_path {directory}/{kind};\n")).concat();
    format!(
        "daemon off;\nmaster_process off;\npid {directory}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n{paths}\
         include {directory}/relay.conf;\n}}\n"
    )
}

impl Proxy {
    /// Starts it in front of the relays at these addresses, and waits until it listens.
    pub async fn start(kind: Kind, relays: &[String]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut command = command(kind, directory.path(), relays, address);
        let output = File::create(directory.path().join("output")).expect("a file");
        command.stdin(Stdio::null()).stderr(output.try_clone().expect("a file")).stdout(output);
        let child = command.spawn().unwrap_or_else(|error| panic!("run tests/tools/proxies: {error}"));
        let client = client_builder().tls_danger_accept_invalid_certs(true).build().expect("a client");
        let scheme = if kind == Kind::NginxOfFleet { "http" } else { "https" };
        let mut proxy = Self { child, address, scheme, client, directory };
        eventually(|| {
            let ended = proxy.child.try_wait().expect("a child");
            assert!(ended.is_none(), "{kind:?} ended: {}", proxy.output());
            async move { tokio::net::TcpStream::connect(address).await.is_ok() }
        })
        .await;
        proxy
    }

    /// What it printed so far.
    fn output(&self) -> String {
        fs::read_to_string(self.directory.path().join("output")).expect("a file")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A request, over TLS if the proxy speaks it.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}://{}{path}", self.scheme, self.address))
    }

    /// `POST /customers`.
    pub fn post(&self, customer: &Value) -> RequestBuilder {
        self.request(Method::POST, "/customers").json(customer)
    }

    /// Sends a request, which gets an answer.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        Answer::of(request.send().await.expect("an answer")).await.expect("a whole answer")
    }

    /// Sends a request whose path is not normalised first. Its status and head.
    pub async fn raw(&self, method: &str, path: &str) -> (u16, String) {
        let url = format!("{}://{}{path}", self.scheme, self.address);
        let arguments =
            ["--silent", "--insecure", "--path-as-is", "--include", "--noproxy", "*", "--request", method, &url];
        let output = tokio::process::Command::new("curl").args(arguments).output().await.expect("curl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let head = text.split("\r\n\r\n").next().unwrap_or_default().to_owned();
        (status.unwrap_or_else(|| panic!("{method} {path}: {output:?}")), head)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program with the configuration, in which addresses and paths are replaced.
fn command(kind: Kind, directory: &Path, relays: &[String], address: SocketAddr) -> Command {
    let read =
        |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a configuration");
    let at = directory.display().to_string();
    certificate(&at);
    match kind {
        Kind::Nginx => {
            let conf = read("config/nginx/segment-relay.conf");
            let [relay] = relays else { panic!("one relay") };
            let conf = replaced(&conf, "server 127.0.0.1:8080;", &format!("server {relay};"));
            let conf = replaced(&conf, "listen 443 ssl;", &format!("listen {address} ssl;"));
            let conf = replaced(&conf, "/etc/nginx/certs/segment-relay.crt", &format!("{at}/certificate.pem"));
            let conf = replaced(&conf, "/etc/nginx/certs/segment-relay.key", &format!("{at}/key.pem"));
            let conf = replaced(&conf, "/var/log/nginx/segment-relay.log", &format!("{at}/access.log"));
            nginx(directory, &conf)
        }
        Kind::NginxOfFleet => {
            let mut conf = read("config/nginx/fleet.conf");
            for (number, relay) in (1..).zip(relays) {
                conf = replaced(&conf, &format!("server relay-{number}:8080 "), &format!("server {relay} "));
            }
            assert!(!conf.contains("server relay-"), "a relay is missing");
            let conf = replaced(&conf, "listen 8080;", &format!("listen {address};"));
            let conf = replaced(&conf, "/var/log/nginx/access.log", &format!("{at}/access.log"));
            nginx(directory, &conf)
        }
        Kind::Haproxy => {
            let [relay] = relays else { panic!("one relay") };
            let conf = read("config/haproxy/haproxy.cfg");
            let conf = replaced(&conf, "server relay 127.0.0.1:8080", &format!("server relay {relay}"));
            let conf = replaced(&conf, "bind :443 ", &format!("bind {address} "));
            let conf = replaced(&conf, "/etc/haproxy/certs/segment-relay.pem", &format!("{at}/both.pem"));
            // Only root may do these.
            let conf = replaced(&conf, "    chroot /var/lib/haproxy\n    user haproxy\n    group haproxy\n", "");
            fs::write(directory.join("haproxy.cfg"), conf).expect("a file");
            let mut haproxy = found("haproxy");
            haproxy.args(["-f", &format!("{at}/haproxy.cfg")]);
            haproxy
        }
    }
}

/// nginx with this configuration inside of its block http.
fn nginx(directory: &Path, conf: &str) -> Command {
    let at = directory.display().to_string();
    fs::write(directory.join("relay.conf"), conf).expect("a file");
    fs::write(directory.join("nginx.conf"), around(&at)).expect("a file");
    let mut nginx = found("nginx");
    nginx.args(["-e", "stderr", "-p", &at, "-c", &format!("{at}/nginx.conf")]);
    nginx
}

/// A program that Debian keeps where only root looks.
fn found(program: &str) -> Command {
    let places = ["/usr/sbin", "/usr/local/sbin"].map(|place| Path::new(place).join(program));
    Command::new(places.iter().find(|path| path.exists()).map_or(Path::new(program), |path| path))
}

/// A certificate and its key, each in a file and both in one.
fn certificate(at: &str) {
    let (key, certificate) = (format!("{at}/key.pem"), format!("{at}/certificate.pem"));
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-keyout", &key, "-out", &certificate])
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("openssl: run tests/tools/proxies").success());
    let both = fs::read_to_string(&certificate).expect("a file") + &fs::read_to_string(&key).expect("a file");
    fs::write(format!("{at}/both.pem"), both).expect("a file");
}
