//! `token`, `bearer` and `basic`: a header, a token, or a user and password, as they are.
//!
//! Only digests are kept and compared, so that the secrets themselves are not in memory, and the time of a comparison tells
//! nothing about them, not even their length.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::headers::required;
use super::unauthorized::Unauthorized;
use crate::config::decode_base64;

/// The challenge where no token was sent (RFC 6750, section 3).
const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"segment-relay\"");

/// The challenge where another token was sent.
const BEARER_INVALID: HeaderValue = HeaderValue::from_static("Bearer realm=\"segment-relay\", error=\"invalid_token\"");

/// The challenge for user and password, in UTF-8 (RFC 7617).
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"segment-relay\", charset=\"UTF-8\"");

/// Digests of all accepted secrets.
#[derive(Clone)]
pub(crate) struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    /// Tokens, or pairs of user and password.
    pub(crate) fn new(secrets: &[impl AsRef<[u8]>]) -> Self {
        Self(secrets.iter().map(|secret| Sha256::digest(secret).into()).collect())
    }

    /// Checks a header that is a secret as a whole.
    pub(super) fn verify_header(&self, headers: &HeaderMap, header: &HeaderName) -> Result<(), Unauthorized> {
        self.verify(required(headers, header)?.as_bytes(), header)
    }

    /// Checks `Authorization: Bearer TOKEN`.
    pub(crate) fn verify_bearer(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        let token = credentials(headers, b"Bearer").map_err(|error| error.with_challenge(&BEARER))?;
        self.verify(token, &AUTHORIZATION).map_err(|error| error.with_challenge(&BEARER_INVALID))
    }

    /// Checks `Authorization: Basic BASE64(USER:PASSWORD)`.
    pub(super) fn verify_basic(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        let text = credentials(headers, b"Basic").map_err(|error| error.with_challenge(&BASIC))?;
        // Text that is not base64 is a wrong password like any other.
        let pair = decode_base64(text).unwrap_or_default();
        self.verify(&pair, &AUTHORIZATION).map_err(|error| error.with_challenge(&BASIC))
    }

    /// Compares with every digest.
    fn verify(&self, secret: &[u8], header: &HeaderName) -> Result<(), Unauthorized> {
        let digest = Sha256::digest(secret);
        let is_valid = self.0.iter().fold(Choice::from(0), |is_valid, known| is_valid | known.ct_eq(&digest[..]));
        bool::from(is_valid)
            .then_some(())
            .ok_or_else(|| Unauthorized::new(format!("what the header {header} holds does not fit")))
    }
}

/// What follows the name of the scheme, which may be in any case.
fn credentials<'a>(headers: &'a HeaderMap, scheme: &[u8]) -> Result<&'a [u8], Unauthorized> {
    let value = required(headers, &AUTHORIZATION)?.as_bytes();
    let (name, rest) = value.split_at_checked(scheme.len()).unwrap_or((value, &[]));
    match rest.strip_prefix(b" ") {
        Some(credentials) if name.eq_ignore_ascii_case(scheme) => Ok(credentials.trim_ascii()),
        _ => {
            let scheme = String::from_utf8_lossy(scheme);
            Err(Unauthorized::new(format!("the header authorization does not begin with {scheme}")))
        }
    }
}
