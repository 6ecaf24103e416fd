//! `GET /`: the operators' page, from the binary. It holds nothing of the relay: it asks the operators' routes, with a token that
//! the operator types.
//!
//! Nothing on the page comes from elsewhere, and its security policy does not allow it to. Its scripts set texts alone, never
//! markup, which the policy demands too. Links are relative, so that the page works behind a path prefix of a proxy.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::http::{HeaderMap, HeaderName};
use axum::response::IntoResponse;

use super::document::{self, Document};
use super::error::ApiError;

/// The files of the page: scripts are modules, which import each other by these names.
static FILES: [(&str, Document); 13] = [
    ("page.css", text("text/css; charset=utf-8", include_bytes!("page/page.css"))),
    ("icon.svg", text("image/svg+xml", include_bytes!("page/icon.svg"))),
    ("main.js", script(include_bytes!("page/main.js"))),
    ("ask.js", script(include_bytes!("page/ask.js"))),
    ("confirm.js", script(include_bytes!("page/confirm.js"))),
    ("dom.js", script(include_bytes!("page/dom.js"))),
    ("letters.js", script(include_bytes!("page/letters.js"))),
    ("listing.js", script(include_bytes!("page/listing.js"))),
    ("live.js", script(include_bytes!("page/live.js"))),
    ("overview.js", script(include_bytes!("page/overview.js"))),
    ("parked.js", script(include_bytes!("page/parked.js"))),
    ("search.js", script(include_bytes!("page/search.js"))),
    ("tiles.js", script(include_bytes!("page/tiles.js"))),
];

/// The headers of the page and its files.
const HEADERS: [(HeaderName, &str); 2] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (REFERRER_POLICY, "no-referrer"),
];

const fn text(media_type: &'static str, bytes: &'static [u8]) -> Document {
    Document { media_type, bytes, gzip: None }
}

const fn script(bytes: &'static [u8]) -> Document {
    text("text/javascript; charset=utf-8", bytes)
}

/// `GET /`
pub(super) async fn page() -> impl IntoResponse {
    (HEADERS, [(CONTENT_TYPE, "text/html; charset=utf-8")], include_str!("page/index.html"))
}

/// `GET /page/{file}`
pub(super) async fn file(
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    Ok((HEADERS, document::named(&FILES, name)?.response(&headers)))
}
