//! The document that a relay serves, and the check of an answer against it.
//!
//! The check is stricter than the document: a member of a body that the document does not describe is a fault, and so is a
//! header. (The document leaves room for what a later version may add.)

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::harness::{Answer, Relay};

/// Headers that belong to HTTP and not to what is answered.
const TRANSPORT: [&str; 5] = ["connection", "content-length", "content-type", "date", "transfer-encoding"];

/// The methods that a path can have in a document.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// An OpenAPI document.
pub struct Document(pub Value);

impl Document {
    /// The document of this relay.
    pub async fn of(relay: &Relay) -> Self {
        let answer = relay.get("/openapi.json").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        let document = Self(answer.body.clone());
        document.check("get", "/openapi.json", &answer);
        document
    }

    /// Every path, with its methods.
    pub fn paths(&self) -> Vec<(&str, BTreeSet<Method>)> {
        let methods = |item: &Value| {
            let named = METHODS.iter().filter(|method| item.get(method).is_some());
            named.map(|method| Method::from_bytes(method.to_uppercase().as_bytes()).unwrap()).collect()
        };
        self.0["paths"].as_object().unwrap().iter().map(|(path, item)| (&**path, methods(item))).collect()
    }

    /// Whether this path is for operators.
    pub fn is_for_operators(&self, path: &str) -> bool {
        let operations = self.0["paths"][path].as_object().unwrap().values();
        operations.into_iter().any(|operation| operation["security"] == json!([{"operator": []}]))
    }

    /// Whether a path is there only if RELAY_ADMIN_TOKEN is set.
    pub fn needs_the_setting(&self, path: &str) -> bool {
        let operations = self.0["paths"][path].as_object().unwrap().values();
        operations.into_iter().any(|operation| operation["tags"] == json!(["Operators"]))
    }

    /// Every status and code with which an operation may fail: there is an example for each, as a unit test holds.
    pub fn failures(&self, method: &str, path: &str) -> BTreeSet<(u16, String)> {
        let responses = self.0["paths"][path][method]["responses"].as_object().unwrap();
        let codes = |answer: &Value| {
            let examples = self.resolve(answer)["content"]["application/json"]["examples"].as_object();
            examples.map(|examples| examples.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
        };
        let all = responses
            .iter()
            .flat_map(|(status, answer)| codes(answer).into_iter().map(move |code| (status.parse().unwrap(), code)));
        all.collect()
    }

    /// Checks that an answer of this operation is as the document says: status, headers, media type, body.
    #[track_caller]
    pub fn check(&self, method: &str, path: &str, answer: &Answer) {
        let responses = &self.0["paths"][path][method]["responses"];
        let Some(described) = responses.get(answer.status.to_string()) else {
            panic!("{method} {path} is not described to answer {answer:?}");
        };
        self.check_answer(described, answer);
    }

    /// Checks an answer against one of the components: those for other paths and methods belong to no operation.
    #[track_caller]
    pub fn check_component(&self, name: &str, answer: &Answer) {
        self.check_answer(&json!({"$ref": format!("#/components/responses/{name}")}), answer);
    }

    #[track_caller]
    fn check_answer(&self, described: &Value, answer: &Answer) {
        let described = self.resolve(described);
        self.check_headers(&described["headers"], answer);
        let Some(content) = described["content"].as_object() else {
            assert_eq!((answer.header("content-type"), &answer.body), (None, &json!("")), "{answer:?}");
            return;
        };
        let media_type = answer.header("content-type").unwrap_or_default();
        let content = content.get(media_type).unwrap_or_else(|| panic!("{media_type} is not described: {answer:?}"));
        let mut schema = strict(&content["schema"]);
        // What the schema refers to.
        schema["components"] = json!({"schemas": strict(&self.0["components"]["schemas"])});
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let faults: Vec<_> = validator.iter_errors(&answer.body).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{answer:?}: {faults:?}");
    }

    #[track_caller]
    fn check_headers(&self, described: &Value, answer: &Answer) {
        for name in answer.headers.keys().map(|name| name.as_str()).filter(|name| !TRANSPORT.contains(name)) {
            assert!(described.get(name).is_some(), "the header {name} is not described: {answer:?}");
        }
        for (name, header) in described.as_object().unwrap() {
            let header = self.resolve(header);
            let Some(value) = answer.header(name) else {
                assert_eq!(header["required"], false, "the header {name} is missing: {answer:?}");
                continue;
            };
            let value = if header["schema"]["type"] == "integer" { value.parse().unwrap() } else { json!(value) };
            let validator = jsonschema::draft202012::new(&header["schema"]).unwrap();
            assert!(validator.is_valid(&value), "the header {name} does not fit: {answer:?}");
        }
    }

    /// The value itself, or the component that it refers to.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        value["$ref"].as_str().map_or(value, |place| self.0.pointer(&place[1..]).unwrap())
    }
}

/// The same schema, with room for nothing that it does not describe.
fn strict(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => {
            let mut strict: Map<_, _> =
                members.iter().map(|(name, member)| (name.clone(), self::strict(member))).collect();
            // A property may have this name too, and then it holds a schema.
            if members.get("properties").is_some_and(|properties| properties.is_object())
                && members.contains_key("type")
            {
                strict.entry("additionalProperties").or_insert(json!(false));
            }
            strict.into()
        }
        Value::Array(members) => members.iter().map(self::strict).collect(),
        other => other.clone(),
    }
}
