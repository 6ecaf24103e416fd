//! HMAC-SHA256 under any of several keys.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

/// The length of an HMAC-SHA256, in bytes.
pub(super) const MAC_BYTES: usize = 32;

/// The keys. Each is hashed into the first state of its HMAC already, which halves the work for a small body.
#[derive(Clone)]
pub(super) struct Keys(Vec<Hmac<Sha256>>);

impl Keys {
    /// Keys of any length.
    pub(super) fn new(keys: &[Vec<u8>]) -> Self {
        // HMAC accepts keys of any length, so there is no error.
        Self(keys.iter().filter_map(|key| Hmac::new_from_slice(key).ok()).collect())
    }

    /// Whether one of `signatures` is the HMAC of the concatenated `parts` under one of the keys. Every signature is compared
    /// under every key, so that the time tells nothing.
    pub(super) fn verify(&self, parts: &[&[u8]], signatures: &[[u8; MAC_BYTES]]) -> bool {
        let mut is_valid = Choice::from(0);
        for keyed in &self.0 {
            let mut mac = keyed.clone();
            parts.iter().for_each(|part| mac.update(part));
            let expected = mac.finalize().into_bytes();
            for signature in signatures {
                is_valid |= expected[..].ct_eq(signature);
            }
        }
        is_valid.into()
    }
}
