//! The values of the other keys: parts of an event's key, handshakes, sizes, examples.

use axum::http::{HeaderValue, header};
use bytes::Bytes;
use bytesize::ByteSize;
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::document::{Table, Value};
use super::types::{Example, KeyPart, OnError};
use super::verify::{header_name, one_of, text};
use crate::auth::Challenge;

/// More than any sender's ids need. Each part is looked for in each event.
const MAX_KEY_PARTS: usize = 8;

/// The largest `max_body`. What is larger holds no customer's change.
const MAX_BODY: ByteSize = ByteSize::mib(1);

/// Headers that hold secrets. They are not kept with an event, so a replay would not find them.
const SECRET_HEADERS: [axum::http::HeaderName; 3] =
    [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE];

/// The list `key`.
pub(super) fn key(value: &Value<'_>) -> Option<Vec<KeyPart>> {
    let parts = value.list()?;
    if parts.len() > MAX_KEY_PARTS {
        value.add(format_args!("more than {MAX_KEY_PARTS} parts"));
    }
    Some(parts.iter().filter_map(|part| part.read(key_part)).collect())
}

/// `header:NAME` or `body:/POINTER`.
pub(super) fn key_part(text: &str) -> Result<KeyPart, String> {
    match text.split_once(':') {
        Some(("header", name)) => {
            let name = header_name(name)?;
            let is_secret = SECRET_HEADERS.contains(&name);
            if is_secret { Err("this header holds a secret".to_owned()) } else { Ok(KeyPart::Header(name)) }
        }
        Some(("body", pointer)) if is_pointer(pointer) => Ok(KeyPart::Body(pointer.to_owned())),
        _ => Err("must be header:NAME, or body: and a JSON pointer, as in body:/data/id".to_owned()),
    }
}

/// RFC 6901, section 3. The pointer to the whole document is none here.
fn is_pointer(text: &str) -> bool {
    let is_escaped = |part: &str| part.is_empty() || part.starts_with(['0', '1']);
    text.starts_with('/') && text.split('~').skip(1).all(|part| !part.is_empty() && is_escaped(part))
}

/// A size of at least a byte.
pub(super) fn max_body(text: &str) -> Result<usize, String> {
    let size = text.trim().parse::<ByteSize>().ok().filter(|size| (ByteSize::b(1)..=MAX_BODY).contains(size));
    let size = size.and_then(|size| usize::try_from(size.as_u64()).ok());
    size.ok_or_else(|| "must be a size such as 256KiB, at most 1MiB".to_owned())
}

pub(super) fn on_error(text: &str) -> Result<OnError, String> {
    one_of(text, &[("keep", OnError::Keep), ("refuse", OnError::Refuse)])
}

/// The table `challenge`: a GET's header, a field of a POST, or a form.
pub(super) fn challenge(value: &Value<'_>) -> Option<Challenge> {
    let table = value.table()?;
    let challenge = match (table.get("header"), table.get("field"), table.get("form")) {
        (Some(header), None, None) => {
            table.read("method", |text| one_of(text, &[("GET", ())]));
            let (header, answer) = (header.read(header_name), table.require("answer", text));
            header.zip(answer).map(|(header, answer)| Challenge::Header { header, answer })
        }
        (None, Some(field), None) => {
            let (field, when, answer) = (field.read(text), when(&table), table.require("answer", text));
            field.zip(when).zip(answer).map(|((field, when), answer)| Challenge::Field { field, when, answer })
        }
        (None, None, Some(form)) => form.read(text).map(|field| Challenge::Form { field }),
        _ => {
            table.add("needs one of header, field and form");
            return None;
        }
    };
    table.finish();
    challenge
}

/// `when = { type = "url_verification" }`: one name and its text.
fn when(table: &Table<'_>) -> Option<(String, String)> {
    let Some(value) = table.get("when") else {
        table.add_at("when", "required");
        return None;
    };
    let when = value.table()?;
    let mut all = when.all();
    match (all.next(), all.next()) {
        (Some((name, value)), None) => Some((name.to_owned(), value.read(text)?)),
        _ => {
            value.add("must be one name and its text");
            None
        }
    }
}

/// The list of tables `example`.
pub(super) fn examples(value: &Value<'_>) -> Vec<Example> {
    let examples = value.list().unwrap_or_default();
    examples.iter().filter_map(|value| example(value.table()?)).collect()
}

fn example(table: Table<'_>) -> Option<Example> {
    let headers = table.get("headers").and_then(|value| value.table());
    let headers = headers.iter().flat_map(Table::all).filter_map(|(name, value)| {
        let read = |text: &str| {
            let name = header_name(name)?;
            HeaderValue::from_str(text).map_err(|_| "a header cannot hold this".to_owned())?;
            Ok((name.as_str().to_owned(), text.as_bytes().to_vec()))
        };
        value.read(read)
    });
    let headers = headers.collect();
    let body = table.require("body", |body| Ok(Bytes::copy_from_slice(body.as_bytes())));
    let expect = table.read("expect", expected);
    table.finish();
    Some(Example { headers, body: body?, expect })
}

fn expected(text: &str) -> Result<String, String> {
    // serde's own words may quote the text.
    let problem = |error: serde_json::Error| match error.classify() {
        Category::Data => "must be a JSON array of customers".to_owned(),
        _ => format!("not JSON at its line {}, column {}", error.line(), error.column()),
    };
    serde_json::from_str::<Vec<&RawValue>>(text).map(|_| text.to_owned()).map_err(problem)
}
