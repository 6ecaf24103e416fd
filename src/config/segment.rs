//! What the way to Segment has to be told.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use url::Url;

/// The settings of the way to Segment; defaults and meaning are the contract's.
#[derive(Clone)]
pub struct SegmentSettings {
    /// The source's write key, not empty. A secret.
    pub write_key: String,
    /// The base URL, without `/v1/batch`.
    pub endpoint: Url,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How many requests a second Segment gets at most; also the pace of batching.
    pub max_requests_per_second: NonZeroU32,
    /// How many requests Segment gets at once.
    pub max_concurrency: NonZeroUsize,
    /// Whether requests are compressed.
    pub gzip: bool,
}

impl fmt::Debug for SegmentSettings {
    /// Everything but the write key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentSettings")
            .field("endpoint", &self.endpoint.as_str())
            .field("timeout", &self.timeout)
            .field("max_requests_per_second", &self.max_requests_per_second)
            .field("max_concurrency", &self.max_concurrency)
            .field("gzip", &self.gzip)
            .finish_non_exhaustive()
    }
}
