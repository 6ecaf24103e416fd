//! A document in the binary, as it is and compressed by `build.rs`.
//!
//! No request costs a compression. A layer that compresses would hold an encoder for each unread answer: that took 27 MiB for
//! each connection of an HTTP/2 peer that reads nothing.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Response};

use super::error::{ApiError, NO_ROUTE};

/// A document.
pub(super) struct Document {
    pub(super) media_type: &'static str,
    pub(super) bytes: &'static [u8],
    /// The same, compressed, where that is worth it.
    pub(super) gzip: Option<&'static [u8]>,
}

/// Documents by the last part of their paths.
pub(super) type Documents = [(&'static str, Document)];

/// The document that a path names.
///
/// # Errors
/// If there is none of this name.
pub(super) fn named(
    documents: &'static Documents,
    name: Result<Path<String>, PathRejection>,
) -> Result<&'static Document, ApiError> {
    let found = name.ok().and_then(|Path(name)| documents.iter().find(|(known, _)| *known == name));
    found.map(|(_, document)| document).ok_or_else(|| ApiError::not_found(NO_ROUTE))
}

impl Document {
    /// The document, compressed if these headers of the request accept that.
    pub(super) fn response(&self, headers: &HeaderMap) -> Response {
        let content_type = (CONTENT_TYPE, self.media_type);
        let Some(gzip) = self.gzip else { return ([content_type], self.bytes).into_response() };
        let vary = (VARY, ACCEPT_ENCODING.as_str());
        if accepts_gzip(headers) {
            return ([content_type, vary, (CONTENT_ENCODING, "gzip")], gzip).into_response();
        }
        ([content_type, vary], self.bytes).into_response()
    }
}

/// Whether `Accept-Encoding` names gzip with a weight other than 0 (RFC 9110, section 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let is_gzip = ["gzip", "x-gzip", "*"].iter().any(|known| name.eq_ignore_ascii_case(known));
        let weight = parts.find_map(|parameter| parameter.strip_prefix("q=")?.parse().ok());
        is_gzip && weight.unwrap_or(1.0_f32) > 0.0
    })
}

#[cfg(test)]
mod tests {
    use super::accepts_gzip;
    use axum::http::header::ACCEPT_ENCODING;
    use axum::http::{HeaderMap, HeaderValue};

    #[test]
    fn gzip_is_sent_only_to_those_who_accept_it() {
        let accepts = |value| accepts_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]));
        for accepted in ["gzip", "GZIP", "br, gzip", "gzip;q=0.5", "gzip ; q=1.0, br", "x-gzip", "*"] {
            assert!(accepts(accepted), "{accepted}");
        }
        for refused in ["", "br", "identity", "gzip;q=0", "gzip; q=0.000", "*;q=0", "xgzip"] {
            assert!(!accepts(refused), "{refused}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
