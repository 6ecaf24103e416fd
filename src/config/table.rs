//! The table of all settings. Each is declared here and nowhere else.
//!
//! `config/relay.env` explains them to users. A test compares it, the documents and `docker-compose.yml` with this table.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use axum::http::HeaderName;
use url::Url;

use super::admin_token::{self, AdminToken};
use super::auth::{self, AuthScheme, SignatureEncoding};
use super::checks::{MAX_DURATION, MAX_WINDOW, duration, flag, positive_duration, socket_address, whole_number};
use super::logs::{self, LogFormat};
use super::setting::DefaultValue::{Required, Unset, Value};
use super::setting::{Declaration, Setting};
use super::{outbox, segment};

/// Settings whose feature this version does not have. The relay refuses to start with them rather than ignore them.
pub(super) const UNSUPPORTED: [&str; 1] = ["OTEL_EXPORTER_OTLP_ENDPOINT"];

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
    SEGMENT_WRITE_KEY: String = Required, segment::write_key;

    /// The base URL of Segment's API.
    SEGMENT_ENDPOINT: Url = Value("https://api.segment.io"), segment::endpoint;

    /// The time limit of one attempt to reach Segment.
    SEGMENT_TIMEOUT: Duration = Value("5s"), |text| positive_duration(text, MAX_DURATION);

    // The pace cannot be finer than a request a microsecond.
    /// The maximum number of requests to Segment in one second, 1 to 1000000.
    SEGMENT_MAX_REQUESTS_PER_SECOND: NonZeroU32 = Value("900"), |text| whole_number(text, 1..=1_000_000);

    // Each request may hold a connection, and file descriptors are limited.
    /// The maximum number of requests to Segment at the same time, 1 to 10000.
    SEGMENT_MAX_CONCURRENCY: NonZeroUsize = Value("256"), |text| whole_number(text, 1..=10_000);

    /// Whether requests to Segment are compressed.
    SEGMENT_GZIP: bool = Value("false"), flag;

    /// The address and port to listen on.
    RELAY_LISTEN: SocketAddr = Value("0.0.0.0:8080"), socket_address;

    /// The port to listen on if RELAY_LISTEN is not set.
    PORT: u16 = Value("8080"), |text| whole_number(text, 0..=65_535);

    /// The time limit of a caller's whole request, retries included.
    RELAY_REQUEST_TIMEOUT: Duration = Value("10s"), |text| positive_duration(text, MAX_DURATION);

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
    RELAY_AUTH_HMAC_ENCODING: SignatureEncoding = Value("hex"), auth::signature_encoding;

    /// The file that stores calls before they are answered with 202.
    RELAY_OUTBOX_URL: PathBuf = Unset, outbox::sqlite_path;

    /// The maximum size of calls, keys and dead letters in the outbox, 1MiB to 256TiB.
    RELAY_OUTBOX_MAX_SIZE: u64 = Value("10GiB"), outbox::size;

    /// How long the relay remembers an idempotency key after its call was delivered or refused, at most 365days.
    RELAY_IDEMPOTENCY_WINDOW: Duration = Value("24h"), |text| positive_duration(text, MAX_WINDOW);

    /// The token for /status, /dead-letters and the command dead-letters.
    RELAY_ADMIN_TOKEN: AdminToken = Unset, admin_token::admin_token;

    /// How long requests are still served after SIGTERM, while /readyz fails.
    RELAY_SHUTDOWN_DELAY: Duration = Value("1s"), |text| duration(text, MAX_DURATION);

    /// How long requests in flight may take to finish after RELAY_SHUTDOWN_DELAY.
    RELAY_SHUTDOWN_GRACE: Duration = Value("25s"), |text| duration(text, MAX_DURATION);

    /// The filter of the log, as in Rust's tracing-subscriber.
    RELAY_LOG: String = Value("info"), logs::filter;

    /// The format of the log, json or text.
    RELAY_LOG_FORMAT: LogFormat = Unset, logs::format;
}
