//! How senders prove who they are: the scheme (`RELAY_AUTH`) and its secrets.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::http::HeaderName;
use data_encoding::BASE64_NOPAD;

use super::sender_secret::{check_bearer_token, check_secret, check_user_and_password};

/// How far the clock of a Standard Webhooks sender may differ, in both directions. The libraries of the specification allow
/// the same.
pub const WEBHOOK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Headers that have another meaning already, so that none can hold a signature.
const RESERVED_HEADERS: [&str; 12] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "prefer",
    "transfer-encoding",
    "upgrade",
    "webhook-id",
    "x-request-id",
];

/// More secrets than any rotation needs. Every request costs a hash of its body for each secret.
pub const MAX_SECRETS: usize = 16;

/// How senders prove who they are. Any one of the secrets is accepted. `auth` builds its checks from this.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthSettings {
    pub scheme: AuthScheme,
    /// The keys of `standard-webhooks` (decoded) and `hmac`; the tokens of `bearer`; the `user:password` of `basic`.
    pub secrets: Vec<Vec<u8>>,
}

/// How a sender proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthScheme {
    /// Everyone may send customers.
    None,
    /// A signature over id, time and body: [Standard Webhooks](https://www.standardwebhooks.com).
    StandardWebhooks,
    /// HMAC-SHA256 of the body in `header`.
    Hmac { header: HeaderName, encoding: SignatureEncoding },
    /// `Authorization: Bearer TOKEN` (RFC 6750).
    Bearer,
    /// `Authorization: Basic BASE64(USER:PASSWORD)` (RFC 7617).
    Basic,
}

/// The encoding of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureEncoding {
    /// In lower or upper case.
    Hex,
    /// The standard alphabet, padded or not.
    Base64,
}

impl SignatureEncoding {
    /// The name, as in `RELAY_AUTH_HMAC_ENCODING`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hex => "hex",
            Self::Base64 => "base64",
        }
    }
}

impl AuthSettings {
    /// A scheme without secrets. It refuses everybody, except for [`AuthScheme::None`].
    pub fn new(scheme: AuthScheme) -> Self {
        Self { scheme, secrets: Vec::new() }
    }

    /// Adds a secret that is accepted.
    ///
    /// # Errors
    /// Says what a secret of this scheme must be. The message does not repeat the secret.
    pub fn accept(&mut self, secret: &str) -> Result<(), &'static str> {
        check_secret(secret)?;
        let secret = match self.scheme {
            AuthScheme::None => return Err("the scheme is none"),
            AuthScheme::StandardWebhooks => {
                let key = secret.strip_prefix("whsec_").and_then(|text| decode_base64(text.as_bytes()));
                key.filter(|key| !key.is_empty()).ok_or("must be whsec_ and then the key in base64, without quotes")?
            }
            AuthScheme::Hmac { .. } => secret.as_bytes().to_vec(),
            AuthScheme::Bearer => {
                check_bearer_token(secret)?;
                secret.as_bytes().to_vec()
            }
            AuthScheme::Basic => {
                check_user_and_password(secret)?;
                secret.as_bytes().to_vec()
            }
        };
        self.secrets.push(secret);
        Ok(())
    }

    /// Whether this text, in any form, is one of the secrets or the password in one.
    pub(super) fn holds(&self, text: &str) -> bool {
        let decoded = decode_base64(text.strip_prefix("whsec_").unwrap_or(text).as_bytes());
        let is_it = |secret: &[u8]| secret == text.as_bytes() || decoded.as_deref() == Some(secret);
        self.secrets.iter().any(|secret| is_it(secret) || is_it(self.secret_part(secret)))
    }

    /// The part of a secret that must not be guessed: the password of `user:password`, otherwise all of it.
    pub(super) fn secret_part<'a>(&self, secret: &'a [u8]) -> &'a [u8] {
        let colon = secret.iter().position(|byte| *byte == b':').filter(|_| self.scheme == AuthScheme::Basic);
        colon.map_or(secret, |colon| &secret[colon + 1..])
    }

    /// The shortest length in bytes that is not warned about. Standard Webhooks asks for 24.
    pub(super) fn least_length(&self) -> usize {
        if self.scheme == AuthScheme::StandardWebhooks { 24 } else { 16 }
    }

    /// Whether everyone may send customers.
    pub fn is_none(&self) -> bool {
        self.scheme == AuthScheme::None
    }

    /// The scheme's name, as in `RELAY_AUTH`.
    pub fn name(&self) -> &'static str {
        match self.scheme {
            AuthScheme::None => "none",
            AuthScheme::StandardWebhooks => "standard-webhooks",
            AuthScheme::Hmac { .. } => "hmac",
            AuthScheme::Bearer => "bearer",
            AuthScheme::Basic => "basic",
        }
    }
}

impl fmt::Debug for AuthSettings {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthSettings({})", self.name())
    }
}

/// Base64 of the standard alphabet, padded or not.
pub fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    BASE64_NOPAD.decode(unpadded(text)).ok()
}

/// Base64 without its padding.
pub fn unpadded(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text)
}

/// The scheme of this name. The header and the encoding of `hmac` are placeholders: they have settings of their own.
pub(super) fn scheme(name: &str) -> Result<AuthScheme, String> {
    match name {
        "none" => Ok(AuthScheme::None),
        "standard-webhooks" => Ok(AuthScheme::StandardWebhooks),
        "hmac" => {
            let header = HeaderName::from_static("x-signature-256");
            Ok(AuthScheme::Hmac { header, encoding: SignatureEncoding::Hex })
        }
        "bearer" => Ok(AuthScheme::Bearer),
        "basic" => Ok(AuthScheme::Basic),
        _ => Err("no such scheme; there are none, standard-webhooks, hmac, bearer and basic".to_owned()),
    }
}

/// The secrets of a list. What a secret must be depends on the scheme: see [`AuthSettings::accept`].
pub(super) fn split_secrets(list: &str) -> Result<Vec<String>, String> {
    let secrets: Vec<String> = list.split(',').map(|secret| secret.trim_ascii().to_owned()).collect();
    // Split at the comma, `v1` would be a secret of its own, which anybody can guess.
    if secrets.windows(2).any(|pair| pair[0] == "v1" && pair[1].starts_with("whsec_")) {
        return Err("holds v1,whsec_...: the secret begins with whsec_, leave v1 and the comma out".to_owned());
    }
    if secrets.len() > MAX_SECRETS { Err(format!("more than {MAX_SECRETS}")) } else { Ok(secrets) }
}

pub(super) fn signature_header(name: &str) -> Result<HeaderName, String> {
    match HeaderName::from_str(name.trim_ascii()) {
        Ok(name) if !RESERVED_HEADERS.contains(&name.as_str()) => Ok(name),
        Ok(_) => Err("this header has another meaning".to_owned()),
        Err(_) => Err("not the name of a header".to_owned()),
    }
}
