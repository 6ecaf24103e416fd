//! A scheme and its secrets, compiled: it cannot be half-configured.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use sha2::{Digest, Sha256};
use url::Url;

use super::scheme::{Scheme, SecretForm};
use super::signature::Signature;
use super::tokens::Tokens;
use super::unauthorized::Unauthorized;
use crate::config::{
    MAX_SECRETS, check_bearer_token, check_secret, check_user_and_password, decode_base64, secret_warnings,
};

/// The shortest secret in bytes that is not warned about, and the shortest key behind base64: Standard Webhooks asks for it.
const LEAST_LENGTH: usize = 16;
const LEAST_KEY_LENGTH: usize = 24;

/// Verifies the senders of one source.
pub struct Verifier {
    check: Check,
    /// Digests of the secrets, in each form in which somebody may have them.
    known: Vec<[u8; 32]>,
    warnings: Vec<String>,
}

/// What is checked of a request.
pub(super) enum Check {
    /// Nothing: everyone may send.
    Nothing,
    Token(HeaderName, Tokens),
    Bearer(Tokens),
    Basic(Tokens),
    Signature(Box<Signature>),
}

/// The head of a request is as it must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadClaim {
    /// Which names of headers count, where a scheme has several.
    names: usize,
}

/// A secret as its scheme uses it.
struct Secret<'a> {
    bytes: Vec<u8>,
    /// The part that must not be guessed, as it was written.
    guarded: &'a str,
}

impl Verifier {
    /// Any of `secrets` fits. `url` is the public address under which the sender calls, for schemes that sign it.
    ///
    /// # Errors
    /// All problems. Each begins with the key of the value that is wrong, and shows no secret.
    pub fn new(scheme: &Scheme, secrets: &[String], url: Option<&str>) -> Result<Self, Vec<String>> {
        let (mut problems, mut warnings, mut known, mut keys) = (vec![], vec![], vec![], vec![]);
        for (number, text) in (1..).zip(secrets) {
            let what = format!("secrets: number {number} of {}", secrets.len());
            match Secret::read(scheme, text) {
                Ok(secret) => {
                    known.extend([text.as_bytes(), secret.guarded.as_bytes(), &secret.bytes].map(digest));
                    let least = if is_base64(scheme) { LEAST_KEY_LENGTH } else { LEAST_LENGTH };
                    let told = secret_warnings(text, secret.guarded, secret.guarded_length(scheme), least);
                    warnings.extend(told.into_iter().map(|warning| format!("{what} {warning}")));
                    keys.push(secret.bytes);
                }
                Err(problem) => problems.push(format!("{what} {problem}")),
            }
        }
        let is_everyone = *scheme == Scheme::None;
        if is_everyone != secrets.is_empty() || secrets.len() > MAX_SECRETS {
            let wanted = if is_everyone { "have no effect" } else { "1 to 16 are needed" };
            problems.push(format!("secrets: {wanted}"));
        }
        if let Some(url) = url {
            problems.extend(check_url(scheme, url).err().map(|problem| format!("url: {problem}")));
        }
        let check = match scheme {
            Scheme::None => Check::Nothing,
            Scheme::Token { header } => Check::Token(header.clone(), Tokens::new(&keys)),
            Scheme::Bearer => Check::Bearer(Tokens::new(&keys)),
            Scheme::Basic => Check::Basic(Tokens::new(&keys)),
            Scheme::Signature(scheme) => match Signature::compile(scheme, url, &keys) {
                Ok(signature) => Check::Signature(Box::new(signature)),
                Err(further) => return Err([problems, further].concat()),
            },
        };
        if problems.is_empty() { Ok(Self { check, known, warnings }) } else { Err(problems) }
    }

    /// Whether everyone may send.
    pub fn is_none(&self) -> bool {
        matches!(self.check, Check::Nothing)
    }

    /// Whether this text, in any form, is one of the secrets or the password in one.
    pub fn holds(&self, text: &str) -> bool {
        let decoded = decode_base64(text.strip_prefix("whsec_").unwrap_or(text).as_bytes());
        let mut forms = [Some(text.as_bytes()), decoded.as_deref()].into_iter().flatten();
        forms.any(|form| self.known.contains(&digest(form)))
    }

