//! One check a setting. Each gives a value to go on with and notes what is wrong, so that all is found in one go.

use std::fmt::Display;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use url::Url;

use super::{ENDPOINT, Environment, LogFormat, LogSettings, Problems, SegmentSettings};

/// No setting but one is sensibly longer than a day.
const LONGEST: (Duration, &str) = (Duration::from_secs(24 * 60 * 60), "24h");

/// Segment's write keys have 32 characters; a batch leaves room for this many.
const MAX_WRITE_KEY: usize = 256;

/// How alike a name must be to be suggested, from 0 to 1.
const ALIKE: f64 = 0.75;

/// Every setting of this version.
const SETTINGS: [&str; 21] = [
    "RELAY_ADMIN_TOKEN",
    "RELAY_AUTH",
    "RELAY_AUTH_HMAC_ENCODING",
    "RELAY_AUTH_HMAC_HEADER",
    "RELAY_AUTH_SECRETS",
    "RELAY_IDEMPOTENCY_WINDOW",
    "RELAY_LISTEN",
    "RELAY_LOG",
    "RELAY_LOG_FORMAT",
    "RELAY_MAX_IN_FLIGHT",
    "RELAY_OUTBOX_MAX_SIZE",
    "RELAY_OUTBOX_URL",
    "RELAY_REQUEST_TIMEOUT",
    "RELAY_SHUTDOWN_DELAY",
    "RELAY_SHUTDOWN_GRACE",
    "SEGMENT_ENDPOINT",
    "SEGMENT_GZIP",
    "SEGMENT_MAX_CONCURRENCY",
    "SEGMENT_MAX_REQUESTS_PER_SECOND",
    "SEGMENT_TIMEOUT",
    "SEGMENT_WRITE_KEY",
];

/// Settings whose feature this version does not have: saying nothing would be worse than not starting.
pub(super) const NOT_YET: [&str; 1] = ["OTEL_EXPORTER_OTLP_ENDPOINT"];

/// How the names begin that Kubernetes makes up for a Service named `relay`: `RELAY_PORT`, `RELAY_SERVICE_HOST` ...
const RELAY_SERVICE: [&str; 2] = ["RELAY_PORT", "RELAY_SERVICE_"];

/// What they hold for a Service of any name, such as `segment-relay` or `relay-postgres`. No setting of ours does.
const ANY_SERVICE: [&str; 4] = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT_", "_PORT"];

/// Whether a variable is meant for us: in whatever letters, but for `PORT`, whose name is too common for that.
pub(super) fn is_ours(name: &str) -> bool {
    let is_port = name == "PORT";
    let name = &*name.to_ascii_uppercase();
    let prefixed = ["RELAY_", "SEGMENT_"].iter().any(|prefix| name.starts_with(prefix));
    let of_any_service = |part: &&str| if *part == "_PORT" { name.ends_with(*part) } else { name.contains(*part) };
    let made_up = RELAY_SERVICE.iter().any(|prefix| name.starts_with(prefix)) || ANY_SERVICE.iter().any(of_any_service);
    prefixed && !made_up || is_port || NOT_YET.contains(&name)
}

/// What was found wrong so far.
#[derive(Default)]
pub(super) struct Checks {
    problems: Vec<String>,
}

