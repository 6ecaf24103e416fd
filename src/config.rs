//! The settings, read from the environment once and checked all at once.
//!
//! Every problem is reported, one line each, naming the variable and never a secret. Nothing is ignored: a misspelt
//! setting, or one whose feature this version does not have, is a problem too. An empty variable counts as not set, which
//! is what compose files make of one that is missing.

mod admin_token;
mod auth;
mod checks;
mod outbox;
mod segment;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;

use checks::Checks;

pub use admin_token::AdminToken;
pub use auth::{AuthScheme, AuthSettings, SignatureEncoding, WEBHOOK_TOLERANCE, decode_base64};
pub use outbox::OutboxSettings;
pub use segment::SegmentSettings;

/// Where the service listens by default.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);

/// Segment's endpoint in the US, its default.
const ENDPOINT: &str = "https://api.segment.io";

/// Everything the service has to be told. The contract gives each setting's meaning.
#[derive(Debug)]
pub struct Settings {
    pub segment: SegmentSettings,
    pub listen: SocketAddr,
    /// Who may send customers.
    pub auth: AuthSettings,
    pub request_timeout: Duration,
    pub max_in_flight: usize,
    /// None: calls go straight to Segment.
    pub outbox: Option<OutboxSettings>,
    /// None: nobody operates the relay over HTTP.
    pub admin_token: Option<AdminToken>,
    pub shutdown_delay: Duration,
    pub shutdown_grace: Duration,
    pub logs: LogSettings,
}

/// What is logged, and how it looks.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// A filter as in `tracing-subscriber`, known to be valid.
    pub filter: String,
    /// None: JSON, or text on a terminal.
    pub format: Option<LogFormat>,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

/// What is wrong with the settings, a line each.
#[derive(Debug)]
pub struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Problems {}

/// The environment as it stands. A name that is not a field ends up in `unknown`.
#[derive(Default, Deserialize)]
struct Environment {
    segment_write_key: Option<String>,
    segment_endpoint: Option<String>,
    segment_timeout: Option<String>,
    segment_max_requests_per_second: Option<String>,
    segment_max_concurrency: Option<String>,
    segment_gzip: Option<String>,
    port: Option<String>,
    relay_listen: Option<String>,
    relay_request_timeout: Option<String>,
    relay_max_in_flight: Option<String>,
    relay_outbox_url: Option<String>,
    relay_outbox_max_size: Option<String>,
    relay_idempotency_window: Option<String>,
    relay_admin_token: Option<String>,
    relay_shutdown_delay: Option<String>,
    relay_shutdown_grace: Option<String>,
    relay_log: Option<String>,
    relay_log_format: Option<String>,
    relay_auth: Option<String>,
    relay_auth_secrets: Option<String>,
    relay_auth_hmac_header: Option<String>,
    relay_auth_hmac_encoding: Option<String>,
    #[serde(flatten)]
    unknown: BTreeMap<String, String>,
}

/// The settings of this process's environment.
///
/// # Errors
/// Every problem there is.
pub fn from_environment() -> Result<Settings, Problems> {
    from_variables(variables())
}

/// This process's environment; what is no text is made one, and no setting takes it.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (lossy(name), lossy(value)))
}

/// The settings of `variables`; those that are none of ours are passed over.
///
/// # Errors
/// Every problem there is.
pub fn from_variables(variables: impl Iterator<Item = (String, String)>) -> Result<Settings, Problems> {
    let environment = read(variables)?;
    let mut checks = Checks::default();
    checks.unknown(environment.unknown.keys());
    let segment = checks.segment(&environment);
    let listen = listen(&mut checks, &environment);
    let auth = checks.auth(&environment);
    let request_timeout = checks.duration("RELAY_REQUEST_TIMEOUT", environment.relay_request_timeout.as_deref(), "10s");
    let max_in_flight = checks.number("RELAY_MAX_IN_FLIGHT", environment.relay_max_in_flight.as_deref(), 2048);
    let outbox = checks.outbox(&environment);
    checks.replays(&auth, outbox.as_ref());
    let admin_token = checks.admin_token(environment.relay_admin_token.as_deref());
    let shutdown_delay = checks.pause("RELAY_SHUTDOWN_DELAY", environment.relay_shutdown_delay.as_deref(), "1s");
    let shutdown_grace = checks.pause("RELAY_SHUTDOWN_GRACE", environment.relay_shutdown_grace.as_deref(), "25s");
    let logs = checks.logs(environment.relay_log.as_deref(), environment.relay_log_format.as_deref());
    checks.finish(segment.map(|segment| Settings {
        segment,
        listen,
        auth,
        request_timeout,
        max_in_flight,
        outbox,
        admin_token,
        shutdown_delay,
        shutdown_grace,
        logs,
    }))
}

/// Where this process's service listens, for a health check that needs no other setting.
///
/// # Errors
/// If `RELAY_LISTEN` or `PORT` is wrong.
pub fn listen_from_environment() -> Result<SocketAddr, Problems> {
    let environment = read_only(&["RELAY_LISTEN", "PORT"])?;
    let mut checks = Checks::default();
    let listen = listen(&mut checks, &environment);
    checks.finish(Some(listen))
}

/// The token with which to ask this machine's running service, for a command that needs no other setting.
///
/// # Errors
/// If `RELAY_ADMIN_TOKEN` is missing or wrong.
pub fn admin_token_from_environment() -> Result<AdminToken, Problems> {
    let environment = read_only(&["RELAY_ADMIN_TOKEN"])?;
    let mut checks = Checks::default();
    let token = checks.required_admin_token(environment.relay_admin_token.as_deref());
    checks.finish(token)
}

fn listen(checks: &mut Checks, environment: &Environment) -> SocketAddr {
    let default = SocketAddr::new(LISTEN.ip(), checks.number("PORT", environment.port.as_deref(), LISTEN.port()));
    checks.listen("RELAY_LISTEN", environment.relay_listen.as_deref(), default)
}

fn read_only(names: &[&str]) -> Result<Environment, Problems> {
    read(variables().filter(|(name, _)| names.contains(&name.as_str())))
}

fn read(variables: impl Iterator<Item = (String, String)>) -> Result<Environment, Problems> {
    let set = variables.filter(|(name, value)| checks::is_ours(name) && !value.is_empty());
    let (set, misspelt): (Vec<_>, Vec<_>) = set.partition(|(name, _)| *name == name.to_uppercase());
    if !misspelt.is_empty() {
        // To envy they would be the settings themselves.
        let problem = |(name, _): (String, _)| format!("{name}: no such setting; settings are in capital letters");
        return Err(Problems(misspelt.into_iter().map(problem).collect()));
    }
    envy::from_iter(set).map_err(|error| Problems(vec![error.to_string()]))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
