//! Who may send customers (`RELAY_AUTH`). Pure: headers and bytes go in, a verdict comes out.
//!
//! The head of a request is checked before its body is read, and a signature over the raw body before the body is
//! parsed. Secrets are compared in constant time, and each request with all of them, so that the duration reveals
//! nothing. A message names the header that is missing or stale, never why a signature differs. Without a secret every
//! request is refused.

mod headers;
mod keys;
mod scheme;
mod signed_body;
mod standard_webhooks;
mod tokens;
mod unauthorized;
mod verifier;

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::RwLock;

use crate::config::{AuthScheme, AuthSettings, SignatureEncoding};
use keys::Keys;
use signed_body::SignedBody;
use standard_webhooks::SignedWebhook;

pub use scheme::{Algorithm, Challenge, Encoding, Scheme, SecretForm, SignatureScheme, TimeUnit, TimestampScheme};
pub use verifier::Verifier;

pub(crate) use tokens::Tokens;
pub(crate) use unauthorized::Unauthorized;

/// Who may send customers: the checks that the settings ask for. `None`: everyone.
pub struct Auth(Option<RwLock<Checks>>);

/// The other schemes of `RELAY_AUTH`, each with all accepted secrets.
enum Checks {
    StandardWebhooks(Keys),
    Hmac { header: HeaderName, encoding: SignatureEncoding, keys: Keys },
    Bearer(Tokens),
    Basic(Tokens),
}

/// What the head of a request proves: the sender, or a signature that the body must match.
pub(crate) enum HeadClaim {
    Proven,
    SignedWebhook(SignedWebhook),
    SignedBody(SignedBody),
}

impl Auth {
    /// The checks for these settings.
    pub fn new(settings: &AuthSettings) -> Self {
        Self(Checks::new(settings).map(RwLock::new))
    }

    /// Everyone may send customers.
    pub fn none() -> Self {
        Self(None)
    }

    /// Whether a request that passes the checks has shown a secret.
    pub(crate) fn asks_for_a_secret(&self) -> bool {
        self.0.is_some()
    }

    /// From now on the secrets of these settings are accepted, and no others. If everyone may send customers, nothing
    /// changes.
    pub fn replace_secrets(&self, settings: &AuthSettings) {
        if let (Some(current), Some(scheme)) = (&self.0, Checks::new(settings)) {
            *current.write() = scheme;
        }
    }

    /// Checks the head of a request: no header is missing, malformed or stale, and tokens are accepted.
    pub(crate) fn verify_head(&self, headers: &HeaderMap, now: SystemTime) -> Result<HeadClaim, Unauthorized> {
        let Some(scheme) = &self.0 else { return Ok(HeadClaim::Proven) };
        match &*scheme.read() {
            Checks::StandardWebhooks(_) => {
                SignedWebhook::from_headers(headers, since_1970(now)).map(HeadClaim::SignedWebhook)
            }
            Checks::Hmac { header, encoding, .. } => {
                SignedBody::from_headers(headers, header, *encoding).map(HeadClaim::SignedBody)
            }
            Checks::Bearer(tokens) => tokens.verify_bearer(headers).map(|()| HeadClaim::Proven),
            Checks::Basic(tokens) => tokens.verify_basic(headers).map(|()| HeadClaim::Proven),
        }
    }

    /// Checks the body against what the head claims. Returns the id that was signed together with the body, if the scheme has
    /// one: no other header can be trusted to tell a repeated request from a new one.
    pub(crate) fn verify_body(&self, claim: HeadClaim, body: &[u8]) -> Result<Option<HeaderValue>, Unauthorized> {
        let Some(scheme) = &self.0 else { return Ok(None) };
        match (claim, &*scheme.read()) {
            (HeadClaim::Proven, _) => Ok(None),
            (HeadClaim::SignedWebhook(webhook), Checks::StandardWebhooks(keys)) => webhook.verify(keys, body).map(Some),
            (HeadClaim::SignedBody(signed), Checks::Hmac { header, keys, .. }) => {
                signed.verify(keys, header, body).map(|()| None)
            }
            _ => Err(Unauthorized::new("the signature is of another scheme")),
        }
    }
}

impl Checks {
    fn new(settings: &AuthSettings) -> Option<Self> {
        let secrets = &settings.secrets;
        Some(match &settings.scheme {
            AuthScheme::None => return None,
            AuthScheme::StandardWebhooks => Self::StandardWebhooks(Keys::new(secrets)),
            AuthScheme::Hmac { header, encoding } => {
                Self::Hmac { header: header.clone(), encoding: *encoding, keys: Keys::new(secrets) }
            }
            AuthScheme::Bearer => Self::Bearer(Tokens::new(secrets)),
            AuthScheme::Basic => Self::Basic(Tokens::new(secrets)),
        })
    }
}

/// A clock before 1970 counts as 1970, when no signature is recent.
fn since_1970(now: SystemTime) -> Duration {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
