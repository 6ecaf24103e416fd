//! Warnings about settings that are allowed and are probably mistakes.

use super::auth::AuthSettings;
use super::endpoint::is_loopback;
use super::settings::{SegmentSettings, Settings};
use super::write_key::USUAL_LENGTH;

/// The write key of a trial with the sandbox, which takes any.
const TRIAL_KEY: &str = "dev";

impl Settings {
    /// One line for each setting that is probably a mistake. None shows a secret.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.segment.warnings();
        warnings.extend(self.auth.warnings());
        warnings
    }
}

impl SegmentSettings {
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let (key, is_here) = (self.write_key.reveal(), is_loopback(&self.endpoint));
        let is_trial = is_here && key == TRIAL_KEY;
        if key.len() != USUAL_LENGTH && !is_trial {
            let length = key.len();
            warnings.push(format!(
                "SEGMENT_WRITE_KEY has {length} characters and Segment's write keys have 32: Segment answers 200 to a wrong key, and drops the calls"
            ));
        }
        if self.endpoint.scheme() == "http" && !is_here {
            let warning = "SEGMENT_ENDPOINT is http:// and not this machine: the write key and the customers are sent without TLS";
            warnings.push(warning.to_owned());
        }
        warnings
    }
}

impl AuthSettings {
    fn warnings(&self) -> Vec<String> {
        if self.is_none() {
            return vec!["RELAY_AUTH is none: whoever can reach this port can send customers".to_owned()];
        }
        let mut warnings = Vec::new();
        for (number, secret) in (1..).zip(&self.secrets) {
            let what = format!("secret {number} of {} in RELAY_AUTH_SECRETS", self.secrets.len());
            if [secret.first(), secret.last()].iter().any(|end| matches!(end, Some(b'"' | b'\''))) {
                warnings.push(format!(
                    "{what} is in quotes, which are part of it: docker run --env-file passes quotes on as they are"
                ));
            }
            let least = self.least_length();
            if self.secret_part(secret).len() < least {
                warnings.push(format!("{what} is shorter than {least} bytes"));
            }
        }
        warnings
    }
}
