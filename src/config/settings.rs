//! All settings of the service, and how they are read and put together.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::auth::{AuthScheme, AuthSettings, WEBHOOK_TOLERANCE};
use super::environment::{Environment, Problems};
use super::place::OutboxPlace;
use super::postgres_tls::RootCertificates;
use super::proxy::{Proxies, Proxy, uses_tls};
use super::receivers::{NotifySettings, TraceSettings};
use super::table::Setting;
use super::value::{LogFormat, Secret};
use super::{file, table};

/// The maximum of SEGMENT_TIMEOUT with an outbox in PostgreSQL: when the relay that delivers is lost, another one waits for this timeout
/// and 5 s more before it delivers.
const MAX_SHARED_TIMEOUT: (Duration, &str) = (Duration::from_secs(30), "30s");

/// All settings of the service. The table of settings gives the meaning of each.
#[derive(Debug)]
pub struct Settings {
    pub segment: SegmentSettings,
    pub listen: SocketAddr,
    pub auth: AuthSettings,
    pub request_timeout: Duration,
    pub keep_alive: Duration,
    pub max_in_flight: usize,
    /// The file of sources. Who uses it reads it: its problems are not among those of the environment.
    pub sources: Option<PathBuf>,
    /// `None`: calls go straight to Segment.
    pub outbox: Option<OutboxSettings>,
    /// Whoever shows it may read the calls that Segment refused, and send them again. `None`: there are no admin routes.
    pub admin_token: Option<Secret>,
    /// Where operators, metrics and documents are served. `None`: at `listen`.
    pub admin_listen: Option<SocketAddr>,
    /// `None`: nobody is told what wakes somebody.
    pub notify: Option<NotifySettings>,
    pub shutdown_delay: Duration,
    pub shutdown_grace: Duration,
    pub logs: LogSettings,
    /// `None`: there are no traces.
    pub traces: Option<TraceSettings>,
}

/// The settings of the connection to Segment.
#[derive(Clone, Debug)]
pub struct SegmentSettings {
    /// The write key of the source, not empty.
    pub write_key: Secret,
    /// The base URL, without `/v1/batch`.
    pub endpoint: Url,
    /// The proxy on the way there.
    pub proxy: Option<Proxy>,
    /// The time limit of one attempt.
    pub timeout: Duration,
    /// The maximum number of requests in one second. It is also the pace of batching.
    pub max_requests_per_second: NonZeroU32,
    /// The maximum number of requests at the same time.
    pub max_concurrency: NonZeroUsize,
    /// Whether requests are compressed.
    pub gzip: bool,
}

/// The settings of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxSettings {
    pub place: OutboxPlace,
    /// The maximum size of calls, keys and dead letters on disk.
    pub max_bytes: u64,
    /// How long a dead letter is kept. `None`: for ever.
    pub dead_letter_retention: Option<Duration>,
    /// How long a key is remembered after its call was settled.
    pub window: Duration,
    /// How long a call may fail on its own until it becomes a dead letter. `None`: for ever.
    pub give_up_after: Option<Duration>,
}

/// What is logged, and in which format.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// A valid filter of `tracing-subscriber`.
    pub filter: String,
    /// `None`: text on a terminal, JSON otherwise.
    pub format: Option<LogFormat>,
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

/// The settings of this process's environment as far as they are right. The default stands in for what is wrong, and an empty text
/// for a write key that is wrong or missing and for the path of an outbox that is wrong. [`from_environment`] has the problems.
pub fn as_far_as_right() -> Option<Settings> {
    read(&mut Environment::lenient(variables()))
}

/// Reads the settings of `variables` again, for the secrets that come from files, and returns them with the names of
/// these. The places of the outbox and of the certificates are not read: they may be missing now.
///
/// # Errors
/// All problems of the settings.
pub fn secrets_from_files(
    variables: impl Iterator<Item = (String, String)>,
) -> Result<(Vec<&'static str>, Settings), Problems> {
    let left_out = [
        table::RELAY_OUTBOX_URL.declaration.name,
        &file::variable_of(&table::RELAY_OUTBOX_URL),
        table::SSL_CERT_FILE.declaration.name,
        table::SSL_CERT_DIR.declaration.name,
    ];
    let variables: Vec<_> = variables.filter(|(name, _)| !left_out.contains(&name.as_str())).collect();
    let is_file = |name: &str| {
        variables.iter().any(|(variable, path)| !path.is_empty() && file::setting_of(variable) == Some(name))
    };
    let names = file::FILE_SETTINGS.into_iter().filter(|name| is_file(name)).collect();
    Ok((names, from_variables(variables.into_iter())?))
}

