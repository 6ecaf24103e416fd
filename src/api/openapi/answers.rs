//! The answers of one operation: by status, each with its headers, its shape and the codes it may bear.

use std::collections::BTreeMap;

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderName, StatusCode};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::api::code::Code;
use crate::api::request_id;
use crate::customer::{BrokenRule, MAX_BROKEN_RULES};
use crate::integration::ErrorCode;

/// All answers of an operation.
pub(super) struct Answers(BTreeMap<StatusCode, Answer>);

/// The answers with one status.
#[derive(Default)]
struct Answer {
    said: Vec<String>,
    headers: Map<String, Value>,
    content: Map<String, Value>,
    links: Map<String, Value>,
    /// Of failures.
    codes: Vec<Code>,
    /// Whether one of the failures lists broken rules.
    lists_rules: bool,
}

impl Answers {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// JSON of this shape.
    pub(super) fn json(self, status: StatusCode, means: &str, schema: Value) -> Self {
        self.content(status, means, "application/json", schema)
    }

    /// A body of this media type, one of several if the status is there already.
    pub(super) fn content(mut self, status: StatusCode, means: &str, media_type: &str, schema: Value) -> Self {
        let answer = self.0.entry(status).or_default();
        answer.said.push(means.to_owned());
        answer.content.insert(media_type.to_owned(), json!({"schema": schema}));
        self
    }

    /// No body.
    pub(super) fn empty(mut self, status: StatusCode, means: &str) -> Self {
        self.0.entry(status).or_default().said.push(means.to_owned());
        self
    }

    /// A failure, with the status that its code has.
    pub(super) fn fails(mut self, code: Code, when: &str) -> Self {
        let answer = self.0.entry(code.status()).or_default();
        answer.said.push(format!("`{}`: {when}", code.as_str()));
        if !answer.codes.contains(&code) {
            answer.codes.push(code);
        }
        self
    }

    /// The failure of a call.
    pub(super) fn call_fails(self, code: ErrorCode, when: &str) -> Self {
        self.fails(Code::Call(code), when)
    }

    /// That `invalid_payload` comes with the list of broken rules.
    pub(super) fn listing_rules(mut self) -> Self {
        let invalid = self.0.entry(Code::Call(ErrorCode::InvalidPayload).status()).or_default();
        invalid.lists_rules = true;
        self
    }

    /// A header that may come with these statuses.
    pub(super) fn header(mut self, statuses: &[StatusCode], name: &HeaderName, means: &str, schema: Value) -> Self {
        for (_, answer) in self.0.iter_mut().filter(|(status, _)| statuses.contains(status)) {
            answer.header(name, false, means, &schema);
        }
        self
    }

    /// A header that comes with every answer of this status.
    pub(super) fn always(mut self, status: StatusCode, name: &HeaderName, means: &str, schema: &Value) -> Self {
        if let Some(answer) = self.0.get_mut(&status) {
            answer.header(name, true, means, schema);
        }
        self
    }

    /// A header that comes with all the answers so far.
    pub(super) fn with_all(mut self, name: &HeaderName, means: &str, schema: &Value) -> Self {
        self.0.values_mut().for_each(|answer| answer.header(name, true, means, schema));
        self
    }

    /// That the operation of this id takes `parameters` from an answer with this status.
    pub(super) fn leads_to(mut self, status: StatusCode, operation: &str, parameters: Value) -> Self {
        let answer = self.0.entry(status).or_default();
        answer.links.insert(operation.to_owned(), json!({"operationId": operation, "parameters": parameters}));
        self
    }

    /// As OpenAPI's `responses`.
    pub(super) fn done(self) -> Value {
        self.0
            .into_iter()
            .map(|(status, answer)| (status.as_str().to_owned(), answer.done()))
            .collect::<Map<_, _>>()
            .into()
    }
}

impl Answer {
    fn header(&mut self, name: &HeaderName, required: bool, means: &str, schema: &Value) {
        let header = json!({"description": means, "required": required, "schema": schema});
        self.headers.insert(name.to_string(), header);
    }

    fn done(mut self) -> Value {
        if !self.codes.is_empty() {
            let schema = failure(&self.codes, self.lists_rules);
            self.content.insert("application/json".to_owned(), json!({"schema": schema}));
        }
        let when = self.codes.iter().filter(|code| code.says_when()).count();
        if when > 0 {
            let means = "When to try again, in whole seconds.";
            self.header(&RETRY_AFTER, when == self.codes.len(), means, &json!({"type": "integer", "minimum": 1}));
        }
        let id = json!({"$ref": "#/components/headers/request-id"});
        self.headers.insert(request_id::HEADER.to_string(), id);
        let said = self.said.join("\n\n");
        let mut answer = json!({"description": said, "headers": self.headers});
        if !self.content.is_empty() {
            answer["content"] = self.content.into();
        }
        if !self.links.is_empty() {
            answer["links"] = self.links.into();
        }
        answer
    }
}

/// The shape of every failure, with these codes.
fn failure(codes: &[Code], lists_rules: bool) -> Value {
    let mut error = json!({
        "type": "object",
        "required": ["message", "code"],
        "properties": {
            "message": {"type": "string", "description": "For a reader."},
            "code": {"enum": codes.iter().map(|code| code.as_str()).collect::<Vec<_>>(), "description": "For a program."},
        },
    });
    if lists_rules {
        error["properties"]["details"] = json!({
            "description": "Every rule that the payload breaks, with `invalid_payload` only.",
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_BROKEN_RULES,
            "items": of_type::<BrokenRule>(),
        });
    }
    json!({"type": "object", "required": ["success", "error"], "properties": {"success": {"const": false}, "error": error}})
}

/// The shape that a type has as JSON; what it consists of stands within.
pub(super) fn of_type<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().into()
}