impl Checks {
    /// The value, if nothing was wrong. Whoever gives none has noted why.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Problems> {
        value.filter(|_| self.problems.is_empty()).ok_or(Problems(self.problems))
    }

    /// Notes what is wrong with a setting.
    pub(super) fn problem(&mut self, name: &str, what: impl Display) {
        self.problems.push(format!("{name}: {what}"));
    }

    /// Names that are no setting, as envy gives them: in lower case.
    pub(super) fn unknown<'a>(&mut self, names: impl Iterator<Item = &'a String>) {
        for name in names.map(|name| name.to_uppercase()) {
            let alike = SETTINGS.iter().map(|known| (strsim::normalized_damerau_levenshtein(&name, known), known));
            let best = alike.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score >= ALIKE);
            match best {
                _ if NOT_YET.contains(&name.as_str()) => self.problem(&name, "this version does not have that yet"),
                Some((_, known)) => self.problem(&name, format_args!("no such setting; is it {known}?")),
                None => self.problem(&name, "no such setting"),
            }
        }
    }

    pub(super) fn segment(&mut self, environment: &Environment) -> Option<SegmentSettings> {
        let per_second = environment.segment_max_requests_per_second.as_deref();
        let concurrency = environment.segment_max_concurrency.as_deref();
        let write_key = self.write_key(environment.segment_write_key.as_deref());
        let endpoint = self.endpoint(environment.segment_endpoint.as_deref().unwrap_or(ENDPOINT));
        let timeout = self.duration("SEGMENT_TIMEOUT", environment.segment_timeout.as_deref(), "5s");
        let max_requests_per_second = self.number("SEGMENT_MAX_REQUESTS_PER_SECOND", per_second, nonzero_u32(900));
        let max_concurrency = self.number("SEGMENT_MAX_CONCURRENCY", concurrency, nonzero_usize(256));
        let gzip = self.number("SEGMENT_GZIP", environment.segment_gzip.as_deref(), false);
        let endpoint = endpoint?;
        Some(SegmentSettings { write_key, endpoint, timeout, max_requests_per_second, max_concurrency, gzip })
    }

    fn write_key(&mut self, key: Option<&str>) -> String {
        match key {
            None => self.problem("SEGMENT_WRITE_KEY", "required: the write key of your source in Segment"),
            Some(key) if key.len() > MAX_WRITE_KEY => {
                self.problem("SEGMENT_WRITE_KEY", format_args!("longer than {MAX_WRITE_KEY} characters"));
            }
            Some(key) if !key.bytes().all(|byte| byte.is_ascii_graphic()) => {
                self.problem("SEGMENT_WRITE_KEY", "holds white space or other characters that no write key has");
            }
            Some(key) => return key.to_owned(),
        }
        String::new()
    }

    fn endpoint(&mut self, text: &str) -> Option<Url> {
        const NAME: &str = "SEGMENT_ENDPOINT";
        // The text is not repeated: someone may have put a password into it.
        match Url::parse(text) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") || url.host().is_none() => {
                self.problem(NAME, "must begin with https:// or http://");
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                self.problem(NAME, "must not hold a user name or password");
            }
            Ok(url) if url.query().is_some() || url.fragment().is_some() => {
                self.problem(NAME, "must be a base URL, without ? or #");
            }
            Ok(url) => return Some(url),
            Err(error) => self.problem(NAME, format_args!("not a URL that begins with https:// or http:// ({error})")),
        }
        None
    }

    /// A number or another simple value above its type's zero.
    pub(super) fn number<T: FromStr + Expected>(&mut self, name: &str, text: Option<&str>, default: T) -> T {
        match text.map(|text| T::from_str(text.trim()).ok().filter(T::is_allowed)) {
            None => default,
            Some(Some(value)) => value,
            Some(None) => {
                self.problem(name, format_args!("must be {}", T::EXPECTED));
                default
            }
        }
    }

    /// A duration above zero, of a day at most.
    pub(super) fn duration(&mut self, name: &str, text: Option<&str>, default: &str) -> Duration {
        self.duration_up_to(LONGEST, name, text, default)
    }

    /// A duration above zero.
    pub(super) fn duration_up_to(
        &mut self,
        longest: (Duration, &str),
        name: &str,
        text: Option<&str>,
        default: &str,
    ) -> Duration {
        let duration = self.pause_up_to(longest, name, text, default);
        if duration.is_zero() {
            self.problem(name, "must be more than 0s");
        }
        duration
    }

    /// A duration that may be zero, of a day at most.
    pub(super) fn pause(&mut self, name: &str, text: Option<&str>, default: &str) -> Duration {
        self.pause_up_to(LONGEST, name, text, default)
    }

    /// A duration that may be zero. One that cannot be read is noted, and stands as the longest.
    fn pause_up_to(
        &mut self,
        (longest, in_words): (Duration, &str),
        name: &str,
        text: Option<&str>,
        default: &str,
    ) -> Duration {
        match humantime::parse_duration(text.unwrap_or(default)) {
            Ok(duration) if duration <= longest => return duration,
            Ok(_) => self.problem(name, format_args!("must be at most {in_words}")),
            Err(error) => self.problem(name, format_args!("must be a duration such as 5s, 250ms or 2m ({error})")),
        }
        longest
    }

    pub(super) fn listen(&mut self, name: &str, text: Option<&str>, default: SocketAddr) -> SocketAddr {
        let Some(text) = text else { return default };
        text.parse().unwrap_or_else(|_| {
            self.problem(name, "must be an address and a port such as 0.0.0.0:8080 or [::]:8080");
            default
        })
    }

    pub(super) fn logs(&mut self, filter: Option<&str>, format: Option<&str>) -> LogSettings {
        let filter = filter.unwrap_or("info").to_owned();
        if let Err(error) = EnvFilter::try_new(&filter) {
            self.problem("RELAY_LOG", format_args!("not a filter ({error})"));
        } else if let Some(word) = filter.split(',').find(|directive| is_misspelt_level(directive)) {
            self.problem("RELAY_LOG", format_args!("{word} is no level (off, error, warn, info, debug, trace)"));
        }
        let format = match format {
            None => None,
            Some("json") => Some(LogFormat::Json),
            Some("text") => Some(LogFormat::Text),
            Some(_) => {
                self.problem("RELAY_LOG_FORMAT", "must be json or text");
                None
            }
        };
        LogSettings { filter, format }
    }
}

/// A filter takes a word alone for the name of a module, and a misspelt level would turn all logs off.
fn is_misspelt_level(directive: &str) -> bool {
    let word = directive.trim();
    let is_level = LevelFilter::from_str(word).is_ok();
    let is_more = word.contains(['=', '[', ':']) || word.starts_with(env!("CARGO_CRATE_NAME"));
    !word.is_empty() && !is_level && !is_more
}

/// What a setting of this type must be, in words.
pub(super) trait Expected: Sized {
    const EXPECTED: &str;

    /// Whether the value is within its bounds.
    fn is_allowed(&self) -> bool {
        true
    }
}

impl Expected for bool {
    const EXPECTED: &str = "true or false";
}

impl Expected for u16 {
    const EXPECTED: &str = "a port, 0 to 65535";
}

impl Expected for NonZeroU32 {
    const EXPECTED: &str = "a whole number from 1 to 1000000";

    /// Beyond a request a microsecond there is no pace left.
    fn is_allowed(&self) -> bool {
        self.get() <= 1_000_000
    }
}

impl Expected for NonZeroUsize {
    const EXPECTED: &str = "a whole number from 1 to 10000";

    /// Each slot may hold a connection, and file descriptors end somewhere.
    fn is_allowed(&self) -> bool {
        self.get() <= 10_000
    }
}

impl Expected for usize {
    const EXPECTED: &str = "a whole number from 1 to 100000";

    /// Each request in flight may hold 64 KiB: this many are 6.1 GiB.
    fn is_allowed(&self) -> bool {
        (1..=100_000).contains(self)
    }
}

fn nonzero_u32(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

fn nonzero_usize(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN)
}
