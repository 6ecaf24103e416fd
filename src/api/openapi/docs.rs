//! What is said of `/docs`.

use axum::http::StatusCode;
use axum::http::header::CONTENT_ENCODING;
use serde_json::{Value, json};

use super::answers::Answers;
use super::health::TAG;
use crate::api::code::Code;
use crate::api::docs::{FILES, HEADERS, PAGE};

pub(in crate::api) fn page() -> Value {
    let answers = Answers::new().content(StatusCode::OK, "A page.", PAGE.media_type, json!({"type": "string"}));
    json!({
        "operationId": "getDocs",
        "summary": "A page that shows this document",
        "tags": [TAG],
        "responses": with_headers(answers).done(),
    })
}

pub(in crate::api) fn file() -> Value {
    let answers = FILES.iter().fold(Answers::new(), |answers, file| {
        let means = format!("`{}`.", file.name);
        answers.content(StatusCode::OK, &means, file.media_type, json!({"type": "string"}))
    });
    json!({
        "operationId": "getDocsFile",
        "summary": "What the page consists of",
        "tags": [TAG],
        "parameters": [{
            "name": "file",
            "in": "path",
            "required": true,
            "description": "One of the page's files.",
            "schema": {"enum": FILES.iter().map(|file| file.name).collect::<Vec<_>>()},
        }],
        "responses": with_headers(answers)
            .header(&[StatusCode::OK], &CONTENT_ENCODING, "Of what is large.", json!({"const": "gzip"}))
            .fails(Code::NotFound, "the page has no such file.").done(),
    })
}

fn with_headers(answers: Answers) -> Answers {
    HEADERS
        .iter()
        .fold(answers, |answers, (name, value, means)| answers.with_all(name, means, &json!({"const": value})))
}
