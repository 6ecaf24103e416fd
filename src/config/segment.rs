//! The settings of the connection to Segment.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use url::Url;

/// Segment's write keys have 32 characters. A batch leaves room for this many.
const MAX_WRITE_KEY_LENGTH: usize = 256;

/// The settings of the connection to Segment.
#[derive(Clone)]
pub struct SegmentSettings {
    /// The write key of the source, not empty. A secret.
    pub write_key: String,
    /// The base URL, without `/v1/batch`.
    pub endpoint: Url,
    /// The time limit of one attempt.
    pub timeout: Duration,
    /// The maximum number of requests in one second. It is also the pace of batching.
    pub max_requests_per_second: NonZeroU32,
    /// The maximum number of requests at the same time.
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

pub(super) fn write_key(text: &str) -> Result<String, String> {
    if text.len() > MAX_WRITE_KEY_LENGTH {
        Err(format!("longer than {MAX_WRITE_KEY_LENGTH} characters"))
    } else if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("holds white space or other characters that no write key has".to_owned())
    }
}

/// A base URL. The messages do not repeat it, because it may hold a password by mistake.
pub(super) fn endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("not a URL that begins with https:// or http:// ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        Err("must begin with https:// or http://".to_owned())
    } else if !url.username().is_empty() || url.password().is_some() {
        Err("must not hold a user name or password".to_owned())
    } else if url.query().is_some() || url.fragment().is_some() {
        Err("must be a base URL, without ? or #".to_owned())
    } else {
        Ok(url)
    }
}
