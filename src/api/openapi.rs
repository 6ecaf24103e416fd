//! `GET /openapi.json`: the OpenAPI 3.1 document of this version.
//!
//! The document is the file `openapi.json` beside the module's folder. It is written and reviewed by hand, and is the
//! same for every process. Tests compare its paths, methods, codes, limits and examples with the program, and the
//! program's answers with it.

use axum::http::HeaderMap;
use axum::response::Response;

use super::document::Document;

const DOCUMENT: Document = Document {
    media_type: "application/json",
    bytes: include_bytes!("openapi.json"),
    gzip: Some(include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.gz"))),
};

/// `GET /openapi.json`
pub(super) async fn document(headers: HeaderMap) -> Response {
    DOCUMENT.response(&headers)
}

#[cfg(test)]
mod tests;