/// The address at which commands on this machine ask the running service: that of operators, if they have their own.
///
/// # Errors
/// If `RELAY_ADMIN_LISTEN`, `RELAY_LISTEN` or `PORT` is wrong.
pub fn local_address_from_environment() -> Result<SocketAddr, Problems> {
    let mut environment = Environment::new(variables());
    let address = match environment.read(&table::RELAY_ADMIN_LISTEN) {
        Some(operators) => Some(operators),
        None => listen(&mut environment),
    };
    environment.finish(address)
}

/// How the command `import` proves to a relay who it is. `None`: it does not.
///
/// # Errors
/// If `RELAY_IMPORT_SECRET`, or a setting of the scheme, is wrong.
pub fn import_secret_from_environment() -> Result<Option<(AuthScheme, Secret)>, Problems> {
    let mut environment = Environment::new(variables());
    let secret = environment.read(&table::RELAY_IMPORT_SECRET);
    let scheme = scheme(&mut environment);
    let sender = scheme.map(|scheme| {
        let secret = secret?;
        let scheme = match scheme {
            AuthScheme::None if secret.reveal().starts_with("whsec_") => AuthScheme::StandardWebhooks,
            AuthScheme::None => AuthScheme::Bearer,
            scheme => scheme,
        };
        if let Err(problem) = AuthSettings::new(scheme.clone()).accept(secret.reveal()) {
            environment.add_problem(&table::RELAY_IMPORT_SECRET, problem);
        }
        Some((scheme, secret))
    });
    environment.finish(sender)
}

/// Evaluates all fields, so that all problems are noted, and then makes the struct if each has a value. A field's value may
/// use the fields before it.
macro_rules! all_fields {
    ($type:ident { $($field:ident: $value:expr,)+ }) => {{
        $(let $field = $value;)+
        Some($type { $($field: $field?),+ })
    }};
}

fn read(environment: &mut Environment) -> Option<Settings> {
    let proxies = proxies(environment);
    let (segment, notify) = (segment(environment, &proxies), notify(environment, &proxies));
    let traces = traces(environment, &proxies);
    let of_segment = segment.as_ref().is_some_and(|segment| uses_tls(&segment.endpoint, segment.proxy.as_ref()));
    let of_notify = notify.as_ref().is_some_and(|notify| uses_tls(&notify.url, notify.proxy.as_ref()));
    let of_traces = traces.iter().flatten().any(|traces| uses_tls(&traces.endpoint, traces.proxy.as_ref()));
    let settings = all_fields!(Settings {
        segment: segment,
        listen: listen(environment),
        auth: auth(environment),
        request_timeout: environment.read(&table::RELAY_REQUEST_TIMEOUT),
        keep_alive: environment.read(&table::RELAY_KEEP_ALIVE),
        max_in_flight: environment.read(&table::RELAY_MAX_IN_FLIGHT),
        sources: Some(environment.read(&table::RELAY_SOURCES)),
        outbox: Some(outbox(environment, auth.as_ref(), segment.as_ref())),
        admin_token: Some(admin_token(environment, auth.as_ref())),
        admin_listen: Some(admin_listen(environment, listen)),
        notify: Some(notify),
        shutdown_delay: environment.read(&table::RELAY_SHUTDOWN_DELAY),
        shutdown_grace: environment.read(&table::RELAY_SHUTDOWN_GRACE),
        logs: logs(environment),
        traces: traces,
    });
    let of_outbox = settings.as_ref().and_then(|settings| settings.outbox.as_ref()).is_some_and(trusts_system);
    if of_segment || of_notify || of_traces || of_outbox {
        environment.read(&table::SSL_CERT_FILE);
        environment.read(&table::SSL_CERT_DIR);
    }
    settings
}

/// Whether the connection to the outbox needs the system's certificate authorities.
fn trusts_system(outbox: &OutboxSettings) -> bool {
    matches!(&outbox.place, OutboxPlace::Postgres(url) if url.tls().roots == Some(RootCertificates::System))
}

