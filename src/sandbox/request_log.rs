//! The last requests, as `GET /requests` shows them.
//!
//! Bounded in number and in bytes. A line has the headers and the envelope as received, with the write key, and no calls.

use std::collections::VecDeque;

use axum::http::HeaderMap;
use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::parse::ParsedBody;

/// Requests that are kept: enough for a test of wire shapes, few enough to read.
const MAX_REQUESTS: usize = 1_000;

/// Bytes of lines that are kept: 64 KiB for each line, while a usual line has half a kilobyte.
const MAX_REQUEST_BYTES: usize = 64 << 20;

/// What a line of the log says about one request.
#[derive(Clone, Copy, Debug)]
pub struct RequestSummary<'a> {
    pub path: &'a str,
    pub headers: &'a HeaderMap,
    /// The status of the answer; `None` without an answer.
    pub status: Option<u16>,
    /// Size of the uncompressed body.
    pub bytes: usize,
    /// The parsed body; `None` if it was not well-formed.
    pub parsed: Option<&'a ParsedBody<'a>>,
}

/// The lines of the last requests, oldest first.
#[derive(Debug, Default)]
pub struct RequestLog {
    lines: VecDeque<Bytes>,
    bytes: usize,
}

impl RequestLog {
    /// Adds a line, and removes the oldest lines while a limit is exceeded.
    pub fn push(&mut self, line: Bytes) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > MAX_REQUESTS || self.bytes > MAX_REQUEST_BYTES {
            let Some(removed) = self.lines.pop_front() else { break };
            self.bytes -= removed.len();
        }
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> Vec<Bytes> {
        self.lines.iter().cloned().collect()
    }
}

impl RequestSummary<'_> {
    /// The line of `GET /requests` for this request, with the write key.
    pub fn to_line(self) -> Bytes {
        #[derive(Serialize)]
        struct Line<'a> {
            path: &'a str,
            status: Option<u16>,
            calls: usize,
            bytes: usize,
            #[serde(serialize_with = "joined_values")]
            headers: &'a HeaderMap,
            envelope: Option<Envelope<'a>>,
        }
        let Self { path, headers, status, bytes, parsed } = self;
        let calls = parsed.map_or(0, |parsed| parsed.calls.len());
        let line = Line { path, status, calls, bytes, headers, envelope: parsed.map(Envelope) };
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
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

struct Envelope<'a>(&'a ParsedBody<'a>);

impl Serialize for Envelope<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.envelope.iter().map(|(name, value): &(_, &RawValue)| (name, value)))
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
        let hung = RequestSummary { path, headers: &headers, status: None, bytes: 49, parsed: Some(&parsed) };
        let expected = r#"{"path":"/v1/batch","status":null,"calls":0,"bytes":49,"headers":{"accept":"a, b"},"envelope":{"writeKey":"k","context":{ "a":1.50}}}"#;
        assert_eq!(hung.to_line(), format!("{expected}\n"));
        let refused = RequestSummary { path, headers: &HeaderMap::new(), status: Some(400), bytes: 1, parsed: None };
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
