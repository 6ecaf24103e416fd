//! The last requests, as `GET /requests` shows them.
//!
//! Bounded in number and in bytes. A line has the headers and the envelope as received, with the write key, and no calls.

use std::collections::VecDeque;

use axum::http::HeaderMap;
use bytes::Bytes;
use serde::{Serialize, Serializer};

use super::parse::Envelope;

/// Requests that are kept: enough for a test of wire shapes, few enough to read.
const MAX_REQUESTS: usize = 1_000;

/// Bytes of lines that are kept: 64 KiB for each line, while a usual line has half a kilobyte.
const MAX_REQUEST_BYTES: usize = 64 << 20;

/// What a line of the log says about one request, with its names in `GET /requests`.
#[derive(Debug, Serialize)]
pub(super) struct RequestSummary<'a> {
    pub(super) path: &'a str,
    /// The status of the answer; `None` without an answer.
    pub(super) status: Option<u16>,
    pub(super) calls: usize,
    /// Size of the uncompressed body.
    pub(super) bytes: usize,
    #[serde(serialize_with = "joined_values")]
    pub(super) headers: &'a HeaderMap,
    /// `None` if the body was not well-formed.
    #[serde(serialize_with = "members")]
    pub(super) envelope: Option<&'a Envelope<'a>>,
}

/// The lines of the last requests, oldest first.
#[derive(Debug, Default)]
pub(super) struct RequestLog {
    lines: VecDeque<Bytes>,
    bytes: usize,
}

impl RequestLog {
    /// Adds a line, and removes the oldest lines while a limit is exceeded.
    pub(super) fn push(&mut self, line: Bytes) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > MAX_REQUESTS || self.bytes > MAX_REQUEST_BYTES {
            let Some(removed) = self.lines.pop_front() else { break };
            self.bytes -= removed.len();
        }
    }

    /// The lines, oldest first.
    pub(super) fn lines(&self) -> Vec<Bytes> {
        self.lines.iter().cloned().collect()
    }
}

impl RequestSummary<'_> {
    /// The line of `GET /requests` for this request, with the write key.
    pub(super) fn to_line(&self) -> Bytes {
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        // Only the envelope, which is copied verbatim, can have raw line breaks, and only between tokens.
        for byte in text.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
            *byte = b' ';
        }
        text.push(b'\n');
        text.into()
    }
}

fn joined_values<S: Serializer>(headers: &HeaderMap, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.keys().map(|name| {
        let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        (name.as_str(), values.collect::<Vec<_>>().join(", "))
    }))
}

fn members<S: Serializer>(envelope: &Option<&Envelope<'_>>, serializer: S) -> Result<S::Ok, S::Error> {
    match envelope {
        Some(envelope) => serializer.collect_map(envelope.iter().map(|(name, value)| (name, value))),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue};
    use bytes::Bytes;

    use super::{MAX_REQUEST_BYTES, MAX_REQUESTS, RequestLog, RequestSummary};
    use crate::sandbox::parse::parse_batch;

    #[test]
    fn a_request_is_shown_on_one_line_with_headers_and_envelope() {
        let accept = |value| (HeaderName::from_static("accept"), HeaderValue::from_static(value));
        let headers = HeaderMap::from_iter([accept("a"), accept("b")]);
        let parsed = parse_batch(b"{\"writeKey\":\"k\",\"batch\":[],\"context\":{\n\"a\":1.50}}").unwrap();
        let path = "/v1/batch";
        let envelope = Some(&parsed.envelope);
        let hung = RequestSummary { path, status: None, calls: 0, bytes: 49, headers: &headers, envelope };
        let expected = r#"{"path":"/v1/batch","status":null,"calls":0,"bytes":49,"headers":{"accept":"a, b"},"envelope":{"writeKey":"k","context":{ "a":1.50}}}"#;
        assert_eq!(hung.to_line(), format!("{expected}\n"));
        let headers = HeaderMap::new();
        let refused = RequestSummary { path, status: Some(400), calls: 0, bytes: 1, headers: &headers, envelope: None };
        let expected = r#"{"path":"/v1/batch","status":400,"calls":0,"bytes":1,"headers":{},"envelope":null}"#;
        assert_eq!(refused.to_line(), format!("{expected}\n"));
    }

    #[test]
    fn the_oldest_lines_are_removed_by_number_and_by_bytes() {
        let mut requests = RequestLog::default();
        for number in 0..MAX_REQUESTS + 5 {
            requests.push(Bytes::from(number.to_string()));
        }
        assert_eq!(requests.lines().len(), MAX_REQUESTS);
        assert_eq!(requests.lines()[0], "5");
        requests.push(Bytes::from(vec![b' '; MAX_REQUEST_BYTES]));
        assert_eq!(requests.lines().len(), 1);
    }
}
