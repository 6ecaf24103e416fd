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

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::{AuthScheme, AuthSettings, SignatureEncoding};
use keys::Keys;
use signed_body::SignedBody;
use standard_webhooks::Webhook;

pub(crate) use standard_webhooks::{STANDARD, SVIX};
pub(crate) use tokens::{BASIC, BEARER, OTHER_BEARER, Tokens};

/// Who may send customers: the checks that the settings ask for.
#[derive(Clone)]
pub struct Auth(pub(crate) Scheme);

/// The schemes of the contract, each with all secrets that are accepted.
#[derive(Clone)]
pub(crate) enum Scheme {
    None,
    StandardWebhooks(Keys),
    Hmac { header: HeaderName, encoding: SignatureEncoding, keys: Keys },
    Bearer(Tokens),
    Basic(Tokens),
}

/// What the head of a request claims: it is proven already, or the body has to bear out a signature.
pub(crate) enum Claim<'a> {
    Proven,
    Webhook(Webhook<'a>),
    Body(SignedBody<'a>),
}

/// Why a request is not let in, as its sender reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unauthorized {
    pub(crate) message: String,
    /// The `WWW-Authenticate` header, of the schemes that have one.
    pub(crate) challenge: Option<HeaderValue>,
}

impl Auth {
    /// The checks for these settings.
    pub fn new(settings: &AuthSettings) -> Self {
        let secrets = &settings.secrets;
        Self(match &settings.scheme {
            AuthScheme::None => Scheme::None,
            AuthScheme::StandardWebhooks => Scheme::StandardWebhooks(Keys::new(secrets)),
            AuthScheme::Hmac { header, encoding } => {
                Scheme::Hmac { header: header.clone(), encoding: *encoding, keys: Keys::new(secrets) }
            }
            AuthScheme::Bearer => Scheme::Bearer(Tokens::new(secrets)),
            AuthScheme::Basic => Scheme::Basic(Tokens::new(secrets)),
        })
    }

    /// Everyone may send customers.
    pub fn none() -> Self {
        Self(Scheme::None)
    }

    /// What these headers claim, if that can be true: nothing is missing, malformed or stale, and tokens fit.
    pub(crate) fn claim<'a>(&'a self, headers: &'a HeaderMap, now: SystemTime) -> Result<Claim<'a>, Unauthorized> {
        match &self.0 {
            Scheme::None => Ok(Claim::Proven),
            Scheme::StandardWebhooks(keys) => Webhook::claimed(keys, headers, since_1970(now)).map(Claim::Webhook),
            Scheme::Hmac { header, encoding, keys } => {
                SignedBody::claimed(keys, headers, header, *encoding).map(Claim::Body)
            }
            Scheme::Bearer(tokens) => tokens.check_bearer(headers).map(|()| Claim::Proven),
            Scheme::Basic(tokens) => tokens.check_basic(headers).map(|()| Claim::Proven),
        }
    }
}

impl<'a> Claim<'a> {
    /// Lets the request in if its body bears the claim out. The id under which the body was signed, if it was signed under
    /// one: no other header can be trusted to tell a repeated request from a new one.
    pub(crate) fn prove(self, body: &[u8]) -> Result<Option<&'a [u8]>, Unauthorized> {
        match self {
            Self::Proven => Ok(None),
            Self::Webhook(webhook) => webhook.prove(body).map(Some),
            Self::Body(signed) => signed.prove(body).map(|()| None),
        }
    }
}

impl Unauthorized {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), challenge: None }
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
