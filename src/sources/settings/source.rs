//! One table of the file: a source.

use std::sync::Arc;

use super::document::Table;
use super::secrets::{Secrets, StandIn, stand_in};
use super::types::{KeyPart, OnError, SourceSettings};
use super::verify::Verify;
use super::{values, verify};
use crate::auth::{Scheme, Verifier};
use crate::config::{self, MAX_SECRET_FILE, MAX_WINDOW, SOURCE_WINDOW, positive_duration};
use crate::sources::mapping::Filter;

/// The largest body if the file does not say: a hundred events of a CRM, or an order, fit.
const MAX_BODY: usize = 256 * 1024;

/// The largest file of a filter: the same as of a secret. A filter of a hundred lines takes a tenth of it.
const MAX_FILTER: u64 = MAX_SECRET_FILE;

/// Reads a source. What stands in for its secrets is added to `missing`.
pub(super) fn read(
    file: &str,
    name: &str,
    table: Table<'_>,
    secrets: &Secrets<'_>,
    missing: &mut Vec<StandIn>,
) -> Option<SourceSettings> {
    let verify = verify::read(&table);
    let preset = verify.as_ref().and_then(|verify| verify.preset);
    let verifier = verifier(&table, verify.as_ref(), secrets, missing);
    let own_key = table.get("key").map(|value| values::key(&value).unwrap_or_default());
    let preset_key = || preset.map_or(&[][..], |preset| preset.key).iter();
    let key: Vec<KeyPart> =
        own_key.unwrap_or_else(|| preset_key().filter_map(|part| values::key_part(part).ok()).collect());
    let write_key = table
        .read("write_key", |place| secrets.read(place, "dev", missing).and_then(|secret| config::write_key(&secret)));
    let answer = table.get("answer").map(|value| value.number(&[200, 202]));
    let own_challenge = table.get("challenge").map(|value| values::challenge(&value));
    let on_error = table.get("on_error").and_then(|value| {
        let on_error = value.read(values::on_error);
        if on_error == Some(OnError::Keep) && !secrets.options.has_outbox {
            value.add("keep needs an outbox (RELAY_OUTBOX_URL), where the event is kept");
        }
        on_error
    });
    let filter = filter(file, name, &table, secrets);
    let window = table.read("window", |text| positive_duration(text, MAX_WINDOW)).unwrap_or(SOURCE_WINDOW);
    let max_body = table.read("max_body", values::max_body).unwrap_or(MAX_BODY);
    let examples = table.get("example").map(|value| values::examples(&value)).unwrap_or_default();
    table.finish();
    let Verify { name: verify, scheme, .. } = verify?;
    Some(SourceSettings {
        name: Arc::from(name),
        verify,
        scheme,
        verifier: verifier?,
        challenge: own_challenge.unwrap_or_else(|| preset.and_then(|preset| preset.challenge.clone())),
        filter,
        key,
        window,
        write_key,
        answer: answer.unwrap_or_else(|| preset.and_then(|preset| preset.answer)),
        max_body,
        on_error,
        examples,
    })
}

/// Reads `secrets` and `url`, and compiles what is to be verified. A scheme is checked even if its secrets are not there.
fn verifier(
    table: &Table<'_>,
    verify: Option<&Verify<'_>>,
    secrets: &Secrets<'_>,
    missing: &mut Vec<StandIn>,
) -> Option<Verifier> {
    let url = table.read("url", Ok);
    let list = table.get("secrets").map(|value| value.list().unwrap_or_default());
    let stand_in = verify.map(|verify| stand_in(&verify.scheme)).unwrap_or_default();
    let mut read = |place: &str| secrets.read(place, &stand_in, missing);
    let read = list.iter().flatten().map(|value| value.read(&mut read).unwrap_or_else(|| stand_in.clone()));
    let mut read: Vec<String> = read.collect();
    let Verify { scheme, values, .. } = verify?;
    if list.is_none() && *scheme != Scheme::None {
        table.add_at("secrets", "required: a list of env:NAME or file:PATH");
        read.push(stand_in);
    }
    let problems = match Verifier::new(scheme, &read, url) {
        Ok(verifier) if secrets.options.admin_token.is_some_and(|token| verifier.holds(token.reveal())) => {
            vec!["secrets: one is RELAY_ADMIN_TOKEN: who sends events may not read customers".to_owned()]
        }
        Ok(verifier) => return Some(verifier),
        Err(problems) => problems,
    };
    for problem in problems {
        match (problem.split_once(": "), values) {
            (Some((key @ ("secrets" | "url"), problem)), _) => table.add_at(key, problem),
            (Some((key, problem)), Some(values)) => values.add_at(key, problem),
            _ => table.add_at("verify", problem),
        }
    }
    None
}

/// The filter of `map` or `map_file`.
fn filter(file: &str, name: &str, table: &Table<'_>, secrets: &Secrets<'_>) -> Option<Arc<Filter>> {
    let map = table.read("map", |text| Ok(text.to_owned()));
    let map_file = table.read("map_file", |path| {
        let text = config::read_file(&secrets.path(path), MAX_FILTER)?;
        Ok(Filter { place: path.to_owned(), text })
    });
    if let (Some(_), Some(value)) = (table.get("map"), table.get("map_file")) {
        value.add("only one of map and map_file may be set");
    }
    let map = map.map(|text| Filter { place: format!("{file}: {name}.map"), text });
    map.or(map_file).map(Arc::new)
}
