//! `hmac`: the HMAC-SHA256 of the body in a header, as many senders have it: GitHub in hex after `sha256=`, Shopify in
//! base64.

use axum::http::{HeaderMap, HeaderName};
use data_encoding::HEXLOWER_PERMISSIVE;

use super::Unauthorized;
use super::headers::only;
use super::keys::{Keys, LENGTH};
use crate::config::{SignatureEncoding, decode_base64};

/// What may stand before a signature.
const PREFIX: &[u8] = b"sha256=";

/// A signature that the body has to bear out.
pub(crate) struct SignedBody<'a> {
    keys: &'a Keys,
    header: &'a HeaderName,
    signature: [u8; LENGTH],
}

impl<'a> SignedBody<'a> {
    pub(super) fn claimed(
        keys: &'a Keys,
        headers: &HeaderMap,
        header: &'a HeaderName,
        encoding: SignatureEncoding,
    ) -> Result<Self, Unauthorized> {
        let value = only(headers, header.as_str())?;
        let signature = decode(encoding, value.strip_prefix(PREFIX).unwrap_or(value)).ok_or_else(|| {
            Unauthorized::new(format!("the header {header} does not hold an HMAC-SHA256 in {}", encoding.name()))
        })?;
        Ok(Self { keys, header, signature })
    }

    pub(super) fn prove(self, body: &[u8]) -> Result<(), Unauthorized> {
        let fits = self.keys.signed(&[body], &[self.signature]);
        fits.then_some(()).ok_or_else(|| Unauthorized::new(format!("the signature in {} does not fit", self.header)))
    }
}

fn decode(encoding: SignatureEncoding, text: &[u8]) -> Option<[u8; LENGTH]> {
    let bytes = match encoding {
        SignatureEncoding::Hex => HEXLOWER_PERMISSIVE.decode(text).ok(),
        SignatureEncoding::Base64 => decode_base64(text),
    };
    bytes?.try_into().ok()
}
