//! What a secret of a sender must be, and what about one is probably a mistake.

use super::unfilled::{UNREPLACED, is_placeholder, is_quoted, is_unreplaced};

pub(super) const IN_QUOTES: &str =
    "is in quotes, which are part of it: docker run --env-file passes quotes on as they are";

/// Checks a secret of any scheme.
///
/// # Errors
/// Says what it must be. The message does not repeat the secret.
pub fn check_secret(secret: &str) -> Result<(), &'static str> {
    if secret.chars().any(|c| c.is_control() || c == '\u{feff}') {
        Err("must not hold control characters, such as a newline, or a byte order mark")
    } else if secret.contains(char::REPLACEMENT_CHARACTER) {
        // The environment's bytes that are not UTF-8 became this character.
        Err("must be valid UTF-8")
    } else if is_unreplaced(secret) {
        Err(UNREPLACED)
    } else {
        Ok(())
    }
}

/// Checks the token of `bearer`.
///
/// # Errors
/// Says what it must be.
pub fn check_bearer_token(token: &str) -> Result<(), &'static str> {
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    is_token.then_some(()).ok_or("must be visible ASCII characters")
}

/// Checks `user:password` (RFC 7617, section 2). Returns the password.
///
/// # Errors
/// Says what it must be.
pub fn check_user_and_password(pair: &str) -> Result<&str, &'static str> {
    let both = pair.split_once(':').filter(|(user, password)| !user.is_empty() && !password.is_empty());
    both.map(|(_, password)| password).ok_or("must be user:password")
}

/// What about a secret is probably a mistake. `guarded` is the part of it that must not be guessed, `length` that part's
/// length as a key, and `least` the shortest length in bytes that is not warned about.
pub fn secret_warnings(secret: &str, guarded: &str, length: usize, least: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    if is_quoted(secret.as_bytes()) {
        warnings.push(IN_QUOTES.to_owned());
    }
    if is_placeholder(guarded) {
        warnings.push("is a placeholder: whoever reads the documents knows it".to_owned());
    }
    if length < least {
        warnings.push(format!("is shorter than {least} bytes"));
    }
    warnings
}
