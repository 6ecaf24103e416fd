//! The settings, read from the environment once and checked all at once.
//!
//! Every problem is reported on a line that names the variable and never shows a secret. A misspelt setting, and a setting
//! whose feature this version does not have, are problems too. An empty variable counts as not set, because compose files
//! pass a missing variable on as an empty one.
//!
//! `table.rs` declares each setting once: its name, its default, its meaning and its check. `file.rs` says which of them may
//! come from a file.

mod auth;
mod certificates;
mod checks;
mod commands;
mod endpoint;
mod environment;
mod file;
mod kubernetes;
mod place;
mod postgres_tls;
mod postgres_url;
mod proxy;
mod receivers;
mod sender_secret;
mod settings;
mod table;
mod unfilled;
mod value;
mod warnings;
mod write_key;
mod write_keys;

pub use auth::{AuthScheme, AuthSettings, MAX_SECRETS, SignatureEncoding, WEBHOOK_TOLERANCE, decode_base64, unpadded};
pub use commands::{admin_token_from_environment, outbox_place_from_environment};
pub use environment::Problems;
pub use file::FILE_SETTINGS;
pub use place::{OutboxPlace, outbox_place};
pub use postgres_tls::{PostgresTls, RootCertificates, TlsMode};
pub use postgres_url::PostgresUrl;
pub use proxy::{Proxy, uses_tls};
pub use receivers::{NotifySettings, TraceSettings};
pub use sender_secret::{check_bearer_token, check_secret, check_user_and_password, secret_warnings};
pub use settings::{
    LogSettings, OutboxSettings, SegmentSettings, Settings, as_far_as_right, from_environment, from_variables,
    import_secret_from_environment, local_address_from_environment, secrets_from_files, variables,
};
pub use table::{Declaration, DefaultValue, SETTINGS};
pub use value::{LogFormat, Secret};
pub use write_keys::WriteKeys;

// What the file of sources shares with the environment: the same words for the same values.
pub(crate) use checks::{MAX_WINDOW, SOURCE_WINDOW, positive_duration};
pub(crate) use file::{MAX_BYTES as MAX_SECRET_FILE, read as read_file};
pub(crate) use write_key::{USUAL_LENGTH as USUAL_KEY_LENGTH, write_key};

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
