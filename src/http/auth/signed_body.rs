//! `hmac`: the HMAC-SHA256 of the body in a header, as many senders have it: GitHub in hex after `sha256=`, Shopify in
//! base64.

use axum::http::{HeaderMap, HeaderName};
use data_encoding::{BASE64_NOPAD, HEXLOWER_PERMISSIVE};

use super::Unauthorized;
use super::headers::only;
use super::keys::{Keys, LENGTH};

/// What may stand before a signature.
const PREFIX: &[u8] = b"sha256=";

/// How a signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// In either case.
    Hex,
    /// The standard alphabet, padded or not.
    Base64,
}

/// A signature that the body has to bear out.
pub(in crate::http) struct SignedBody<'a> {
    keys: &'a Keys,
    header: &'a HeaderName,
    signature: [u8; LENGTH],
}

impl<'a> SignedBody<'a> {
    pub(super) fn claimed(
        keys: &'a Keys,
        headers: &HeaderMap,
        header: &'a HeaderName,
        encoding: Encoding,
    ) -> Result<Self, Unauthorized> {
        let value = only(headers, header.as_str())?;
        let signature = encoding.signature(value.strip_prefix(PREFIX).unwrap_or(value)).ok_or_else(|| {
            Unauthorized::new(format!("the header {header} does not hold an HMAC-SHA256 in {}", encoding.name()))
        })?;
        Ok(Self { keys, header, signature })
    }

    pub(super) fn prove(self, body: &[u8]) -> Result<(), Unauthorized> {
        let fits = self.keys.signed(&[body], &[self.signature]);
        fits.then_some(()).ok_or_else(|| Unauthorized::new(format!("the signature in {} does not fit", self.header)))
    }
}

impl Encoding {
    /// The encoding's name, as in `RELAY_AUTH_HMAC_ENCODING`.
    pub(in crate::http) fn name(self) -> &'static str {
        match self {
            Self::Hex => "hex",
            Self::Base64 => "base64",
        }
    }

    fn signature(self, text: &[u8]) -> Option<[u8; LENGTH]> {
        match self {
            Self::Hex => HEXLOWER_PERMISSIVE.decode(text).ok()?.try_into().ok(),
            Self::Base64 => base64(text)?.try_into().ok(),
        }
    }
}

/// What base64 of the standard alphabet holds, padded or not.
pub(super) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let unpadded = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    BASE64_NOPAD.decode(unpadded).ok()
}
