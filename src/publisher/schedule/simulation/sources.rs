//! Sources with write keys of their own, which Segment refuses for a while, or which are configured late.

use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) struct Source {
    /// `None`: `POST /customers`.
    pub(super) name: Option<String>,
    pub(super) key: String,
    /// How many times as many calls as another one's, if users have calls of any source.
    pub(super) share: usize,
    /// When Segment refuses the key.
    pub(super) refused: Option<(Duration, Duration)>,
    /// When the source is configured.
    pub(super) configured_at: Duration,
}

impl Source {
    pub(super) fn customers() -> Self {
        Self { name: None, key: "wk".to_owned(), share: 1, refused: None, configured_at: Duration::ZERO }
    }

    pub(super) fn new(name: &str) -> Self {
        Self { name: Some(name.to_owned()), key: format!("key-of-{name}"), ..Self::customers() }
    }

    pub(super) fn is_refused(&self, at: Duration) -> bool {
        self.refused.is_some_and(|(from, until)| (from..until).contains(&at))
    }

    /// Whether its calls must wait at some time.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.refused.is_some() || !self.configured_at.is_zero()
    }
}