fn segment(environment: &mut Environment, proxies: &Proxies) -> Option<SegmentSettings> {
    all_fields!(SegmentSettings {
        write_key: environment.read(&table::SEGMENT_WRITE_KEY).or_else(|| environment.stand_in(Secret::new(""))),
        endpoint: environment.read(&table::SEGMENT_ENDPOINT),
        proxy: endpoint.as_ref().map(|endpoint| proxies.of(endpoint)),
        timeout: environment.read(&table::SEGMENT_TIMEOUT),
        max_requests_per_second: environment.read(&table::SEGMENT_MAX_REQUESTS_PER_SECOND),
        max_concurrency: environment.read(&table::SEGMENT_MAX_CONCURRENCY),
        gzip: environment.read(&table::SEGMENT_GZIP),
    })
}

/// An invalid URL is a problem even if another variable takes precedence.
fn proxies(environment: &mut Environment) -> Proxies {
    Proxies {
        https: environment.read_any_case(&table::HTTPS_PROXY),
        http: environment.read_any_case(&table::HTTP_PROXY),
        all: environment.read_any_case(&table::ALL_PROXY),
        exceptions: environment.read_any_case(&table::NO_PROXY).unwrap_or_default(),
    }
}

/// One of the two settings alone would have no effect, or nobody could trust what is sent.
fn notify(environment: &mut Environment, proxies: &Proxies) -> Option<NotifySettings> {
    match (environment.is_set(&table::RELAY_NOTIFY_URL), environment.is_set(&table::RELAY_NOTIFY_SECRETS)) {
        (true, false) => environment.add_problem(&table::RELAY_NOTIFY_SECRETS, "required with RELAY_NOTIFY_URL"),
        (false, true) => environment.add_problem(&table::RELAY_NOTIFY_URL, "required with RELAY_NOTIFY_SECRETS"),
        _ => {}
    }
    let url = environment.read(&table::RELAY_NOTIFY_URL);
    let mut secrets = AuthSettings::new(AuthScheme::StandardWebhooks);
    accept_secrets(environment, &table::RELAY_NOTIFY_SECRETS, &mut secrets);
    url.map(|url| NotifySettings { proxy: proxies.of(&url), url, secrets })
}

/// Whoever may send customers may not read those that Segment refused.
fn admin_token(environment: &mut Environment, auth: Option<&AuthSettings>) -> Option<Secret> {
    let token = environment.read(&table::RELAY_ADMIN_TOKEN)?;
    if auth.is_some_and(|auth| auth.holds(token.reveal())) {
        environment.add_problem(&table::RELAY_ADMIN_TOKEN, "must not be a secret of RELAY_AUTH_SECRETS");
    }
    Some(token)
}

fn logs(environment: &mut Environment) -> Option<LogSettings> {
    all_fields!(LogSettings {
        filter: environment.read(&table::RELAY_LOG),
        format: Some(environment.read(&table::RELAY_LOG_FORMAT)),
    })
}

/// OpenTelemetry's other variables count only if there is somebody to export to.
fn traces(environment: &mut Environment, proxies: &Proxies) -> Option<Option<TraceSettings>> {
    if !environment.is_set(&table::OTEL_EXPORTER_OTLP_ENDPOINT) {
        return Some(None);
    }
    let endpoint = environment.read(&table::OTEL_EXPORTER_OTLP_ENDPOINT)?;
    environment.read(&table::OTEL_EXPORTER_OTLP_PROTOCOL)?;
    let is_disabled = environment.read(&table::OTEL_SDK_DISABLED)?;
    Some((!is_disabled).then(|| TraceSettings { proxy: proxies.of(&endpoint), endpoint }))
}

fn listen(environment: &mut Environment) -> Option<SocketAddr> {
    let is_set = environment.is_set(&table::RELAY_LISTEN);
    let port = environment.read(&table::PORT);
    let mut listen = environment.read(&table::RELAY_LISTEN)?;
    if !is_set {
        listen.set_port(port?);
    }
    Some(listen)
}

/// An address of its own: not one that senders reach.
fn admin_listen(environment: &mut Environment, listen: Option<SocketAddr>) -> Option<SocketAddr> {
    let operators = environment.read(&table::RELAY_ADMIN_LISTEN)?;
    if let Some(senders) = listen {
        // ::ffff:127.0.0.1 is 127.0.0.1.
        let ips = [operators, senders].map(|address| address.ip().to_canonical());
        let is_same = ips[0] == ips[1] || ips.iter().any(IpAddr::is_unspecified);
        // Each port 0 is another free one.
        if is_same && operators.port() == senders.port() && operators.port() != 0 {
            let problem = format_args!("must be another address and port than {senders}, where senders are served");
            environment.add_problem(&table::RELAY_ADMIN_LISTEN, problem);
        }
    }
    Some(operators)
}

