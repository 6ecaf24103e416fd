//! The limits that the document names.

use serde_json::json;

use super::document;
use crate::api::admin::page::{DEFAULT_LIMIT, MAX_LIMIT};
use crate::api::body::{MAX_BODY, MAX_LARGE_BODY};
use crate::api::request_id::{MAX_LENGTH, PUNCTUATION};
use crate::customer::{MAX_BROKEN_RULES, MAX_CUSTOMERS};
use crate::segment::MAX_CALL_BYTES;

#[test]
fn the_limits_in_the_document_are_those_of_the_program() {
    let document = document();
    let body = &document["paths"]["/customers"]["post"]["requestBody"]["description"];
    for limit in [MAX_BODY, MAX_LARGE_BODY, MAX_CALL_BYTES] {
        assert!(body.as_str().unwrap().contains(&format!(" {limit} bytes")), "{body}");
    }
    let content = &document["paths"]["/customers"]["post"]["requestBody"]["content"];
    let (array, lines) =
        (&content["application/json"]["schema"]["anyOf"][1], &content["application/x-ndjson"]["schema"]);
    let results = &document["components"]["schemas"]["Outcomes"]["properties"]["results"];
    for list in [array, lines, results] {
        assert_eq!((&list["minItems"], &list["maxItems"]), (&json!(1), &json!(MAX_CUSTOMERS)));
    }
    let schemas = &document["components"]["schemas"];
    for (path, page, list) in [("/dead-letters", "DeadLetterPage", "deadLetters"), ("/parked", "ParkedPage", "parked")]
    {
        let limit = &document["paths"][path]["get"]["parameters"][0];
        let schema = json!({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT});
        assert_eq!((&limit["name"], &limit["schema"]), (&json!("limit"), &schema));
        assert_eq!(schemas[page]["properties"][list]["maxItems"], MAX_LIMIT);
    }
    let details = &schemas["BrokenRules"];
    assert_eq!(details["maxItems"], MAX_BROKEN_RULES);
    assert!(details["description"].as_str().unwrap().contains(&format!(" {MAX_BROKEN_RULES}. ")), "{details}");
    let id = &document["components"]["headers"]["x-request-id"]["schema"]["pattern"];
    assert_eq!(id, &json!(format!("^[A-Za-z0-9{PUNCTUATION}]{{1,{MAX_LENGTH}}}$")));
    let id = document["components"]["parameters"]["x-request-id"]["description"].as_str().unwrap();
    assert!(id.contains(&format!("1 to {MAX_LENGTH} ASCII letters, digits and {PUNCTUATION};")), "{id}");
}
