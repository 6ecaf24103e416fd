//! What is logged of an outage: each of its reasons once, and its end.

use super::Trouble;
use crate::segment::{ErrorCode, FailureReason, SegmentError};

/// Reasons of one outage that are logged: more than an outage has, unless something writes statuses at random.
const MAX_LOGGED_REASONS: usize = 8;

impl Trouble {
    /// This is about the write key of these sources alone.
    pub(in crate::publisher) fn name_sources(&mut self, sources: Vec<String>) {
        self.sources = sources;
    }

    pub(in crate::publisher) fn sources(&self) -> &[String] {
        &self.sources
    }

    /// The write keys were replaced, and this trouble with one of them counts no more.
    pub(in crate::publisher) fn log_replaced(&mut self) {
        if !std::mem::take(&mut self.logged_reasons).is_empty() {
            let sources = self.sources.join(", ");
            tracing::info!(sources, "the write keys were replaced; the refusals of this key count no more");
        }
    }

    pub(super) fn log_end(&mut self) {
        if self.logged_reasons.is_empty() {
            return;
        }
        self.logged_reasons.clear();
        if self.sources.is_empty() {
            tracing::info!("requests to Segment succeed again");
        } else {
            tracing::info!(sources = self.sources.join(", "), "Segment accepts the write key of these sources again");
        }
    }

    /// Logs each reason of an outage once.
    pub(super) fn log(&mut self, error: &SegmentError) {
        let logged = &mut self.logged_reasons;
        if logged.len() == MAX_LOGGED_REASONS || logged.contains(&error.reason) {
            return;
        }
        logged.push(error.reason);
        let (code, reason, status) = (error.code.as_str(), error.reason.map(FailureReason::as_str), error.status());
        if !self.sources.is_empty() {
            let sources = self.sources.join(", ");
            tracing::warn!(
                code,
                reason,
                status,
                sources,
                "Segment refuses the write key of these sources; their calls wait"
            );
        } else if error.code == ErrorCode::Unavailable {
            tracing::warn!(code, reason, status, "requests to Segment fail; they are retried");
        } else {
            tracing::warn!(code, reason, status, "requests to Segment are paused");
        }
    }
}
