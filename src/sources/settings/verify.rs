//! The keys that say how a source's sender proves who it is: `verify`, and `header` for a token.

use std::time::Duration;

use axum::http::{HeaderName, header};

use super::document::{Table, Value, nearest};
use crate::auth::{self, Algorithm, Encoding, Preset, Scheme, SecretForm, SignatureScheme, TimeUnit, TimestampScheme};
use crate::config::positive_duration;

/// How far the sender's clock may differ if the file does not say. Most senders' own libraries allow the same.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// The longest tolerance: some senders sign once and retry for days, none for more than a week.
const MAX_TOLERANCE: (Duration, &str) = (Duration::from_secs(7 * 24 * 60 * 60), "7days");

/// The schemes that are no preset's.
const PLAIN: [&str; 4] = ["bearer", "basic", "token", "none"];

/// What `verify` says.
pub(super) struct Verify<'a> {
    /// A preset's name, a plain scheme's, or `signature` for values of the operator's own.
    pub(super) name: String,
    pub(super) scheme: Scheme,
    pub(super) preset: Option<&'static Preset>,
    /// The table of values of the operator's own.
    pub(super) values: Option<Table<'a>>,
}

/// Reads `verify` and `header`.
pub(super) fn read<'a>(source: &Table<'a>) -> Option<Verify<'a>> {
    let token_header = source.get("header");
    let Some(value) = source.get("verify") else {
        source.add_at("verify", "required: a preset's name, a table of values, bearer, basic, token or none");
        return None;
    };
    let mut verify = if value.is_text() { value.read(named)? } else { of_values(&value)? };
    match (&mut verify.scheme, token_header) {
        (Scheme::Token { header }, Some(value)) => *header = value.read(header_name)?,
        (_, Some(value)) => value.add("counts only where verify is token"),
        (_, None) => {}
    }
    Some(verify)
}

fn named<'a>(name: &str) -> Result<Verify<'a>, String> {
    let (scheme, preset) = match name {
        "none" => (Scheme::None, None),
        "token" => (Scheme::Token { header: header::AUTHORIZATION }, None),
        "bearer" => (Scheme::Bearer, None),
        "basic" => (Scheme::Basic, None),
        _ => match auth::preset(name) {
            Some(preset) => (preset.scheme(), Some(preset)),
            None => {
                let known = auth::presets().iter().map(|preset| preset.name).chain(PLAIN);
                return Err(format!("no such preset{}", nearest(name, known)));
            }
        },
    };
    Ok(Verify { name: name.to_owned(), scheme, preset, values: None })
}

fn of_values<'a>(value: &Value<'a>) -> Option<Verify<'a>> {
    let table = value.table()?;
    let header = table.require("header", header_name);
    let signature = SignatureScheme {
        format: table.read("format", text).unwrap_or_else(|| "{signature}".to_owned()),
        signed: table.read("signed", text).unwrap_or_else(|| "{body}".to_owned()),
        encoding: table.read("encoding", encoding).unwrap_or(Encoding::Hex),
        algorithm: table.read("algorithm", algorithm).unwrap_or(Algorithm::HmacSha256),
        timestamp: table.get("timestamp").and_then(|value| timestamp(&value)),
        secret_is: table.read("secret_is", secret_is).unwrap_or(SecretForm::Text),
        secret_prefix: table.read("secret_prefix", text),
        id_header: table.read("id_header", header_name),
        // Without it there is a problem.
        header: header.unwrap_or(header::AUTHORIZATION),
    };
    table.finish();
    let (name, scheme) = ("signature".to_owned(), Scheme::Signature(Box::new(signature)));
    Some(Verify { name, scheme, preset: None, values: Some(table) })
}

fn timestamp(value: &Value<'_>) -> Option<TimestampScheme> {
    let table = value.table()?;
    let header = table.read("header", header_name);
    let unit = table.require("unit", unit);
    let tolerance = table.read("tolerance", |text| positive_duration(text, MAX_TOLERANCE));
    table.finish();
    // Without a unit there is a problem.
    let (unit, tolerance) = (unit.unwrap_or(TimeUnit::Seconds), tolerance.unwrap_or(TOLERANCE));
    Some(TimestampScheme { header, unit, tolerance })
}

/// A text that is not empty.
pub(super) fn text(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

pub(super) fn header_name(text: &str) -> Result<HeaderName, String> {
    HeaderName::try_from(text).map_err(|_| "not the name of a header".to_owned())
}

/// The value of one of these names.
pub(super) fn one_of<T: Copy>(text: &str, names: &[(&str, T)]) -> Result<T, String> {
    let found = names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        format!("must be one of {}", names.join(", "))
    })
}

fn encoding(text: &str) -> Result<Encoding, String> {
    one_of(text, &[("hex", Encoding::Hex), ("base64", Encoding::Base64)])
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    let names = [
        ("hmac-sha256", Algorithm::HmacSha256),
        ("hmac-sha1", Algorithm::HmacSha1),
        ("hmac-sha512", Algorithm::HmacSha512),
        ("sha256", Algorithm::Sha256),
    ];
    one_of(text, &names)
}

fn unit(text: &str) -> Result<TimeUnit, String> {
    one_of(text, &[("s", TimeUnit::Seconds), ("ms", TimeUnit::Milliseconds), ("rfc3339", TimeUnit::Rfc3339)])
}

fn secret_is(text: &str) -> Result<SecretForm, String> {
    one_of(text, &[("text", SecretForm::Text), ("base64", SecretForm::Base64)])
}
