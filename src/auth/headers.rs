//! Headers that decide who gets in. Each must be present exactly once: with two of a kind, a proxy and the relay might read
//! different ones.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::unauthorized::Unauthorized;

/// The value of a header that must be present once and not be empty.
pub(super) fn required<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a HeaderValue, Unauthorized> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) if !value.is_empty() => Ok(value),
        (_, Some(_)) => Err(Unauthorized::new(format!("the header {name} is there more than once"))),
        _ => Err(missing(name)),
    }
}

pub(super) fn missing(name: &HeaderName) -> Unauthorized {
    Unauthorized::new(format!("the header {name} is missing"))
}
