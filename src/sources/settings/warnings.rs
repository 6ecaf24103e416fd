//! Warnings about sources that are allowed and are probably mistakes.

use super::SourceTable;
use super::types::{KeyPart, SourceSettings};
use crate::auth::{Scheme, SignatureScheme};
use crate::config::USUAL_KEY_LENGTH;

impl SourceTable {
    /// One line for each. None shows a secret.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.iter().flat_map(|source| source.warnings()).collect();
        if !self.has_outbox && !self.sources.is_empty() {
            warnings.push(
                "RELAY_SOURCES is set and RELAY_OUTBOX_URL is not: sources answer after Segment does, and many senders wait for 3 to 5 s"
                    .to_owned(),
            );
        }
        let replayable: Vec<&str> =
            self.iter().filter(|source| source.is_replayable()).map(|source| &*source.name).collect();
        if !replayable.is_empty() {
            let names = replayable.join(", ");
            warnings.push(format!(
                "{names}: neither the time nor the key of an event is signed, so whoever recorded a request can send it again as a new event; with a key from the body alone they cannot"
            ));
        }
        warnings
    }
}

impl SourceSettings {
    fn warnings(&self) -> Vec<String> {
        let name = &self.name;
        let mut warnings: Vec<String> =
            self.verifier.warnings().iter().map(|warning| format!("{name}: {warning}")).collect();
        if self.scheme == Scheme::None {
            warnings.push(format!("{name}: verify is none: whoever can reach this port can send its events"));
        }
        // A filter that sets it makes keys of its own.
        let sets_ids = self.filter.as_ref().is_some_and(|filter| filter.text.contains("messageId"));
        if self.key.is_empty() && !sets_ids {
            warnings.push(format!("{name}: there is no key, so an event that is sent again is a new one"));
        }
        let time = self.signature().and_then(|signature| signature.timestamp.as_ref());
        if time.is_some_and(|time| self.window < 2 * time.tolerance) {
            warnings.push(format!(
                "{name}: window is shorter than a signature is valid, which is twice the tolerance of its time: a recorded request can be sent again"
            ));
        }
        let length = self.write_key.as_ref().map_or(USUAL_KEY_LENGTH, |key| key.reveal().len());
        if length != USUAL_KEY_LENGTH {
            warnings.push(format!(
                "{name}: write_key has {length} characters and Segment's write keys have 32: Segment answers 200 to a wrong key, and drops the calls"
            ));
        }
        warnings
    }

    fn signature(&self) -> Option<&SignatureScheme> {
        match &self.scheme {
            Scheme::Signature(signature) => Some(signature),
            _ => None,
        }
    }

    /// Whether a recorded request passes for a new event under another id.
    fn is_replayable(&self) -> bool {
        let is_unsigned = |signature: &SignatureScheme, part: &KeyPart| match part {
            KeyPart::Header(header) => signature.id_header.as_ref() != Some(header),
            KeyPart::Body(_) => false,
        };
        self.signature().is_some_and(|signature| {
            let is_timed = signature.timestamp.is_some();
            !is_timed && !self.key.is_empty() && self.key.iter().all(|part| is_unsigned(signature, part))
        })
    }
}
