//! The document against the program's codes, limits and rules, and against itself.

mod limits;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::DOCUMENT;
use crate::api::error::ApiErrorCode;
use crate::customer::{SegmentIdentifyPayload, reserved_traits};
use crate::segment::ErrorCode;

fn document() -> Value {
    serde_json::from_slice(DOCUMENT.bytes).unwrap()
}

/// Every code that the service answers with. `not_configured` is not one: the service does not start without a write key.
fn codes() -> Vec<ApiErrorCode> {
    use ErrorCode as Call;
    let own = [
        ApiErrorCode::InvalidJson,
        ApiErrorCode::BadRequest,
        ApiErrorCode::Unauthorized,
        ApiErrorCode::NotFound,
        ApiErrorCode::MethodNotAllowed,
        ApiErrorCode::RequestTimeout,
        ApiErrorCode::UnsupportedMediaType,
        ApiErrorCode::FilterFailed,
        ApiErrorCode::InternalError,
    ];
    let calls = [
        Call::InvalidPayload,
        Call::MessageTooLarge,
        Call::Overloaded,
        Call::Rejected,
        Call::GaveUp,
        Call::Unauthorized,
        Call::Misconfigured,
        Call::Unavailable,
        Call::RateLimited,
        Call::Timeout,
        Call::ShuttingDown,
        Call::KeyReused,
        Call::OutboxTimeout,
    ];
    // A new code does not compile here: it belongs into the lists above and into the document.
    let _ = |code: ApiErrorCode| match code {
        ApiErrorCode::InvalidJson
        | ApiErrorCode::BadRequest
        | ApiErrorCode::Unauthorized
        | ApiErrorCode::NotFound
        | ApiErrorCode::MethodNotAllowed
        | ApiErrorCode::RequestTimeout => {}
        ApiErrorCode::UnsupportedMediaType | ApiErrorCode::FilterFailed | ApiErrorCode::InternalError => {}
        ApiErrorCode::Call(call) => match call {
            Call::InvalidPayload | Call::MessageTooLarge | Call::Overloaded | Call::Rejected | Call::Unauthorized => {}
            Call::Misconfigured | Call::Unavailable | Call::RateLimited | Call::Timeout | Call::ShuttingDown => {}
            Call::KeyReused | Call::OutboxTimeout | Call::NotConfigured | Call::GaveUp => {}
        },
    };
    own.into_iter().chain(calls.map(ApiErrorCode::Call)).collect()
}

/// Every answer of the document: where it is described, its status, and its description. Component answers have no status
/// until an operation refers to them.
fn answers(document: &Value) -> Vec<(String, u16, Value)> {
    let mut answers = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(_, operation)| operation.is_object()) {
            for (status, answer) in operation["responses"].as_object().unwrap() {
                let answer = answer["$ref"].as_str().map_or(answer, |place| document.pointer(&place[1..]).unwrap());
                answers.push((format!("{method} {path} {status}"), status.parse().unwrap(), answer.clone()));
            }
        }
    }
    // No operation refers to these two: OpenAPI describes no answers of other paths and methods.
    for (name, status) in [("NotFound", 404), ("MethodNotAllowed", 405)] {
        answers.push((name.to_owned(), status, document["components"]["responses"][name].clone()));
    }
    answers
}

/// The codes that a schema allows.
fn codes_of(schema: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in [schema].into_iter().chain(["allOf", "anyOf"].iter().flat_map(|of| schema[of].as_array()).flatten()) {
        match part["$ref"].as_str() {
            Some("#/components/schemas/InvalidCustomer") => drop(found.insert("invalid_payload".to_owned())),
            _ if part != schema => found.extend(codes_of(part)),
            _ => {
                let listed = part["properties"]["error"]["properties"]["code"]["enum"].as_array();
                found.extend(listed.into_iter().flatten().map(|code| code.as_str().unwrap().to_owned()));
            }
        }
    }
    found
}

/// Calls `look` with every value of the document and its JSON pointer.
fn walk<'a>(value: &'a Value, place: &str, look: &mut impl FnMut(&str, &'a Value)) {
    look(place, value);
    let step = |name: &str| format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(members) => members.iter().for_each(|(name, member)| walk(member, &step(name), look)),
        Value::Array(members) => {
            members.iter().enumerate().for_each(|(index, member)| walk(member, &step(&index.to_string()), look));
        }
        _ => {}
    }
}

/// A validator of the schema at this JSON pointer.
fn validator(document: &Value, place: &str) -> jsonschema::Validator {
    let mut root = document.clone();
    root["$ref"] = json!(format!("#{}", place.replace('%', "%25").replace('{', "%7B").replace('}', "%7D")));
    jsonschema::draft202012::options().should_validate_formats(true).build(&root).unwrap()
}

#[test]
fn the_document_names_this_version() {
    let info = &document()["info"];
    assert_eq!(info["title"], env!("CARGO_PKG_NAME"));
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(info["summary"], env!("CARGO_PKG_DESCRIPTION"));
    assert_eq!(info["license"]["name"], env!("CARGO_PKG_LICENSE"));
}

