//! `GET /docs`: a page that shows `/openapi.json`, from the binary. It is Swagger UI, taken from a crate by `build.rs`.
//!
//! Nothing on the page comes from elsewhere, and its security policy does not allow it to. Links are relative, so that the
//! page works behind a path prefix of a proxy. The two large files are in the binary as they are and compressed, so that no
//! request costs a compression; the layers compress the small ones.

use axum::Extension;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY,
};
use axum::http::{HeaderMap, HeaderName};
use axum::response::IntoResponse;

use super::error::{ApiError, NO_ROUTE};
use super::layers::TrailingSlash;

struct File {
    name: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
    /// The same, compressed, where that is worth it.
    gzip: Option<&'static [u8]>,
}

const PAGE: &str = include_str!("docs/page.html");

/// The files that the page links.
const FILES: [File; 5] = [
    File {
        name: "swagger-ui.css",
        media_type: "text/css; charset=utf-8",
        bytes: include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css")),
        gzip: Some(include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz"))),
    },
    File {
        name: "swagger-ui-bundle.js",
        media_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js")),
        gzip: Some(include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz"))),
    },
    File {
        name: "start.js",
        media_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("docs/start.js"),
        gzip: None,
    },
    File {
        name: "LICENSE",
        media_type: "text/plain; charset=utf-8",
        bytes: include_bytes!(concat!(env!("OUT_DIR"), "/LICENSE")),
        gzip: None,
    },
    File {
        name: "NOTICE",
        media_type: "text/plain; charset=utf-8",
        bytes: include_bytes!(concat!(env!("OUT_DIR"), "/NOTICE")),
        gzip: None,
    },
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
    let found = name.ok().and_then(|Path(name)| FILES.iter().find(|file| file.name == name));
    let File { media_type, bytes, gzip, .. } = found.ok_or_else(|| ApiError::not_found(NO_ROUTE))?;
    let content_type = [(CONTENT_TYPE, *media_type), (VARY, ACCEPT_ENCODING.as_str())];
    Ok(match gzip.filter(|_| accepts_gzip(&headers)) {
        Some(compressed) => (HEADERS, content_type, [(CONTENT_ENCODING, "gzip")], compressed).into_response(),
        None => (HEADERS, content_type, *bytes).into_response(),
    })
}

/// Whether `Accept-Encoding` names gzip with a weight other than 0 (RFC 9110, section 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
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
        for accepted in ["gzip", "GZIP", "br, gzip", "gzip;q=0.5", "gzip ; q=1.0, br"] {
            assert!(accepts(accepted), "{accepted}");
        }
        for refused in ["", "br", "identity", "gzip;q=0", "gzip; q=0.000", "xgzip"] {
            assert!(!accepts(refused), "{refused}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
