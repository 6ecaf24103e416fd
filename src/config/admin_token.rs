//! The token of the admin routes.

use std::fmt;

/// Longer than any token in use, and well within the size limit of a request's head.
const MAX_TOKEN_LENGTH: usize = 1024;

/// Whoever shows it may read the calls that Segment refused, and send them again. A secret.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    /// The token itself: visible ASCII, not empty.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

pub(super) fn admin_token(text: &str) -> Result<AdminToken, String> {
    if text.len() > MAX_TOKEN_LENGTH {
        Err(format!("longer than {MAX_TOKEN_LENGTH} characters"))
    } else if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(AdminToken(text.to_owned()))
    } else {
        Err("holds white space or other characters that a header cannot carry".to_owned())
    }
}
