//! Warnings about settings that are allowed and are probably mistakes.

use data_encoding::BASE64_NOPAD;

use super::auth::{AuthScheme, AuthSettings};
use super::endpoint::is_loopback;
use super::place::OutboxPlace;
use super::sender_secret::{IN_QUOTES, secret_warnings};
use super::settings::{SegmentSettings, Settings};
use super::unfilled::is_quoted;
use super::write_key::USUAL_LENGTH;

/// The write key of a trial with the sandbox, which takes any.
const TRIAL_KEY: &str = "dev";

impl Settings {
    /// One line for each setting that is probably a mistake. None shows a secret.
    pub fn warnings(&self) -> Vec<String> {
        [self.other_warnings(), self.auth.warnings()].concat()
    }

    /// Those that are not about senders.
    pub fn other_warnings(&self) -> Vec<String> {
        let mut warnings = self.segment.warnings();
        if let Some(notify) = &self.notify {
            warnings.extend(notify.secrets.warnings_about("RELAY_NOTIFY_SECRETS"));
            if notify.secrets.secrets.iter().any(|secret| self.auth.secrets.contains(secret)) {
                let warning =
                    "RELAY_NOTIFY_SECRETS holds a secret of RELAY_AUTH_SECRETS: who is notified can send customers";
                warnings.push(warning.to_owned());
            }
        }
        if let Some(OutboxPlace::Postgres(url)) = self.outbox.as_ref().map(|outbox| &outbox.place)
            && !url.is_safe()
        {
            warnings.push(
                "RELAY_OUTBOX_URL does not ask for sslmode=verify-full: who is between the relay and the database may read the \
                 customers and the password"
                    .to_owned(),
            );
        }
        if self.admin_token.as_ref().is_some_and(|token| is_quoted(token.reveal().as_bytes())) {
            warnings.push(format!("RELAY_ADMIN_TOKEN {IN_QUOTES}"));
        }
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
    /// One line for each thing about senders' secrets that is probably a mistake.
    pub fn warnings(&self) -> Vec<String> {
        if self.is_none() {
            return vec!["RELAY_AUTH is none: whoever can reach this port can send customers".to_owned()];
        }
        self.warnings_about("RELAY_AUTH_SECRETS")
    }

    /// About the secrets of this setting.
    fn warnings_about(&self, setting: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        for (number, secret) in (1..).zip(&self.secrets) {
            let what = format!("secret {number} of {} in {setting}", self.secrets.len());
            let text = String::from_utf8_lossy(secret);
            let told =
                secret_warnings(&text, &self.written(secret), self.secret_part(secret).len(), self.least_length());
            warnings.extend(told.into_iter().map(|warning| format!("{what} {warning}")));
        }
        warnings
    }

    /// What of a secret nobody but the sender knows, as it was written.
    fn written(&self, secret: &[u8]) -> String {
        if self.scheme == AuthScheme::StandardWebhooks {
            BASE64_NOPAD.encode(secret)
        } else {
            String::from_utf8_lossy(self.secret_part(secret)).into_owned()
        }
    }
}
