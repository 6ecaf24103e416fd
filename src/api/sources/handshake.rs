//! The first requests of senders, which ask whether the address is right.
//!
//! None of them proves a sender or stores anything, but that with a field in a signed body, which is answered after its
//! signature was verified.

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;

use super::answer::Taken;
use crate::api::error::{ApiError, ApiErrorCode};
use crate::auth::Challenge;
use crate::sources::event::text_field;

/// The most digits of the number in a form: as many as 64 bits have.
const MAX_DIGITS: usize = 20;

/// A GET whose header the answer repeats.
pub(super) fn of_header(challenge: &Challenge, headers: &HeaderMap) -> Result<Taken, ApiError> {
    let missing =
        || ApiError::new(ApiErrorCode::BadRequest, "the header of the sender's challenge is missing or not ASCII");
    let Challenge::Header { header, answer } = challenge else { return Err(missing()) };
    let value = headers.get(header).and_then(|value| value.to_str().ok()).ok_or_else(missing)?;
    Ok(Taken::Challenge(answer.clone(), value.to_owned()))
}

/// A string in a body that was verified.
pub(super) fn of_field(challenge: Option<&Challenge>, body: &[u8]) -> Option<Taken> {
    let Some(Challenge::Field { field, when: (name, value), answer }) = challenge else { return None };
    let says_so = text_field(body, name).is_some_and(|text| text == *value);
    let text = says_so.then(|| text_field(body, field))??;
    Some(Taken::Challenge(answer.clone(), text))
}

/// Whether the body may be the form of a challenge.
pub(super) fn may_be_form(challenge: Option<&Challenge>, headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    matches!(challenge, Some(Challenge::Form { .. }))
        && essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// A form with one number, and nothing else.
pub(super) fn of_form(challenge: Option<&Challenge>, body: &[u8]) -> Option<Taken> {
    let Some(Challenge::Form { field }) = challenge else { return None };
    let number = body.strip_prefix(field.as_bytes())?.strip_prefix(b"=")?;
    let is_number = (1..=MAX_DIGITS).contains(&number.len()) && number.iter().all(u8::is_ascii_digit);
    is_number.then_some(Taken::Ping)
}
