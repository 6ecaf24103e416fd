//! The table of all settings. Each is declared here and nowhere else.
//!
//! `config/relay.env` explains them to users. A test compares it, the documents and `docker-compose.yml` with this table.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use axum::http::HeaderName;
use url::Url;

use super::auth::{self, AuthScheme, SignatureEncoding};
use super::certificates::{certificate_directories, certificate_file};
use super::checks::{
    MAX_DURATION, MAX_GIVE_UP, MAX_RETENTION, MAX_WINDOW, admin_token, duration, duration_or_never, either, keep_alive,
    log_filter, outbox_size, path, positive_duration, socket_address, trace_protocol, whole_number,
};
use super::endpoint::{endpoint, notify_url};
use super::place::{OutboxPlace, outbox_place};
use super::proxy::{Proxy, exceptions, proxy_url};
use super::value::{LogFormat, Secret};
use super::write_key::write_key;
use DefaultValue::{Required, Unset, Value};

/// A setting as people read it.
#[derive(Clone, Copy, Debug)]
pub struct Declaration {
    /// The name of the environment variable.
    pub name: &'static str,
    pub default: DefaultValue,
    /// One sentence.
    pub meaning: &'static str,
}

/// What holds if the variable is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// The setting must be set.
    Required,
    /// The value, as it would be written in the environment.
    Value(&'static str),
    /// The setting may be missing.
    Unset,
}

/// A setting whose value becomes a `T`.
pub(super) struct Setting<T: 'static> {
    pub(super) declaration: Declaration,
    /// Reads the text of the variable. The error says what is wrong with it, without the variable's name and without a
    /// secret.
    pub(super) check: fn(&str) -> Result<T, String>,
}

/// Settings that many programs read. Their names are no mistakes, however similar to them others are.
pub(super) const COMMON: [&str; 9] = [
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_SDK_DISABLED",
];

