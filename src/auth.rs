//! Who may send (`RELAY_AUTH`, and `verify` of a source). Pure: headers and bytes go in, a verdict comes out.
//!
//! The head of a request is checked before its body is read, and a signature over the raw body before the body is
//! parsed. Secrets are compared in constant time, and each request with all of them, so that the duration reveals
//! nothing. A message names the header that is missing or stale, never why a signature differs. Without a secret every
//! request is refused.
//!
//! `scheme` says how a sender proves who it is, `presets` does so for products by name, and `verifier` compiles it together
//! with the secrets: a `signature` reads its header by `format` and the time by `clock`, and compares by `digest`. `signer` makes
//! the signatures of what the relay sends.

mod clock;
mod digest;
mod format;
mod headers;
mod presets;
mod scheme;
mod signature;
mod signer;
mod template;
mod tokens;
mod unauthorized;
mod verifier;

use std::time::SystemTime;

use axum::http::{HeaderMap, HeaderValue, Method};
use parking_lot::RwLock;

use crate::config::{AuthScheme, AuthSettings};
use signature::Signature;
use verifier::Check;

pub use presets::{Preset, preset, presets};
pub use scheme::{Algorithm, Challenge, Encoding, Scheme, SecretForm, SignatureScheme, TimeUnit, TimestampScheme};
pub use signer::WebhookSigner;
pub use verifier::Verifier;

pub(crate) use tokens::Tokens;
pub(crate) use unauthorized::Unauthorized;
pub(crate) use verifier::HeadClaim;

/// Who may send customers: what the settings ask for. `None`: everyone.
pub struct Auth(Option<RwLock<Verifier>>);

impl Auth {
    /// The check for these settings.
    pub fn new(settings: &AuthSettings) -> Self {
        Self(verifier(settings).map(RwLock::new))
    }

    /// Everyone may send customers.
    pub fn none() -> Self {
        Self(None)
    }

    /// Whether a request that passes the check has shown a secret.
    pub(crate) fn asks_for_a_secret(&self) -> bool {
        self.0.is_some()
    }

    /// From now on the secrets of these settings are accepted, and no others. If everyone may send customers, nothing
    /// changes.
    pub fn replace_secrets(&self, settings: &AuthSettings) {
        if let (Some(current), Some(verifier)) = (&self.0, verifier(settings)) {
            *current.write() = verifier;
        }
    }

    /// As [`Verifier::verify_head`]. `None`: everyone is let in.
    pub(crate) fn verify_head(&self, headers: &HeaderMap, now: SystemTime) -> Result<Option<HeadClaim>, Unauthorized> {
        self.0.as_ref().map(|verifier| verifier.read().verify_head(headers, now)).transpose()
    }

    /// As [`Verifier::verify_body`].
    pub(crate) fn verify_body(
        &self,
        claim: Option<HeadClaim>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Option<HeaderValue>, Unauthorized> {
        let Some(verifier) = &self.0 else { return Ok(None) };
        let claim = claim.ok_or_else(|| Unauthorized::new("the head of the request was not checked"))?;
        // No scheme of RELAY_AUTH signs the method.
        verifier.read().verify_body(claim, &Method::POST, headers, body)
    }
}

/// `None`: everyone may send customers.
fn verifier(settings: &AuthSettings) -> Option<Verifier> {
    let secrets = &settings.secrets;
    Some(Verifier::of_relay_auth(match &settings.scheme {
        AuthScheme::None => return None,
        AuthScheme::StandardWebhooks => Check::Signature(Box::new(Signature::of_standard_webhooks(secrets))),
        AuthScheme::Hmac { header, encoding } => {
            Check::Signature(Box::new(Signature::of_hmac(header, *encoding, secrets)))
        }
        AuthScheme::Bearer => Check::Bearer(Tokens::new(secrets)),
        AuthScheme::Basic => Check::Basic(Tokens::new(secrets)),
    }))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
