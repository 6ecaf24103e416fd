//! `GET /openapi.json`: the interface as an OpenAPI 3.1 document, a file of the project.

use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;

/// `GET /openapi.json`
pub(super) async fn document() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(CONTENT_TYPE, "application/json")], include_str!("openapi.json"))
}
