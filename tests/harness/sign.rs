//! Signatures and credentials as senders make them, with nothing of the relay's own code.
//!
//! `tests/it/auth/vectors.rs` holds them against vectors that others published.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The three headers of a signed webhook, <https://www.standardwebhooks.com>.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub id: String,
    /// Whole seconds since 1970, unless a test wants something else.
    pub timestamp: String,
    /// One signature or several.
    pub signature: String,
}

impl Webhook {
    /// Signed now.
    pub fn sign(secret: &str, id: &str, body: impl AsRef<[u8]>) -> Self {
        Self::sign_at(secret, id, &now().to_string(), body)
    }

    /// Signed with this for its timestamp.
    pub fn sign_at(secret: &str, id: &str, timestamp: &str, body: impl AsRef<[u8]>) -> Self {
        let signature = webhook_signature(secret, id, timestamp, body.as_ref());
        Self { id: id.to_owned(), timestamp: timestamp.to_owned(), signature }
    }

    /// The same with another signature.
    pub fn with_signature(&self, signature: &str) -> Self {
        Self { signature: signature.to_owned(), ..self.clone() }
    }

    /// Under the names of the standard.
    pub fn headers(&self) -> [(&str, &str); 3] {
        self.named("webhook-id", "webhook-timestamp", "webhook-signature")
    }

    /// Under the names that Svix gives them.
    pub fn svix_headers(&self) -> [(&str, &str); 3] {
        self.named("svix-id", "svix-timestamp", "svix-signature")
    }

    fn named<'a>(&'a self, id: &'a str, timestamp: &'a str, signature: &'a str) -> [(&'a str, &'a str); 3] {
        [(id, &self.id), (timestamp, &self.timestamp), (signature, &self.signature)]
    }
}

/// A secret of Standard Webhooks with this key.
pub fn webhook_secret(key: &[u8]) -> String {
    format!("whsec_{}", STANDARD.encode(key))
}

/// One signature, `v1,` and base64.
pub fn webhook_signature(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    let key = STANDARD_NO_PAD.decode(secret.trim_start_matches("whsec_").trim_end_matches('=')).expect("base64");
    let content = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    format!("v1,{}", STANDARD.encode(hmac_sha256(&key, &content)))
}

/// HMAC-SHA256 of the body, in hexadecimal digits.
pub fn hmac_hex(secret: &str, body: impl AsRef<[u8]>) -> String {
    hmac_sha256(secret.as_bytes(), body.as_ref()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// HMAC-SHA256 of the body, in base64 with its padding.
pub fn hmac_base64(secret: &str, body: impl AsRef<[u8]>) -> String {
    STANDARD.encode(hmac_sha256(secret.as_bytes(), body.as_ref()))
}

/// The value of `Authorization` for these credentials, `user:password`, RFC 7617.
pub fn basic(credentials: impl AsRef<[u8]>) -> String {
    format!("Basic {}", STANDARD.encode(credentials))
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

fn hmac_sha256(key: &[u8], content: &[u8]) -> [u8; 32] {
    Hmac::<Sha256>::new_from_slice(key)
        .expect("a key of any length")
        .chain_update(content)
        .finalize()
        .into_bytes()
        .into()
}