#[test]
fn every_code_is_in_the_document_under_its_status_and_no_other_is() {
    let document = document();
    let known: BTreeMap<_, _> = codes().iter().map(|code| (code.as_str(), code.status().as_u16())).collect();
    let mut described = BTreeSet::new();
    for (place, status, answer) in answers(&document) {
        let Some(content) = answer["content"].get("application/json") else { continue };
        let codes = codes_of(&content["schema"]);
        for code in &codes {
            assert_eq!(known.get(code.as_str()), Some(&status), "{place}: {code}");
            assert!(answer["description"].as_str().unwrap().contains(&format!("`{code}`: ")), "{place}: {code}");
        }
        if !codes.is_empty() {
            let examples: BTreeSet<_> = content["examples"].as_object().unwrap().keys().cloned().collect();
            assert_eq!(examples, codes, "{place} has an example for each code");
        }
        described.extend(codes);
    }
    assert_eq!(described, known.keys().map(|code| (*code).to_owned()).collect());
}

#[test]
fn retry_after_is_described_where_a_code_has_it() {
    let document = document();
    let says_when: BTreeMap<_, _> = codes().iter().map(|code| (code.as_str(), code.has_retry_after())).collect();
    for (place, _, answer) in answers(&document) {
        let codes = codes_of(&answer["content"]["application/json"]["schema"]);
        let count = codes.iter().filter(|code| says_when[code.as_str()]).count();
        let header = answer["headers"]["retry-after"]["$ref"].as_str();
        assert_eq!(header.is_some(), count > 0, "{place}");
        if let Some(header) = header {
            let header = document.pointer(&header[1..]).unwrap();
            assert_eq!(header["required"], count == codes.len(), "{place}");
        }
    }
}

#[test]
fn every_answer_has_the_headers_of_every_answer() {
    let document = document();
    for (place, _, answer) in answers(&document) {
        for name in ["x-request-id", "x-content-type-options", "cache-control"] {
            assert!(answer["headers"].get(name).is_some(), "{place}: {name}");
        }
    }
}

#[test]
fn every_operation_may_answer_that_the_relay_is_at_fault_or_the_host_is_invalid() {
    let document = document();
    for (path, item) in document["paths"].as_object().unwrap() {
        assert_eq!(item["parameters"], json!([{"$ref": "#/components/parameters/x-request-id"}]), "{path}");
        for operation in item.as_object().unwrap().values().filter(|operation| operation.is_object()) {
            let answer = &operation["responses"]["500"];
            assert_eq!(answer, &json!({"$ref": "#/components/responses/InternalError"}), "{path}");
            let answer = &operation["responses"]["400"];
            if ["/customers", "/forget"].contains(&path.as_str())
                || answer.get("$ref").is_none() && path == "/sources/{name}"
            {
                assert!(codes_of(&answer["content"]["application/json"]["schema"]).contains("bad_request"));
            } else {
                assert_eq!(answer, &json!({"$ref": "#/components/responses/BadRequest"}), "{path}");
            }
        }
    }
}

#[test]
fn every_example_is_valid_by_its_schema() {
    let document = document();
    let mut count = 0;
    walk(&document, "", &mut |place, value| {
        let Some(members) = value.as_object() else { return };
        // A schema has its own examples in an array; everything else has them by name, beside its schema.
        let (schema, mut examples) = match members.get("examples") {
            Some(Value::Array(examples)) => (place.to_owned(), examples.iter().collect::<Vec<_>>()),
            Some(Value::Object(named)) => {
                (format!("{place}/schema"), named.values().map(|example| &example["value"]).collect())
            }
            _ => (format!("{place}/schema"), Vec::new()),
        };
        examples.extend(members.get("example"));
        count += examples.len();
        let validator = (!examples.is_empty()).then(|| validator(&document, &schema));
        for example in examples {
            let faults: Vec<_> =
                validator.iter().flat_map(|v| v.iter_errors(example)).map(|fault| fault.to_string()).collect();
            assert!(faults.is_empty(), "{place}: {faults:?}");
        }
    });
    assert!(count > 30, "{count} examples were found");
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_used() {
    let document = document();
    let mut used = BTreeSet::new();
    walk(&document, "", &mut |place, value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            assert!(document.pointer(&reference[1..]).is_some(), "{place}: {reference}");
            used.insert(reference.to_owned());
        }
        for scheme in value.get("security").and_then(Value::as_array).into_iter().flatten() {
            used.extend(scheme.as_object().unwrap().keys().map(|name| format!("#/components/securitySchemes/{name}")));
        }
    });
    // For every other path and method.
    used.extend(["NotFound", "MethodNotAllowed"].map(|name| format!("#/components/responses/{name}")));
    for (kind, components) in document["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys() {
            assert!(used.remove(&format!("#/components/{kind}/{name}")), "{kind}/{name} is used nowhere");
        }
    }
    assert_eq!(used, BTreeSet::new());
}

fn is_taken(body: &Value) -> bool {
    SegmentIdentifyPayload::parse(body.to_string().as_bytes()).is_ok()
}

/// The example's customer.
fn example() -> Value {
    document()["components"]["schemas"]["Customer"]["examples"][0].clone()
}

