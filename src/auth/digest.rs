//! The digest of a signed text, under any of several secrets.

use hmac::digest::{Digest, Update};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};

use super::scheme::Algorithm;
use crate::config::MAX_SECRETS;

/// The longest digest, of SHA-512, in bytes.
pub(super) const MAX_BYTES: usize = 64;

/// The secrets. Each is hashed into the first state of its HMAC already, which halves the work for a small body.
pub(super) enum Keys {
    HmacSha256(Vec<Hmac<Sha256>>),
    HmacSha1(Vec<Hmac<Sha1>>),
    HmacSha512(Vec<Hmac<Sha512>>),
    /// The signed text holds the secret.
    Sha256(Vec<Vec<u8>>),
}

/// The digest of a text under each secret. On the stack, because every request has them.
pub(super) struct Digests {
    digests: [[u8; MAX_BYTES]; MAX_SECRETS],
    count: usize,
}

impl Keys {
    /// At most as many secrets as the settings allow, of any length.
    pub(super) fn new(algorithm: Algorithm, secrets: &[Vec<u8>]) -> Self {
        let secrets = &secrets[..secrets.len().min(MAX_SECRETS)];
        match algorithm {
            Algorithm::HmacSha256 => Self::HmacSha256(keyed(secrets)),
            Algorithm::HmacSha1 => Self::HmacSha1(keyed(secrets)),
            Algorithm::HmacSha512 => Self::HmacSha512(keyed(secrets)),
            Algorithm::Sha256 => Self::Sha256(secrets.to_vec()),
        }
    }

    /// What a digest is called, with its article, and its length in bytes.
    pub(super) fn digest(&self) -> (&'static str, usize) {
        match self {
            Self::HmacSha256(_) => ("an HMAC-SHA256", 32),
            Self::HmacSha1(_) => ("an HMAC-SHA1", 20),
            Self::HmacSha512(_) => ("an HMAC-SHA512", 64),
            Self::Sha256(_) => ("a SHA-256", 32),
        }
    }

    /// The digests of a text. `write` writes the text, and gets the secret for it.
    pub(super) fn digests(&self, write: impl Fn(&mut dyn Update, &[u8])) -> Digests {
        let mut digests = Digests { digests: [[0; MAX_BYTES]; MAX_SECRETS], count: 0 };
        match self {
            Self::HmacSha256(keys) => digests.extend(keys, write),
            Self::HmacSha1(keys) => digests.extend(keys, write),
            Self::HmacSha512(keys) => digests.extend(keys, write),
            Self::Sha256(secrets) => {
                for secret in secrets {
                    let mut digest = Sha256::new();
                    write(&mut digest, secret);
                    digests.push(&digest.finalize());
                }
            }
        }
        digests
    }
}

pub(super) fn keyed<M: KeyInit>(secrets: &[Vec<u8>]) -> Vec<M> {
    // HMAC accepts keys of any length, so there is no error.
    secrets.iter().filter_map(|secret| M::new_from_slice(secret).ok()).collect()
}

impl Digests {
    fn extend<M: Mac + Update + Clone>(&mut self, keys: &[M], write: impl Fn(&mut dyn Update, &[u8])) {
        for key in keys {
            let mut mac = key.clone();
            write(&mut mac, &[]);
            self.push(&mac.finalize().into_bytes());
        }
    }

    fn push(&mut self, digest: &[u8]) {
        if let Some(place) = self.digests.get_mut(self.count).and_then(|place| place.get_mut(..digest.len())) {
            place.copy_from_slice(digest);
            self.count += 1;
        }
    }

    /// Whether this is one of them, behind which there are zeros. It is compared with each, so that the time tells nothing.
    pub(super) fn have(&self, shown: &[u8; MAX_BYTES]) -> Choice {
        self.digests[..self.count].iter().fold(Choice::from(0), |is_valid, digest| is_valid | digest[..].ct_eq(shown))
    }
}
