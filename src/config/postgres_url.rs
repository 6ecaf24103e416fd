//! The URL of an outbox in PostgreSQL, read as libpq reads it.
//!
//! No message repeats a value, because any part of a URL that is written wrongly may be a part of its password.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, LoadBalanceHosts, TargetSessionAttrs};

use super::endpoint::is_host;
use super::postgres_tls::{PostgresTls, RootCertificates, TlsMode, one_of, tls_mode};
use super::proxy::percent_decoded;
use super::value::Secret;

/// More than any cluster has. Each host that does not answer takes a part of the time in which a connection is opened.
const MAX_HOSTS: usize = 8;

/// How similar a parameter must be to one that libpq knows for a message to repeat its name, from 0 to 1. Another one may be a
/// part of a password.
const MIN_SIMILARITY: f64 = 0.7;

/// The parameters that mean something here.
const KNOWN: [&str; 19] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "target_session_attrs",
    "load_balance_hosts",
    "channel_binding",
    "connect_timeout",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "options",
    "gssencmode",
];

/// Those that libpq knows beside them.
const OTHERS: [&str; 19] = [
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "keepalives",
    "tcp_user_timeout",
    "passfile",
    "service",
    "replication",
    "requirepeer",
    "require_auth",
    "sslcompression",
    "sslpassword",
    "sslcertmode",
    "sslcrl",
    "sslcrldir",
    "sslsni",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
];

const DEFAULT_PORT: u16 = 5432;

/// The URL of a database. `Debug` and `Display` leave out the password and the parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    text: Secret,
    /// One for each host, in the order in which they are tried.
    hosts: Vec<Config>,
    /// Whether that order is another one each time.
    is_random: bool,
    tls: PostgresTls,
    shown: String,
}

impl PostgresUrl {
    /// The URL itself.
    pub fn reveal(&self) -> &str {
        self.text.reveal()
    }

    /// How each host is reached, in the order in which they are tried.
    pub fn hosts(&self) -> &[Config] {
        &self.hosts
    }

    /// Whether the order of the hosts is another one each time.
    pub fn is_random(&self) -> bool {
        self.is_random
    }

    pub fn tls(&self) -> &PostgresTls {
        &self.tls
    }

    /// Whether the relay knows by TLS that it talks to the right server, or needs no network to reach it.
    pub fn is_safe(&self) -> bool {
        let is_here = |host: &Host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
        };
        self.tls.mode == TlsMode::VerifyFull || self.hosts.iter().all(|config| config.get_hosts().iter().all(is_here))
    }
}

impl FromStr for PostgresUrl {
    /// What is wrong, without any value.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        postgres_url(text)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// `postgres://user[:password]@host[:port][,host..]/database[?name=value&..]`.
fn postgres_url(text: &str) -> Result<PostgresUrl, String> {
    let text = text.trim();
    let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let rest = rest.ok_or("must begin with postgres:// or postgresql://")?;
    if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains(['#', '"', '\\', '<', '>']) {
        return Err("holds a character that no URL has; in a password it is percent-encoded".to_owned());
    }
    let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = base.split_once('/').unwrap_or((base, ""));
    let (user_info, hosts) = authority.split_once('@').unwrap_or(("", authority));
    if hosts.contains('@') || database.contains(['@', '/']) || query.contains(['@', '?']) {
        return Err("in a user, a password and a parameter / ? # and @ are percent-encoded".to_owned());
    }
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let mut parts = Parts {
        user: decoded(user)?,
        password: percent_decoded(password).ok_or(NOT_ENCODED)?,
        database: decoded(database)?,
        ..Parts::default()
    };
    for host in hosts.split(',').filter(|_| !hosts.is_empty()) {
        let (name, port) = host_and_port(host)?;
        parts.hosts.push(host_of(&decoded(name)?)?);
        parts.ports.push(port);
    }
    for (number, parameter) in (1..).zip(query.split('&').filter(|parameter| !parameter.is_empty())) {
        let (name, value) = parameter.split_once('=').ok_or("a parameter has no value; it is written name=value")?;
        let (name, value) = (decoded(name)?, decoded(value)?);
        parts.set(&name, &value).map_err(|problem| match problem {
            Wrong::Name => unknown(number, &name),
            Wrong::Value(problem) => format!("the parameter {name} {problem}"),
        })?;
    }
    parts.finish(text)
}

const NOT_ENCODED: &str = "a % is percent-encoded, as %25";

fn decoded(text: &str) -> Result<String, String> {
    let bytes = percent_decoded(text).ok_or(NOT_ENCODED)?;
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
        .ok_or_else(|| "holds bytes that are no text".to_owned())
}

fn unknown(number: usize, name: &str) -> String {
    if OTHERS.contains(&name) {
        return format!("the parameter {name} is not supported");
    }
    let scored = KNOWN.iter().map(|known| (strsim::normalized_damerau_levenshtein(name, known), known));
    match scored.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((score, known)) if score >= MIN_SIMILARITY => {
            format!("the parameter {name} is not known; is it {known}?")
        }
        _ => format!("the name of parameter {number} is not known"),
    }
}

