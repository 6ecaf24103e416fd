//! `GET /docs`: a page that shows `/openapi.json`, from the binary. It is Swagger UI, taken from a crate by `build.rs`.
//!
//! Nothing on the page comes from elsewhere, and its security policy does not let anything. Links are relative, so that the
//! page works where a proxy puts it. What can be compressed is sent so, whatever the caller says it takes: every browser
//! takes gzip, and the binary holds nothing else.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;

use super::NOTHING_HERE;
use super::answer::{Answer, Failure};
use super::code::Code;
use super::request_id::RequestId;

/// A file in the binary.
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) media_type: &'static str,
    bytes: &'static [u8],
    is_gzip: bool,
}

/// The page itself.
pub(super) const PAGE: File = File {
    name: "docs",
    media_type: "text/html; charset=utf-8",
    bytes: include_bytes!("docs/page.html"),
    is_gzip: false,
};

/// What the page links.
pub(super) const FILES: [File; 5] = [
    File {
        name: "swagger-ui.css",
        media_type: "text/css; charset=utf-8",
        bytes: include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz")),
        is_gzip: true,
    },
    File {
        name: "swagger-ui-bundle.js",
        media_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz")),
        is_gzip: true,
    },
    File {
        name: "start.js",
        media_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("docs/start.js"),
        is_gzip: false,
    },
    File {
        name: "LICENSE",
        media_type: "text/plain; charset=utf-8",
        bytes: include_bytes!(concat!(env!("OUT_DIR"), "/LICENSE.gz")),
        is_gzip: true,
    },
    File {
        name: "NOTICE",
        media_type: "text/plain; charset=utf-8",
        bytes: include_bytes!(concat!(env!("OUT_DIR"), "/NOTICE.gz")),
        is_gzip: true,
    },
];

/// The headers of the page and its files, and what each is for.
pub(super) const HEADERS: [(HeaderName, &str, &str); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        // `data:` is for the arrows and locks in the style sheet.
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "Nothing comes from elsewhere.",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff", "It is what it says it is."),
    (REFERRER_POLICY, "no-referrer", "Nobody is told where a reader comes from."),
    // Another version of the relay has other files under the same names: an hour is the longest that they are mixed.
    (CACHE_CONTROL, "max-age=3600", "How long it may be kept."),
];

/// `GET /docs`
pub(super) async fn page(request: Request) -> Response {
    PAGE.answer().with_id(&RequestId::of(request.headers()))
}

/// `GET /docs/{file}`
pub(super) async fn file(name: Result<Path<String>, PathRejection>, request: Request) -> Response {
    let found = name.ok().and_then(|Path(name)| FILES.iter().find(|file| file.name == name));
    let answer = found.map_or_else(|| Answer::failure(&Failure::new(Code::NotFound, NOTHING_HERE)), File::answer);
    answer.with_id(&RequestId::of(request.headers()))
}

impl File {
    fn answer(&self) -> Answer {
        let answer = HEADERS.iter().fold(Answer::document(self.media_type, self.bytes), |answer, (name, value, _)| {
            answer.with(name.clone(), HeaderValue::from_static(value))
        });
        if self.is_gzip { answer.with(CONTENT_ENCODING, HeaderValue::from_static("gzip")) } else { answer }
    }
}