/// The example's customer with this value in one field.
fn with(field: &str, value: Value) -> Value {
    let mut body = example();
    body[field] = value;
    body
}

#[test]
fn the_schema_of_a_customer_and_the_rules_say_the_same() {
    let document = document();
    let validator = validator(&document, "/components/schemas/Customer");
    let strange = [
        json!(null),
        json!(true),
        json!(7),
        json!(-0.5),
        json!([]),
        json!(["a"]),
        json!({}),
        json!({"a": [1]}),
        json!(""),
        json!(" "),
        json!("\t\u{85}\u{3000}"),
        json!("\u{feff}"),
        json!("\u{1c}"),
        json!("0"),
        json!("00-0"),
        json!("-1"),
        json!("null"),
        json!("Null"),
        json!(" nULL\u{200b}"),
        json!("nullable"),
        json!("UNDEFINED"),
        json!("None"),
        json!("NaN"),
        json!("True"),
        json!("\u{feff}false\n"),
        json!("[object Object]"),
        json!("[object object] "),
        json!("object"),
        json!(" 0-0 "),
        json!(" -1"),
        json!("-2"),
        json!("\u{200b}\u{e0001}"),
        json!("\u{2800}"),
        json!("anonymous"),
        json!("identify"),
        json!("track"),
        json!("c-1"),
        json!("é"),
        json!("x".repeat(99)),
        json!("é".repeat(99)),
        json!("x".repeat(100)),
        json!("2026-01-31"),
        json!("2026-02-30"),
        json!("2026"),
        json!("2026-13"),
        json!("2026-01"),
        json!("2026-01-31T09:30:00Z"),
        json!("2026-01-31T09:30:00+02:00"),
        json!("2024-02-29T09:30:00Z"),
        json!("2026-01-31t09:30:00.123456789012z"),
        json!("2026-01-31 09:30:00Z"),
        json!("2026-01-31 09:30:00"),
        json!("2026-01-31T09:30:00+25:59"),
        json!("2026-01-31T09:30:00+0200"),
        json!("2026-01-31T09"),
        json!("2026-01-31T24:00:00,0"),
        json!("2026-01-31T24:00:01"),
        json!("2026-01-31T23:59:60"),
        json!("20260131"),
        json!("20260231"),
        json!("20260131T093000Z"),
        json!("20260131T09:30:00Z"),
        json!("2026-01T09"),
        json!("2026-W05"),
        json!("2026W056"),
        json!("2026-W05-6T09:30"),
        json!("2026-W05-8"),
        json!("2026-W00"),
        json!("2026-031"),
        json!("2026365"),
        json!("2026-000"),
        json!("202601"),
        json!("soon"),
    ];
    let properties = &document["components"]["schemas"]["Customer"]["properties"];
    let names = properties.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let reserved = properties["traits"]["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut bodies =
        vec![json!({}), json!([]), json!(null), json!({"userId": "c-1"}), json!({"traits": {}}), example()];
    for value in strange {
        bodies.extend(names.iter().chain([&"plan".to_owned()]).map(|name| with(name, value.clone())));
        bodies.extend(reserved.iter().map(|name| with("traits", json!({name: value}))));
    }
    for count in [299, 300] {
        bodies.push(with("traits", (0..count).map(|n| (format!("t{n}"), json!(n))).collect::<Map<_, _>>().into()));
    }
    for body in bodies {
        assert_eq!(validator.is_valid(&body), is_taken(&body), "{body}");
    }
}

#[test]
fn the_schema_of_an_id_and_the_rules_have_the_same_invisible_characters() {
    let pattern = &document()["components"]["schemas"]["Customer"]["properties"]["messageId"]["pattern"];
    let visible = crate::fuzz::characters(pattern.as_str().unwrap());
    assert!(crate::fuzz::invisible().iter().all(|character| !visible.contains(character)));
    assert_eq!(visible.len() + crate::fuzz::invisible().len(), ('\0'..=char::MAX).count());
    let placeholder = document()["components"]["schemas"]["Placeholder"]["pattern"].as_str().unwrap().to_owned();
    let class = pattern.as_str().unwrap().trim_start_matches("[^").trim_end_matches(']').to_owned();
    assert!(placeholder.starts_with(&format!("^[{class}]*(?:")) && placeholder.ends_with(&format!(")[{class}]*$")));
}

#[test]
fn the_schema_of_a_customer_names_every_reserved_trait() {
    let traits = &document()["components"]["schemas"]["Customer"]["properties"]["traits"]["properties"];
    let described: BTreeSet<_> = traits.as_object().unwrap().keys().map(|name| &**name).collect();
    assert_eq!(described, reserved_traits().collect());
}

#[test]
fn the_schema_of_a_customer_names_every_field_that_is_taken() {
    let Err(error) = SegmentIdentifyPayload::parse(br#"{"userId":"c-1","traits":{},"plan":1}"#) else { panic!() };
    for name in document()["components"]["schemas"]["Customer"]["properties"].as_object().unwrap().keys() {
        assert!(error.to_string().contains(name), "{error} does not name {name}");
    }
}