/// `name`, `name:port`, `[address]` or `[address]:port`.
fn host_and_port(text: &str) -> Result<(&str, u16), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("a host has no ]")?;
            (host, port.strip_prefix(':').unwrap_or(port))
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    if port.is_empty() { Ok((host, DEFAULT_PORT)) } else { Ok((host, number(port, 1..=65_535)?)) }
}

/// A name, an address, or the directory of a socket.
fn host_of(text: &str) -> Result<Host, String> {
    if text.starts_with('/') {
        return Ok(Host::Unix(text.into()));
    }
    let is_valid = text.parse::<IpAddr>().is_ok() || url::Host::parse(text).is_ok_and(|host| is_host(&host));
    is_valid.then(|| Host::Tcp(text.to_owned())).ok_or_else(|| "a host is no valid name or address".to_owned())
}

fn number<T: TryFrom<u64>>(text: &str, bounds: std::ops::RangeInclusive<u64>) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| bounds.contains(number)).and_then(|number| number.try_into().ok());
    number.ok_or_else(|| format!("must be a whole number from {} to {}", bounds.start(), bounds.end()))
}

fn seconds(text: &str) -> Result<Duration, String> {
    number(text, 1..=3600).map(Duration::from_secs)
}

/// What is wrong with a parameter.
enum Wrong {
    Name,
    Value(String),
}

impl From<String> for Wrong {
    fn from(problem: String) -> Self {
        Self::Value(problem)
    }
}

/// The parts of a URL.
#[derive(Default)]
struct Parts {
    user: String,
    password: Vec<u8>,
    database: String,
    hosts: Vec<Host>,
    ports: Vec<u16>,
    addresses: Vec<IpAddr>,
    is_random: bool,
    /// `target_session_attrs`, if it is given: whether the server must take writes.
    takes_writes: Option<bool>,
    tls: PostgresTls,
    own_certificate: Option<PathBuf>,
    own_key: Option<PathBuf>,
    /// What the driver itself understands.
    config: Config,
}

impl Parts {
    /// The parameters of libpq that mean something here.
    fn set(&mut self, name: &str, value: &str) -> Result<(), Wrong> {
        match name {
            "host" if self.hosts.is_empty() => {
                self.hosts = value.split(',').map(host_of).collect::<Result<_, _>>()?;
            }
            "hostaddr" => {
                let addresses = value.split(',').map(|address| address.parse().ok()).collect::<Option<_>>();
                self.addresses = addresses.ok_or_else(|| "must be addresses, separated by commas".to_owned())?;
            }
            "port" => {
                let ports = value.split(',').map(|port| number(port, 1..=65_535));
                self.ports = ports.collect::<Result<_, _>>()?;
            }
            "host" => return Err(Wrong::Value("counts only if there is no host before the path".to_owned())),
            "user" => self.user = value.to_owned(),
            "password" => self.password = value.as_bytes().to_vec(),
            "dbname" => self.database = value.to_owned(),
            "sslmode" => self.tls.mode = tls_mode(value)?,
            "sslrootcert" if value == "system" => self.tls.roots = Some(RootCertificates::System),
            "sslrootcert" => self.tls.roots = Some(RootCertificates::File(value.into())),
            "sslcert" => self.own_certificate = Some(value.into()),
            "sslkey" => self.own_key = Some(value.into()),
            "target_session_attrs" => self.takes_writes = Some(takes_writes(value)?),
            "load_balance_hosts" => self.is_random = one_of(value, &[("disable", false), ("random", true)])?,
            "channel_binding" => {
                let values = [
                    ("disable", ChannelBinding::Disable),
                    ("prefer", ChannelBinding::Prefer),
                    ("require", ChannelBinding::Require),
                ];
                self.config.channel_binding(one_of(value, &values)?);
            }
            "connect_timeout" => drop(self.config.connect_timeout(seconds(value)?)),
            "keepalives_idle" => drop(self.config.keepalives_idle(seconds(value)?)),
            "keepalives_interval" => drop(self.config.keepalives_interval(seconds(value)?)),
            "keepalives_count" => drop(self.config.keepalives_retries(number(value, 1..=100)?)),
            "options" => drop(self.config.options(value)),
            // Kerberos is not used, whatever is preferred.
            "gssencmode" => one_of(value, &[("disable", ()), ("prefer", ())])?,
            _ => return Err(Wrong::Name),
        }
        Ok(())
    }

