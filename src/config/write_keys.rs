//! The write keys: one for `POST /customers`, and one for each source.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::value::Secret;

/// Which write key a call is sent with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteKeys {
    default: Secret,
    of_sources: BTreeMap<Arc<str>, Secret>,
}

impl WriteKeys {
    /// `SEGMENT_WRITE_KEY` alone, without sources.
    pub fn new(default: Secret) -> Self {
        Self { default, of_sources: BTreeMap::new() }
    }

    /// The same, and a source. One without a key of its own has `SEGMENT_WRITE_KEY`.
    #[must_use]
    pub fn with_source(mut self, name: Arc<str>, key: Option<Secret>) -> Self {
        let key = key.unwrap_or_else(|| self.default.clone());
        self.of_sources.insert(name, key);
        self
    }

    /// `SEGMENT_WRITE_KEY`.
    pub fn default_key(&self) -> &Secret {
        &self.default
    }

    /// The sources and their keys.
    pub fn of_sources(&self) -> impl Iterator<Item = (&Arc<str>, &Secret)> {
        self.of_sources.iter()
    }

    /// The key of a call of this source, or of `POST /customers`. `None`: the source is not configured, so its calls wait.
    pub fn of(&self, source: Option<&str>) -> Option<&Secret> {
        source.map_or(Some(&self.default), |name| self.of_sources.get(name))
    }
}
