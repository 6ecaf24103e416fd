//! `hmac`: the HMAC-SHA256 of the body in a header. GitHub sends it in hex after `sha256=`, Shopify in base64.

use axum::http::{HeaderMap, HeaderName};
use data_encoding::HEXLOWER_PERMISSIVE;

use super::headers::required;
use super::keys::{Keys, MAC_BYTES};
use super::unauthorized::Unauthorized;
use crate::config::{SignatureEncoding, decode_base64};

/// An optional prefix of a signature.
const PREFIX: &[u8] = b"sha256=";

/// A signature that the body must match.
pub(crate) struct SignedBody {
    signature: [u8; MAC_BYTES],
}

impl SignedBody {
    /// Reads the signature from `header`.
    pub(super) fn from_headers(
        headers: &HeaderMap,
        header: &HeaderName,
        encoding: SignatureEncoding,
    ) -> Result<Self, Unauthorized> {
        let value = required(headers, header.as_str())?.as_bytes();
        let signature = decode(encoding, value.strip_prefix(PREFIX).unwrap_or(value)).ok_or_else(|| {
            Unauthorized::new(format!("the header {header} does not hold an HMAC-SHA256 in {}", encoding.name()))
        })?;
        Ok(Self { signature })
    }

    /// Checks the signature against the body.
    pub(super) fn verify(self, keys: &Keys, header: &HeaderName, body: &[u8]) -> Result<(), Unauthorized> {
        let is_valid = keys.verify(&[body], &[self.signature]);
        is_valid.then_some(()).ok_or_else(|| Unauthorized::new(format!("the signature in {header} does not fit")))
    }
}

fn decode(encoding: SignatureEncoding, text: &[u8]) -> Option<[u8; MAC_BYTES]> {
    let bytes = match encoding {
        SignatureEncoding::Hex => HEXLOWER_PERMISSIVE.decode(text).ok(),
        SignatureEncoding::Base64 => decode_base64(text),
    };
    bytes?.try_into().ok()
}
