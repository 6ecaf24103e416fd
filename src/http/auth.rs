//! Who may send customers (`RELAY_AUTH`).
//!
//! What the head of a request shows is looked at before its body is read; a signature is checked over the raw body, before
//! anything of it is parsed. Secrets are compared in constant time, and with all of them, so that time says neither which one
//! came near nor where it differed. Answers name the header that is missing or stale, never why a signature differs.
//! With no secret nobody gets in.

mod headers;
mod keys;
mod signed_body;
mod standard_webhooks;
mod tokens;

use std::fmt;
use std::time::{Duration, SystemTime};

use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::answer::Answer;
use keys::Keys;
use signed_body::SignedBody;
use standard_webhooks::Webhook;
pub(super) use standard_webhooks::{STANDARD, SVIX};
pub(super) use tokens::{BASIC, BEARER, OTHER_BEARER, Tokens};

pub use signed_body::Encoding;

/// How senders show who they are, with the secrets of which any will do.
#[derive(Clone)]
pub struct Auth(pub(super) Scheme);

/// The contract's schemes.
#[derive(Clone)]
pub(super) enum Scheme {
    None,
    StandardWebhooks(Keys),
    Hmac { header: HeaderName, encoding: Encoding, keys: Keys },
    Bearer(Tokens),
    Basic(Tokens),
}

/// What the head of a request claims: there is nothing more to show, or a signature that the body has to bear out.
pub(super) enum Claim<'a> {
    Shown,
    Webhook(Webhook<'a>),
    Body(SignedBody<'a>),
}

/// Why a request is not let in, as its sender reads it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unauthorized {
    pub(super) message: String,
    /// The `WWW-Authenticate` header, of the schemes that have one.
    challenge: Option<HeaderValue>,
}

impl Auth {
    /// Everyone may send customers.
    pub fn none() -> Self {
        Self(Scheme::None)
    }

    /// [Standard Webhooks](https://www.standardwebhooks.com): signed id, time and body.
    pub fn standard_webhooks() -> Self {
        Self(Scheme::StandardWebhooks(Keys::default()))
    }

    /// HMAC-SHA256 of the body in `header`.
    pub fn hmac(header: HeaderName, encoding: Encoding) -> Self {
        Self(Scheme::Hmac { header, encoding, keys: Keys::default() })
    }

    /// `Authorization: Bearer TOKEN` (RFC 6750).
    pub fn bearer() -> Self {
        Self(Scheme::Bearer(Tokens::default()))
    }

    /// `Authorization: Basic BASE64(USER:PASSWORD)` (RFC 7617).
    pub fn basic() -> Self {
        Self(Scheme::Basic(Tokens::default()))
    }

    /// Lets those in who have this secret, too.
    ///
    /// # Errors
    /// What a secret of this scheme must be. It does not repeat the secret.
    pub fn accept(&mut self, secret: &str) -> Result<(), &'static str> {
        match &mut self.0 {
            Scheme::None => Err("there is no scheme that asks for it"),
            Scheme::StandardWebhooks(keys) => {
                keys.add(&standard_webhooks::key(secret)?);
                Ok(())
            }
            Scheme::Hmac { keys, .. } => {
                keys.add(secret.as_bytes());
                Ok(())
            }
            Scheme::Bearer(tokens) => tokens.add_bearer(secret),
            Scheme::Basic(tokens) => tokens.add_basic(secret),
        }
    }

    /// Whether everyone may send customers.
    pub fn is_none(&self) -> bool {
        matches!(self.0, Scheme::None)
    }

    /// For how long a captured request would be let in again, from the earliest time of its sender's clock to the latest. None:
    /// for ever, or the scheme has no signatures.
    pub fn signatures_stay_fresh(&self) -> Option<Duration> {
        matches!(self.0, Scheme::StandardWebhooks(_)).then_some(2 * standard_webhooks::TOLERANCE)
    }

    /// The scheme's name, as in `RELAY_AUTH`.
    pub fn name(&self) -> &'static str {
        match self.0 {
            Scheme::None => "none",
            Scheme::StandardWebhooks(_) => "standard-webhooks",
            Scheme::Hmac { .. } => "hmac",
            Scheme::Bearer(_) => "bearer",
            Scheme::Basic(_) => "basic",
        }
    }

    /// What these headers claim, if that can be true: nothing is missing, malformed or stale, and tokens fit.
    pub(super) fn claim<'a>(&'a self, headers: &'a HeaderMap, now: SystemTime) -> Result<Claim<'a>, Unauthorized> {
        match &self.0 {
            Scheme::None => Ok(Claim::Shown),
            Scheme::StandardWebhooks(keys) => Webhook::claimed(keys, headers, since_1970(now)).map(Claim::Webhook),
            Scheme::Hmac { header, encoding, keys } => {
                SignedBody::claimed(keys, headers, header, *encoding).map(Claim::Body)
            }
            Scheme::Bearer(tokens) => tokens.check_bearer(headers).map(|()| Claim::Shown),
            Scheme::Basic(tokens) => tokens.check_basic(headers).map(|()| Claim::Shown),
        }
    }
}

impl<'a> Claim<'a> {
    /// Lets the request in if its body bears the claim out. The id under which the body was signed, if it was signed under
    /// one: no other header can be trusted to tell a repeated request from a new one.
    pub(super) fn prove(self, body: &[u8]) -> Result<Option<&'a [u8]>, Unauthorized> {
        match self {
            Self::Shown => Ok(None),
            Self::Webhook(webhook) => webhook.prove(body).map(Some),
            Self::Body(signed) => signed.prove(body).map(|()| None),
        }
    }
}

impl Unauthorized {
    /// The answer with what the scheme asks for.
    pub(super) fn ask(self, answer: Answer) -> Answer {
        match self.challenge {
            Some(challenge) => answer.with(WWW_AUTHENTICATE, challenge),
            None => answer,
        }
    }

    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), challenge: None }
    }
}

/// Secrets stay out of it.
impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Auth({})", self.name())
    }
}

/// A clock before 1970 stands at 1970, where no signature is fresh.
fn since_1970(now: SystemTime) -> Duration {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