    /// Whether this header proves the sender. `Authorization` does so, too, for some.
    pub(crate) fn reads(&self, name: &HeaderName) -> bool {
        match &self.check {
            Check::Token(header, _) => header == name,
            Check::Signature(signature) => signature.reads(name),
            Check::Nothing | Check::Bearer(_) | Check::Basic(_) => false,
        }
    }

    /// One line for each secret that is probably a mistake. None shows a secret.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Of `RELAY_AUTH`, whose settings say themselves what they hold and what they warn about.
    pub(super) fn of_relay_auth(check: Check) -> Self {
        Self { check, known: Vec::new(), warnings: Vec::new() }
    }

    /// Checks the head of a request: no header is missing, malformed or stale, and tokens are accepted.
    pub(crate) fn verify_head(&self, headers: &HeaderMap, now: SystemTime) -> Result<HeadClaim, Unauthorized> {
        let names = match &self.check {
            Check::Nothing => 0,
            Check::Token(header, tokens) => tokens.verify_header(headers, header).map(|()| 0)?,
            Check::Bearer(tokens) => tokens.verify_bearer(headers).map(|()| 0)?,
            Check::Basic(tokens) => tokens.verify_basic(headers).map(|()| 0)?,
            Check::Signature(signature) => signature.verify_head(headers, since_1970(now))?,
        };
        Ok(HeadClaim { names })
    }

    /// Checks the body of a request whose head was checked. Returns the id that was signed together with the body, if the
    /// scheme has one: no other header can be trusted to tell a repeated request from a new one.
    pub(crate) fn verify_body(
        &self,
        claim: HeadClaim,
        method: &Method,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Option<HeaderValue>, Unauthorized> {
        match &self.check {
            Check::Signature(signature) => signature.verify_body(claim.names, method, headers, body),
            Check::Nothing | Check::Token(..) | Check::Bearer(_) | Check::Basic(_) => Ok(None),
        }
    }
}

impl<'a> Secret<'a> {
    fn read(scheme: &Scheme, text: &'a str) -> Result<Self, &'static str> {
        check_secret(text)?;
        let guarded = match scheme {
            Scheme::None => text,
            Scheme::Token { .. } if text.trim() == text => text,
            Scheme::Token { .. } => return Err("must not begin or end with a space, which no header does"),
            Scheme::Bearer => check_bearer_token(text).map(|()| text)?,
            Scheme::Basic => check_user_and_password(text)?,
            Scheme::Signature(scheme) => {
                let prefix = scheme.secret_prefix.as_deref().unwrap_or_default();
                text.strip_prefix(prefix).ok_or("does not begin with secret_prefix")?
            }
        };
        let bytes = match (scheme, is_base64(scheme)) {
            (_, true) => decode_base64(guarded.as_bytes()).ok_or("is not base64 behind secret_prefix")?,
            (Scheme::Signature(_), false) => guarded.as_bytes().to_vec(),
            _ => text.as_bytes().to_vec(),
        };
        if bytes.is_empty() { Err("is empty") } else { Ok(Self { bytes, guarded }) }
    }

    fn guarded_length(&self, scheme: &Scheme) -> usize {
        if is_base64(scheme) { self.bytes.len() } else { self.guarded.len() }
    }
}

fn is_base64(scheme: &Scheme) -> bool {
    matches!(scheme, Scheme::Signature(scheme) if scheme.secret_is == SecretForm::Base64)
}

/// It is signed as it is written, so it is not changed.
fn check_url(scheme: &Scheme, url: &str) -> Result<(), &'static str> {
    if !matches!(scheme, Scheme::Signature(scheme) if scheme.signed.contains("{url}")) {
        return Err("has no effect, because it is not signed");
    }
    let is_web = |parsed: Url| matches!(parsed.scheme(), "http" | "https") && parsed.has_host();
    let is_printable = url.bytes().all(|byte| byte.is_ascii_graphic());
    let is_address = is_printable && !url.contains('#') && Url::parse(url).is_ok_and(is_web);
    is_address.then_some(()).ok_or("must be the address that is registered with the sender, such as https://host/path")
}

fn digest(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// A clock before 1970 counts as 1970, when no signature is recent.
fn since_1970(now: SystemTime) -> Duration {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
