//! Headers that decide who gets in: each must be there, once. With two of a kind, those before and behind a proxy might
//! believe in different ones.

use axum::http::HeaderMap;

use super::Unauthorized;

/// The value of a header that must be there.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a [u8], Unauthorized> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) if !value.is_empty() => Ok(value.as_bytes()),
        (_, Some(_)) => Err(Unauthorized::new(format!("the header {name} is there more than once"))),
        _ => Err(Unauthorized::new(format!("the header {name} is missing"))),
    }
}
