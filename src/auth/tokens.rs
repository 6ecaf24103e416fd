//! `bearer` and `basic`: a token, or user and password, as they are.
//!
//! What is kept and compared are digests, so that the secrets themselves lie about nowhere, and how long a comparison takes
//! says nothing about them, their length included.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::Unauthorized;
use super::headers::only;
use crate::config::decode_base64;

/// What asks for a token (RFC 6750, 3).
pub(crate) const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"segment-relay\"");

/// The same, when there was one.
pub(crate) const OTHER_BEARER: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"segment-relay\", error=\"invalid_token\"");

/// What asks for user and password, in UTF-8 (RFC 7617).
pub(crate) const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"segment-relay\", charset=\"UTF-8\"");

/// Digests of all that are accepted.
#[derive(Clone)]
pub(crate) struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    /// Tokens, or pairs of user and password.
    pub(crate) fn new(secrets: &[impl AsRef<[u8]>]) -> Self {
        Self(secrets.iter().map(|secret| Sha256::digest(secret).into()).collect())
    }

    /// Whether these headers hold one of the tokens: `Authorization: Bearer ...`.
    pub(crate) fn check_bearer(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        let token = credentials(headers, b"Bearer").map_err(|fault| fault.asking(&BEARER))?;
        self.check(token).map_err(|fault| fault.asking(&OTHER_BEARER))
    }

    /// Whether these headers hold one of the pairs: `Authorization: Basic ...`.
    pub(super) fn check_basic(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        let text = credentials(headers, b"Basic").map_err(|fault| fault.asking(&BASIC))?;
        // What is not base64 is a wrong password like any other.
        self.check(&decode_base64(text).unwrap_or_default()).map_err(|fault| fault.asking(&BASIC))
    }

    /// Every digest is compared.
    fn check(&self, shown: &[u8]) -> Result<(), Unauthorized> {
        let shown = Sha256::digest(shown);
        let fits = self.0.iter().fold(Choice::from(0), |fits, known| fits | known.ct_eq(&shown[..]));
        bool::from(fits)
            .then_some(())
            .ok_or_else(|| Unauthorized::new("what the header authorization holds does not fit"))
    }
}

/// What follows the scheme's name, which may be in any case.
fn credentials<'a>(headers: &'a HeaderMap, scheme: &[u8]) -> Result<&'a [u8], Unauthorized> {
    let value = only(headers, AUTHORIZATION.as_str())?;
    let (name, rest) = value.split_at_checked(scheme.len()).unwrap_or((value, &[]));
    match rest.strip_prefix(b" ") {
        Some(credentials) if name.eq_ignore_ascii_case(scheme) => Ok(credentials.trim_ascii()),
        _ => {
            let scheme = String::from_utf8_lossy(scheme);
            Err(Unauthorized::new(format!("the header authorization does not begin with {scheme}")))
        }
    }
}

impl Unauthorized {
    fn asking(self, challenge: &HeaderValue) -> Self {
        Self { challenge: Some(challenge.clone()), ..self }
    }
}
