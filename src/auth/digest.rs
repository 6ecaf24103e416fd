//! The digest of a signed text, under any of several secrets.

use hmac::digest::{Digest, Update};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};

use super::scheme::Algorithm;

/// The longest digest, of SHA-512, in bytes.
const MAX_BYTES: usize = 64;

/// More signatures than any sender's rotation of secrets needs. Each is compared under each secret.
const MAX_CANDIDATES: usize = 16;

/// The secrets. Each is hashed into the first state of its HMAC already, which halves the work for a small body.
pub(super) enum Keys {
    HmacSha256(Vec<Hmac<Sha256>>),
    HmacSha1(Vec<Hmac<Sha1>>),
    HmacSha512(Vec<Hmac<Sha512>>),
    /// The signed text holds the secret.
    Sha256(Vec<Vec<u8>>),
}

/// Digests that a sender showed: the first of them, one of which must fit.
pub(super) struct Candidates {
    digests: [[u8; MAX_BYTES]; MAX_CANDIDATES],
    count: usize,
}

impl Keys {
    /// Secrets of any length.
    pub(super) fn new(algorithm: Algorithm, secrets: &[Vec<u8>]) -> Self {
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

    /// Whether one of the candidates is the digest of a text under one of the secrets. `write` writes the text, and gets the
    /// secret for it. Every candidate is compared under every secret, so that the time tells nothing.
    pub(super) fn verify(&self, candidates: &Candidates, write: impl Fn(&mut dyn Update, &[u8])) -> bool {
        match self {
            Self::HmacSha256(keys) => any_fits(keys, candidates, write),
            Self::HmacSha1(keys) => any_fits(keys, candidates, write),
            Self::HmacSha512(keys) => any_fits(keys, candidates, write),
            Self::Sha256(secrets) => {
                let compare = |is_valid, secret: &Vec<u8>| {
                    let mut digest = Sha256::new();
                    write(&mut digest, secret);
                    is_valid | candidates.compare(&digest.finalize())
                };
                secrets.iter().fold(Choice::from(0), compare).into()
            }
        }
    }
}

fn keyed<M: KeyInit>(secrets: &[Vec<u8>]) -> Vec<M> {
    // HMAC accepts keys of any length, so there is no error.
    secrets.iter().filter_map(|secret| M::new_from_slice(secret).ok()).collect()
}

fn any_fits<M: Mac + Update + Clone>(
    keys: &[M],
    candidates: &Candidates,
    write: impl Fn(&mut dyn Update, &[u8]),
) -> bool {
    let compare = |is_valid, key: &M| {
        let mut mac = key.clone();
        write(&mut mac, &[]);
        is_valid | candidates.compare(&mac.finalize().into_bytes())
    };
    keys.iter().fold(Choice::from(0), compare).into()
}

impl Candidates {
    pub(super) fn new() -> Self {
        Self { digests: [[0; MAX_BYTES]; MAX_CANDIDATES], count: 0 }
    }

    /// Takes a digest, which `decode` writes to the front of the buffer. What is beyond the limit is not looked at.
    pub(super) fn push(&mut self, decode: impl FnOnce(&mut [u8]) -> bool) {
        if let Some(place) = self.digests.get_mut(self.count) {
            self.count += usize::from(decode(place));
        }
    }

    fn compare(&self, digest: &[u8]) -> Choice {
        let shown = self.digests[..self.count].iter();
        shown.fold(Choice::from(0), |is_valid, shown| is_valid | shown[..digest.len()].ct_eq(digest))
    }
}
