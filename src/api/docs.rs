//! `GET /docs`: a page that shows `/openapi.json`, from the binary. It is Swagger UI, taken from a crate by `build.rs`.
//!
//! Nothing on the page comes from elsewhere, and its security policy does not allow it to. Links are relative, so that the
//! page works behind a path prefix of a proxy.

use axum::Extension;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::http::{HeaderMap, HeaderName};
use axum::response::IntoResponse;

use super::document::{self, Document};
use super::error::ApiError;
use super::layers::TrailingSlash;

const PAGE: &str = include_str!("docs/page.html");

/// The files that the page links.
static FILES: [(&str, Document); 5] = [
    (
        "swagger-ui.css",
        Document {
            media_type: "text/css; charset=utf-8",
            bytes: include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css")),
            gzip: Some(include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz"))),
        },
    ),
    (
        "swagger-ui-bundle.js",
        Document {
            media_type: "text/javascript; charset=utf-8",
            bytes: include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js")),
            gzip: Some(include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz"))),
        },
    ),
    (
        "start.js",
        Document { media_type: "text/javascript; charset=utf-8", bytes: include_bytes!("docs/start.js"), gzip: None },
    ),
    (
        "LICENSE",
        Document {
            media_type: "text/plain; charset=utf-8",
            bytes: include_bytes!(concat!(env!("OUT_DIR"), "/LICENSE")),
            gzip: None,
        },
    ),
    (
        "NOTICE",
        Document {
            media_type: "text/plain; charset=utf-8",
            bytes: include_bytes!(concat!(env!("OUT_DIR"), "/NOTICE")),
            gzip: None,
        },
    ),
];

/// The headers of the page and its files.
const HEADERS: [(HeaderName, &str); 3] = [
    (
        CONTENT_SECURITY_POLICY,
        // `data:` is for the arrows and locks in the style sheet.
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (REFERRER_POLICY, "no-referrer"),
    // Another version of the relay has other files under the same names. A browser may mix them for at most an hour.
    (CACHE_CONTROL, "max-age=3600"),
];

/// `GET /docs`, with or without a slash at the end. The links of the page are relative to its URL.
pub(super) async fn page(trailing_slash: Option<Extension<TrailingSlash>>) -> impl IntoResponse {
    let page = match trailing_slash {
        Some(_) => PAGE.replace("\"docs/", "\"").replace("\"openapi.json", "\"../openapi.json"),
        None => PAGE.to_owned(),
    };
    (HEADERS, [(CONTENT_TYPE, "text/html; charset=utf-8")], page)
}

/// `GET /docs/{file}`
pub(super) async fn file(
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    Ok((HEADERS, document::named(&FILES, name)?.response(&headers)))
}
