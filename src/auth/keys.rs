//! HMAC-SHA256 under any of several keys.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

/// An HMAC-SHA256, in bytes.
pub(super) const LENGTH: usize = 32;

/// The keys, each hashed into its HMAC's first state already: that halves the work for a small body.
#[derive(Clone)]
pub(crate) struct Keys(Vec<Hmac<Sha256>>);

impl Keys {
    /// Keys of any length.
    pub(super) fn new(keys: &[Vec<u8>]) -> Self {
        // HMAC accepts keys of any length, so there is no error.
        Self(keys.iter().filter_map(|key| Hmac::new_from_slice(key).ok()).collect())
    }

    /// Whether, under any of the keys, any of these is the HMAC of all parts together. Every key is tried with every one.
    pub(super) fn signed(&self, parts: &[&[u8]], signatures: &[[u8; LENGTH]]) -> bool {
        let mut fits = Choice::from(0);
        for keyed in &self.0 {
            let mut mac = keyed.clone();
            parts.iter().for_each(|part| mac.update(part));
            let right = mac.finalize().into_bytes();
            for signature in signatures {
                fits |= right[..].ct_eq(signature);
            }
        }
        fits.into()
    }
}