/// A setting that would have no effect is a problem: whoever set it believes that senders are checked.
fn scheme(environment: &mut Environment) -> Option<AuthScheme> {
    let mut scheme = environment.read(&table::RELAY_AUTH)?;
    if let AuthScheme::Hmac { header, encoding } = &mut scheme {
        let settings =
            (environment.read(&table::RELAY_AUTH_HMAC_HEADER), environment.read(&table::RELAY_AUTH_HMAC_ENCODING));
        if let (Some(set_header), Some(set_encoding)) = settings {
            (*header, *encoding) = (set_header, set_encoding);
        }
    } else {
        let problem = "counts only with RELAY_AUTH=hmac";
        environment.refuse(&table::RELAY_AUTH_HMAC_HEADER, problem);
        environment.refuse(&table::RELAY_AUTH_HMAC_ENCODING, problem);
    }
    Some(scheme)
}

fn auth(environment: &mut Environment) -> Option<AuthSettings> {
    let mut auth = AuthSettings::new(scheme(environment)?);
    if auth.is_none() {
        environment.refuse(&table::RELAY_AUTH_SECRETS, "not used while RELAY_AUTH is none");
        return Some(auth);
    }
    if !environment.is_set(&table::RELAY_AUTH_SECRETS) {
        environment.add_problem(&table::RELAY_AUTH_SECRETS, format_args!("required with RELAY_AUTH={}", auth.name()));
    }
    accept_secrets(environment, &table::RELAY_AUTH_SECRETS, &mut auth);
    Some(auth)
}

/// Adds the secrets of this setting.
fn accept_secrets(environment: &mut Environment, setting: &Setting<Vec<String>>, auth: &mut AuthSettings) {
    let secrets = environment.read(setting).unwrap_or_default();
    for (number, secret) in (1..).zip(&secrets) {
        let result = if secret.is_empty() { Err("is empty") } else { auth.accept(secret) };
        if let Err(problem) = result {
            let problem = format_args!("secret {number} of {} {problem}", secrets.len());
            environment.add_problem(setting, problem);
        }
    }
}

/// Without `RELAY_OUTBOX_URL` there is no outbox. The other settings are checked all the same.
fn outbox(
    environment: &mut Environment,
    auth: Option<&AuthSettings>,
    segment: Option<&SegmentSettings>,
) -> Option<OutboxSettings> {
    let is_asked_for = environment.is_set(&table::RELAY_OUTBOX_URL);
    let stand_in = environment.stand_in(OutboxPlace::Sqlite(PathBuf::new())).filter(|_| is_asked_for);
    let outbox = all_fields!(OutboxSettings {
        place: environment.read(&table::RELAY_OUTBOX_URL).or(stand_in),
        max_bytes: environment.read(&table::RELAY_OUTBOX_MAX_SIZE),
        dead_letter_retention: environment.read(&table::RELAY_DEAD_LETTER_RETENTION),
        window: environment.read(&table::RELAY_IDEMPOTENCY_WINDOW),
        give_up_after: environment.read(&table::RELAY_GIVE_UP_AFTER),
    })?;
    // A captured request stays valid from the earliest to the latest time of its sender's clock. A repetition is recognized
    // by its key, so the key must be remembered for as long. A signature of another scheme stays valid for ever.
    let lifetime = 2 * WEBHOOK_TOLERANCE;
    let has_time = auth.is_some_and(|auth| auth.scheme == AuthScheme::StandardWebhooks);
    if has_time && outbox.window < lifetime {
        let minutes = lifetime.as_secs() / 60;
        let problem = format_args!("must be at least {minutes}m, because a signature is valid for that long");
        environment.add_problem(&table::RELAY_IDEMPOTENCY_WINDOW, problem);
    }
    let is_shared = matches!(outbox.place, OutboxPlace::Postgres(_));
    if is_shared && segment.is_some_and(|segment| segment.timeout > MAX_SHARED_TIMEOUT.0) {
        let problem = format_args!("must be at most {} with an outbox in PostgreSQL", MAX_SHARED_TIMEOUT.1);
        environment.add_problem(&table::SEGMENT_TIMEOUT, problem);
    }
    Some(outbox)
}
