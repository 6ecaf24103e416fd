//! Reads all settings and puts them together.

use std::net::SocketAddr;
use std::time::Duration;

use super::admin_token::AdminToken;
use super::auth::{AuthScheme, AuthSettings};
use super::environment::Environment;
use super::logs::LogSettings;
use super::outbox::OutboxSettings;
use super::problems::Problems;
use super::segment::SegmentSettings;
use super::table::{
    PORT, RELAY_ADMIN_TOKEN, RELAY_AUTH, RELAY_AUTH_HMAC_ENCODING, RELAY_AUTH_HMAC_HEADER, RELAY_AUTH_SECRETS,
    RELAY_IDEMPOTENCY_WINDOW, RELAY_LISTEN, RELAY_LOG, RELAY_LOG_FORMAT, RELAY_MAX_IN_FLIGHT, RELAY_OUTBOX_MAX_SIZE,
    RELAY_OUTBOX_URL, RELAY_REQUEST_TIMEOUT, RELAY_SHUTDOWN_DELAY, RELAY_SHUTDOWN_GRACE, SEGMENT_ENDPOINT,
    SEGMENT_GZIP, SEGMENT_MAX_CONCURRENCY, SEGMENT_MAX_REQUESTS_PER_SECOND, SEGMENT_TIMEOUT, SEGMENT_WRITE_KEY,
};

/// All settings of the service. The table of settings gives the meaning of each.
#[derive(Debug)]
pub struct Settings {
    pub segment: SegmentSettings,
    pub listen: SocketAddr,
    pub auth: AuthSettings,
    pub request_timeout: Duration,
    pub max_in_flight: usize,
    /// `None`: calls go straight to Segment.
    pub outbox: Option<OutboxSettings>,
    /// `None`: there are no admin routes.
    pub admin_token: Option<AdminToken>,
    pub shutdown_delay: Duration,
    pub shutdown_grace: Duration,
    pub logs: LogSettings,
}

/// The settings of this process's environment.
///
/// # Errors
/// All problems of the settings.
pub fn from_environment() -> Result<Settings, Problems> {
    from_variables(variables())
}

/// This process's environment. Bytes that are not UTF-8 become replacement characters, which no setting accepts.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (lossy(name), lossy(value)))
}

/// The settings of `variables`. Variables that are not meant for the relay are ignored.
///
/// # Errors
/// All problems of the settings.
pub fn from_variables(variables: impl Iterator<Item = (String, String)>) -> Result<Settings, Problems> {
    let mut environment = Environment::new(variables);
    environment.check_names();
    let settings = read(&mut environment);
    environment.finish(settings)
}

/// The address that this process's service listens on. The health check needs no other setting.
///
/// # Errors
/// If `RELAY_LISTEN` or `PORT` is wrong.
pub fn listen_from_environment() -> Result<SocketAddr, Problems> {
    let mut environment = Environment::new(variables());
    let listen = listen(&mut environment);
    environment.finish(listen)
}

/// The admin token of the running service. The command `dead-letters` needs no other setting but the address.
///
/// # Errors
/// If `RELAY_ADMIN_TOKEN` is missing or wrong.
pub fn admin_token_from_environment() -> Result<AdminToken, Problems> {
    let mut environment = Environment::new(variables());
    if !environment.is_set(&RELAY_ADMIN_TOKEN) {
        environment.add_problem(&RELAY_ADMIN_TOKEN, "required: the token that the running relay was given");
    }
    let token = environment.read(&RELAY_ADMIN_TOKEN);
    environment.finish(token)
}

/// Every setting is read before the first missing one ends this function, so that all problems are noted.
fn read(environment: &mut Environment) -> Option<Settings> {
    let segment = segment(environment);
    let listen = listen(environment);
    let auth = auth(environment);
    let request_timeout = environment.read(&RELAY_REQUEST_TIMEOUT);
    let max_in_flight = environment.read(&RELAY_MAX_IN_FLIGHT);
    let outbox = outbox(environment, auth.as_ref());
    let admin_token = environment.read(&RELAY_ADMIN_TOKEN);
    let shutdown_delay = environment.read(&RELAY_SHUTDOWN_DELAY);
    let shutdown_grace = environment.read(&RELAY_SHUTDOWN_GRACE);
    let filter = environment.read(&RELAY_LOG);
    let format = environment.read(&RELAY_LOG_FORMAT);
    Some(Settings {
        segment: segment?,
        listen: listen?,
        auth: auth?,
        request_timeout: request_timeout?,
        max_in_flight: max_in_flight?,
        outbox,
        admin_token,
        shutdown_delay: shutdown_delay?,
        shutdown_grace: shutdown_grace?,
        logs: LogSettings { filter: filter?, format },
    })
}

