//! A row of the table: one check and its result.

use serde::Serialize;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    /// The relay works with it, and it is probably a mistake.
    Warning,
    /// The relay does not work with it.
    Failed,
    /// It was not checked.
    Skipped,
}

impl Verdict {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One finding of a check. A check may have several.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    name: &'static str,
    #[serde(rename = "result")]
    verdict: Verdict,
    found: String,
    advice: Option<String>,
}

impl Row {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    pub(super) fn warning(name: &'static str, found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, ..Self::ok(name, found) }
    }

    pub(super) fn failed(name: &'static str, found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Failed, ..Self::ok(name, found) }
    }

    /// `why` says why it was not checked.
    pub(super) fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skipped, ..Self::ok(name, why) }
    }

    /// The same with what to do about it.
    #[must_use]
    pub(super) fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.verdict
    }

    pub(super) fn found(&self) -> &str {
        &self.found
    }

    pub(super) fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }
}
