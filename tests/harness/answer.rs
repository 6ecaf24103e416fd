//! An answer of the relay or the sandbox, read whole.

use reqwest::Response;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Status, headers and body.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// JSON, or the text as a JSON string if it is none.
    pub body: Value,
}

impl Answer {
    /// Reads a response to its end.
    pub async fn of(response: Response) -> reqwest::Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self::new(status, headers, &response.text().await?))
    }

    /// From its parts.
    pub fn new(status: u16, headers: HeaderMap, body: &str) -> Self {
        let body = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body));
        Self { status, headers, body }
    }

    /// A header's value; `None` if it is missing or no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `error.code`, or `""`.
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    /// `error.message`, or `""`.
    pub fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }

    /// `messageId` of a 200 or 202.
    pub fn message_id(&self) -> &str {
        self.body["messageId"].as_str().unwrap_or_default()
    }

    /// Whether this is the answer for a call that Segment accepted.
    pub fn is_accepted(&self) -> bool {
        self.status == 200 && self.body["success"] == true && !self.message_id().is_empty()
    }

    /// Whether this is the answer for a call that is on disk.
    pub fn is_stored(&self) -> bool {
        self.status == 202
            && self.body["success"] == true
            && self.body["status"] == "stored"
            && !self.message_id().is_empty()
    }

    /// Whether it says that the key's call was there already.
    pub fn is_replayed(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    /// Checks that this is a failure in the documented shape, with this status and code.
    #[track_caller]
    pub fn assert_failed(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code()), (status, code), "{self:?}");
        assert_eq!(self.body["success"], false, "{self:?}");
        assert!(!self.message().is_empty(), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert!(self.header("x-request-id").is_some_and(|id| !id.is_empty()), "{self:?}");
    }

    /// `Retry-After` in whole seconds, if it is that.
    pub fn retry_after(&self) -> Option<u64> {
        self.header("retry-after")?.parse().ok()
    }

    /// A metric's value, of an answer of `/metrics`: by its name, with its labels if it has any.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.body.as_str()?;
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }
}
