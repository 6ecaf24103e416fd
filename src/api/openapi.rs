//! `GET /openapi.json`: the OpenAPI 3.1 document of this version.
//!
//! The document is the file `openapi.json` beside the module's folder. It is written and reviewed by hand, and is the
//! same for every process. Tests compare its paths, methods, codes, limits and examples with the program, and the
//! program's answers with it.

use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;

const DOCUMENT: &[u8] = include_bytes!("openapi.json");

/// `GET /openapi.json`
pub(super) async fn document() -> ([(HeaderName, &'static str); 1], &'static [u8]) {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT)
}

#[cfg(test)]
mod tests;
