//! Secrets: the file of sources only names where each is.

use std::path::{Path, PathBuf};

use data_encoding::BASE64;

use crate::auth::{Scheme, SecretForm};
use crate::config::{self, MAX_SECRET_FILE, Secret};

/// The longest name of a variable that a message shows.
const MAX_NAME: usize = 100;

/// The prefixes of the relay's own settings. A variable that has one and is no setting stops the start.
const OWN: [&str; 2] = ["RELAY_", "SEGMENT_"];

/// What stands in for secrets in trials, so that people can sign with it. It is long enough to be warned about nowhere.
const STAND_IN: &str = "dev-secret-for-trials-only";

/// What the file of sources is read with.
pub struct ReadOptions<'a> {
    /// The environment, for `env:NAME`.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Whether events can be kept.
    pub has_outbox: bool,
    /// It must be no source's secret.
    pub admin_token: Option<&'a Secret>,
    /// Whether a secret that is missing gets a stand-in, for trials, instead of being a problem.
    pub has_stand_ins: bool,
}

/// A secret that is not set, and what stands in for it.
pub struct StandIn {
    /// `env:NAME` or `file:PATH`, as it was written.
    pub place: String,
    pub secret: String,
}

/// Where secrets are read.
pub(super) struct Secrets<'a> {
    /// The directory of the file of sources.
    pub(super) directory: &'a Path,
    pub(super) options: &'a ReadOptions<'a>,
}

impl Secrets<'_> {
    /// The secret that `env:NAME` or `file:PATH` names. `stand_in` replaces one that is not there, in trials. No message shows
    /// a secret, nor a path, because somebody may put the secret itself where its path belongs.
    pub(super) fn read(&self, place: &str, stand_in: &str, missing: &mut Vec<StandIn>) -> Result<String, String> {
        let found = if let Some(name) = place.strip_prefix("env:") {
            check_name(name)?;
            let value = (self.options.variable)(name).filter(|value| !value.is_empty());
            value.ok_or_else(|| format!("the variable {name} is not set"))
        } else if let Some(path) = place.strip_prefix("file:") {
            config::read_file(&self.directory.join(path), MAX_SECRET_FILE)
        } else {
            return Err("must be env:NAME or file:PATH: no secret may be in this file".to_owned());
        };
        if found.is_err() && self.options.has_stand_ins {
            missing.push(StandIn { place: place.to_owned(), secret: stand_in.to_owned() });
            return Ok(stand_in.to_owned());
        }
        found
    }

    /// The path of another file that the file of sources names.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }
}

/// The name of a variable, of which a message may show all: a secret has other characters.
fn check_name(name: &str) -> Result<(), String> {
    let is_name = !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    if !is_name {
        Err("must name a variable in capital letters, digits and _ after env:".to_owned())
    } else if OWN.iter().any(|prefix| name.starts_with(prefix)) {
        Err(format!("{name}: only the relay's own settings may begin with RELAY_ or SEGMENT_; give it another name"))
    } else {
        Ok(())
    }
}

/// What stands in for a secret of this scheme.
pub(super) fn stand_in(scheme: &Scheme) -> String {
    match scheme {
        Scheme::Basic => format!("dev:{STAND_IN}"),
        Scheme::Signature(signature) => {
            let prefix = signature.secret_prefix.as_deref().unwrap_or_default();
            match signature.secret_is {
                SecretForm::Text => format!("{prefix}{STAND_IN}"),
                SecretForm::Base64 => format!("{prefix}{}", BASE64.encode(STAND_IN.as_bytes())),
            }
        }
        Scheme::None | Scheme::Token { .. } | Scheme::Bearer => STAND_IN.to_owned(),
    }
}