    fn finish(mut self, text: &str) -> Result<PostgresUrl, String> {
        if self.user.is_empty() {
            return Err("names no user".to_owned());
        }
        if self.hosts.is_empty() {
            self.hosts = self.addresses.iter().map(|address| Host::Tcp(address.to_string())).collect();
        }
        let count = self.hosts.len();
        if count == 0 || count > MAX_HOSTS {
            return Err(format!("must name 1 to {MAX_HOSTS} hosts"));
        } else if !self.addresses.is_empty() && self.addresses.len() != count {
            return Err("the parameter hostaddr must have an address for each host".to_owned());
        } else if self.ports.len() > 1 && self.ports.len() != count {
            return Err("the parameter port must have one port, or one for each host".to_owned());
        }
        self.tls.own = match (self.own_certificate.take(), self.own_key.take()) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => return Err("the parameters sslcert and sslkey count only together".to_owned()),
        };
        self.tls.check()?;
        if self.database.is_empty() {
            self.database.clone_from(&self.user);
        }
        let hosts: Vec<Config> = (0..count).map(|index| self.config_of(index)).collect();
        let shown: Vec<String> = (0..count).map(|index| self.shown_host(index)).collect();
        // A user or a database that holds a / or another such character is shown as it is.
        let shown = format!("postgres://{}@{}/{}", self.user, shown.join(","), self.database);
        Ok(PostgresUrl { text: Secret::new(text), hosts, is_random: self.is_random, tls: self.tls, shown })
    }

    fn port(&self, index: usize) -> u16 {
        self.ports.get(index).or(self.ports.first()).copied().unwrap_or(DEFAULT_PORT)
    }

    fn shown_host(&self, index: usize) -> String {
        match self.hosts.get(index) {
            Some(Host::Tcp(name)) if name.contains(':') => format!("[{name}]:{}", self.port(index)),
            Some(Host::Tcp(name)) => format!("{name}:{}", self.port(index)),
            Some(Host::Unix(path)) => format!("{}:{}", path.display(), self.port(index)),
            None => String::new(),
        }
    }

    /// The driver's settings for one host.
    fn config_of(&self, index: usize) -> Config {
        let mut config = self.config.clone();
        config.user(&self.user).dbname(&self.database).port(self.port(index));
        if !self.password.is_empty() {
            config.password(&self.password);
        }
        match self.hosts.get(index) {
            Some(Host::Tcp(name)) => drop(config.host(name)),
            Some(Host::Unix(path)) => drop(config.host_path(path)),
            None => {}
        }
        if let Some(address) = self.addresses.get(index) {
            config.hostaddr(*address);
        }
        // libpq's default is any server. Of several hosts an outbox can use only the one that takes writes.
        if self.takes_writes.unwrap_or(self.hosts.len() > 1) {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if self.is_random {
            config.load_balance_hosts(LoadBalanceHosts::Random);
        }
        config
    }
}

fn takes_writes(text: &str) -> Result<bool, String> {
    match text {
        "any" => Ok(false),
        "read-write" | "primary" => Ok(true),
        "read-only" | "standby" | "prefer-standby" => {
            Err("must be read-write: an outbox cannot use a standby".to_owned())
        }
        _ => Err("must be one of any, read-write, primary".to_owned()),
    }
}