fn segment(environment: &mut Environment) -> Option<SegmentSettings> {
    let write_key = environment.read(&SEGMENT_WRITE_KEY);
    let endpoint = environment.read(&SEGMENT_ENDPOINT);
    let timeout = environment.read(&SEGMENT_TIMEOUT);
    let max_requests_per_second = environment.read(&SEGMENT_MAX_REQUESTS_PER_SECOND);
    let max_concurrency = environment.read(&SEGMENT_MAX_CONCURRENCY);
    let gzip = environment.read(&SEGMENT_GZIP);
    Some(SegmentSettings {
        write_key: write_key?,
        endpoint: endpoint?,
        timeout: timeout?,
        max_requests_per_second: max_requests_per_second?,
        max_concurrency: max_concurrency?,
        gzip: gzip?,
    })
}

fn listen(environment: &mut Environment) -> Option<SocketAddr> {
    let is_set = environment.is_set(&RELAY_LISTEN);
    let port = environment.read(&PORT);
    let mut listen = environment.read(&RELAY_LISTEN)?;
    if !is_set {
        listen.set_port(port?);
    }
    Some(listen)
}

/// A setting that would have no effect is a problem: whoever set it believes that senders are checked.
fn auth(environment: &mut Environment) -> Option<AuthSettings> {
    let mut scheme = environment.read(&RELAY_AUTH)?;
    if let AuthScheme::Hmac { header, encoding } = &mut scheme {
        let settings = (environment.read(&RELAY_AUTH_HMAC_HEADER), environment.read(&RELAY_AUTH_HMAC_ENCODING));
        if let (Some(set_header), Some(set_encoding)) = settings {
            (*header, *encoding) = (set_header, set_encoding);
        }
    } else {
        let problem = "counts only with RELAY_AUTH=hmac";
        if environment.is_set(&RELAY_AUTH_HMAC_HEADER) {
            environment.add_problem(&RELAY_AUTH_HMAC_HEADER, problem);
        }
        if environment.is_set(&RELAY_AUTH_HMAC_ENCODING) {
            environment.add_problem(&RELAY_AUTH_HMAC_ENCODING, problem);
        }
    }
    let mut auth = AuthSettings::new(scheme);
    match (auth.is_none(), environment.is_set(&RELAY_AUTH_SECRETS)) {
        (true, true) => environment.add_problem(&RELAY_AUTH_SECRETS, "not used while RELAY_AUTH is none"),
        (true, false) => {}
        (false, true) => add_secrets(&mut auth, environment),
        (false, false) => {
            environment.add_problem(&RELAY_AUTH_SECRETS, format_args!("required with RELAY_AUTH={}", auth.name()));
        }
    }
    Some(auth)
}

fn add_secrets(auth: &mut AuthSettings, environment: &mut Environment) {
    let secrets = environment.read(&RELAY_AUTH_SECRETS).unwrap_or_default();
    for (number, secret) in (1..).zip(&secrets) {
        let result = if secret.is_empty() { Err("is empty") } else { auth.accept(secret) };
        if let Err(problem) = result {
            let problem = format_args!("secret {number} of {} {problem}", secrets.len());
            environment.add_problem(&RELAY_AUTH_SECRETS, problem);
        }
    }
}

/// Without `RELAY_OUTBOX_URL` there is no outbox. The other settings are checked all the same.
fn outbox(environment: &mut Environment, auth: Option<&AuthSettings>) -> Option<OutboxSettings> {
    let path = environment.read(&RELAY_OUTBOX_URL);
    let max_bytes = environment.read(&RELAY_OUTBOX_MAX_SIZE);
    let window = environment.read(&RELAY_IDEMPOTENCY_WINDOW);
    let outbox = OutboxSettings { path: path?, max_bytes: max_bytes?, window: window? };
    // A repeated signed request is recognized by its key, so the key must be remembered while the signature is valid.
    if let Some(lifetime) = auth.and_then(AuthSettings::signature_lifetime)
        && outbox.window < lifetime
    {
        let minutes = lifetime.as_secs() / 60;
        let problem = format_args!("must be at least {minutes}m, because a signature is valid for that long");
        environment.add_problem(&RELAY_IDEMPOTENCY_WINDOW, problem);
    }
    Some(outbox)
}