/// Declares settings: the meaning, then `NAME: type = default, check;`. Makes a constant of each, and `SETTINGS`.
macro_rules! settings {
    ($(#[doc = $meaning:literal] $name:ident: $type:ty = $default:expr, $check:expr;)+) => {
        $(
            #[doc = $meaning]
            pub(super) const $name: Setting<$type> = Setting {
                declaration: Declaration {
                    name: stringify!($name),
                    default: $default,
                    meaning: $meaning.trim_ascii(),
                },
                check: $check,
            };
        )+

        /// Every setting of this version.
        pub const SETTINGS: &[Declaration] = &[$($name.declaration),+];
    };
}

settings! {
    /// The write key of the source in Segment that receives the customers.
    SEGMENT_WRITE_KEY: Secret = Required, write_key;

    /// The base URL of Segment's API.
    SEGMENT_ENDPOINT: Url = Value("https://api.segment.io"), endpoint;

    /// The proxy for an endpoint of https://.
    HTTPS_PROXY: Proxy = Unset, proxy_url;

    /// The proxy for an endpoint of http://.
    HTTP_PROXY: Proxy = Unset, proxy_url;

    /// The proxy for any endpoint, unless the one above is set.
    ALL_PROXY: Proxy = Unset, proxy_url;

    /// The hosts that are reached without a proxy.
    NO_PROXY: Vec<String> = Unset, exceptions;

    /// A file of certificate authorities to trust instead of the system's.
    SSL_CERT_FILE: () = Unset, certificate_file;

    /// Directories of certificate authorities to trust instead of the system's.
    SSL_CERT_DIR: () = Unset, certificate_directories;

    /// The time limit of one attempt to reach Segment.
    SEGMENT_TIMEOUT: Duration = Value("5s"), |text| positive_duration(text, MAX_DURATION);

    // The pace cannot be finer than a request a microsecond.
    /// The maximum number of requests to Segment in one second, 1 to 1000000.
    SEGMENT_MAX_REQUESTS_PER_SECOND: NonZeroU32 = Value("900"), |text| whole_number(text, 1..=1_000_000);

    // Each request may hold a connection, and file descriptors are limited.
    /// The maximum number of requests to Segment at the same time, 1 to 10000.
    SEGMENT_MAX_CONCURRENCY: NonZeroUsize = Value("256"), |text| whole_number(text, 1..=10_000);

    /// Whether requests to Segment are compressed.
    SEGMENT_GZIP: bool = Value("false"), |text| either(text.trim(), [("true", true), ("false", false)]);

    /// The address and port to listen on.
    RELAY_LISTEN: SocketAddr = Value("0.0.0.0:8080"), socket_address;

    /// The port to listen on if RELAY_LISTEN is not set.
    PORT: u16 = Value("8080"), |text| whole_number(text, 0..=65_535);

    /// The time limit of a caller's whole request, retries included.
    RELAY_REQUEST_TIMEOUT: Duration = Value("10s"), |text| positive_duration(text, MAX_DURATION);

    /// How long an idle connection stays open, 1s to 24h.
    RELAY_KEEP_ALIVE: Duration = Value("620s"), keep_alive;

    // Each request in flight may hold 64 KiB: 100000 of them are 6.1 GiB.
    /// The maximum number of requests in flight, 1 to 100000.
    RELAY_MAX_IN_FLIGHT: usize = Value("2048"), |text| whole_number(text, 1..=100_000);

    /// How senders prove who they are.
    RELAY_AUTH: AuthScheme = Value("none"), auth::scheme;

    /// The secrets of RELAY_AUTH, separated by commas.
    RELAY_AUTH_SECRETS: Vec<String> = Unset, auth::split_secrets;

    /// The header that holds the signature of RELAY_AUTH=hmac.
    RELAY_AUTH_HMAC_HEADER: HeaderName = Value("X-Signature-256"), auth::signature_header;

    /// The encoding of the signature of RELAY_AUTH=hmac.
    RELAY_AUTH_HMAC_ENCODING: SignatureEncoding = Value("hex"),
        |text| either(text, [("hex", SignatureEncoding::Hex), ("base64", SignatureEncoding::Base64)]);

    /// The secret that the command import --url shows to a relay.
    RELAY_IMPORT_SECRET: Secret = Unset, |text| Ok(Secret::new(text));

    /// The file of sources: products whose own webhooks are taken.
    RELAY_SOURCES: PathBuf = Unset, path;

    /// The file, or the PostgreSQL database, that stores calls before they are answered with 202.
    RELAY_OUTBOX_URL: OutboxPlace = Unset, outbox_place;

    /// The maximum size of calls, keys and dead letters in the outbox, 1MiB to 256TiB.
    RELAY_OUTBOX_MAX_SIZE: u64 = Value("10GiB"), outbox_size;

    /// How long dead letters are kept, at most 3650days, or never to delete none because of its age.
    RELAY_DEAD_LETTER_RETENTION: Option<Duration> = Value("30days"), |text| duration_or_never(text, MAX_RETENTION);

    /// How long the relay remembers an idempotency key after Segment accepted its call, at most 365days.
    RELAY_IDEMPOTENCY_WINDOW: Duration = Value("24h"), |text| positive_duration(text, MAX_WINDOW);

    /// How long a stored call may fail on its own until it becomes a dead letter, at most 365days, or never.
    RELAY_GIVE_UP_AFTER: Option<Duration> = Value("24h"), |text| duration_or_never(text, MAX_GIVE_UP);

    /// The token for the page at /, for /status, /calls, /dead-letters, /parked, /backup and their commands.
    RELAY_ADMIN_TOKEN: Secret = Unset, admin_token;

    /// The address and port for operators, metrics and documents alone.
    RELAY_ADMIN_LISTEN: SocketAddr = Unset, socket_address;

    /// The URL to which the relay posts what wakes somebody.
    RELAY_NOTIFY_URL: Url = Unset, notify_url;

    /// The secrets that sign what is posted to RELAY_NOTIFY_URL, separated by commas.
    RELAY_NOTIFY_SECRETS: Vec<String> = Unset, auth::split_secrets;

    /// How long requests are still served after SIGTERM, while /readyz fails.
    RELAY_SHUTDOWN_DELAY: Duration = Value("1s"), |text| duration(text, MAX_DURATION);

    /// How long requests in flight may take to finish after RELAY_SHUTDOWN_DELAY.
    RELAY_SHUTDOWN_GRACE: Duration = Value("25s"), |text| duration(text, MAX_DURATION);

    /// The filter of the log, as in Rust's tracing-subscriber.
    RELAY_LOG: String = Value("info"), log_filter;

    /// The format of the log, json or text.
    RELAY_LOG_FORMAT: LogFormat = Unset, |text| either(text, [("json", LogFormat::Json), ("text", LogFormat::Text)]);

    /// The base URL of the receiver of traces, in OpenTelemetry's protocol over HTTP.
    OTEL_EXPORTER_OTLP_ENDPOINT: Url = Unset, endpoint;

    /// The form of traces, http/protobuf alone.
    OTEL_EXPORTER_OTLP_PROTOCOL: () = Value("http/protobuf"), trace_protocol;

    /// Whether no traces are made, in spite of a receiver.
    OTEL_SDK_DISABLED: bool = Value("false"), |text| either(text.trim(), [("true", true), ("false", false)]);
}
