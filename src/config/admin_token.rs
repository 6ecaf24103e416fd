//! The token of those who operate the relay.

use std::fmt;

use super::checks::Checks;

/// Where it comes from.
const NAME: &str = "RELAY_ADMIN_TOKEN";

/// Longer than any token in use, and well within what a request's head may hold.
const LONGEST: usize = 1024;

/// Who shows it may read what Segment refused, and have it sent again. A secret.
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

impl Checks {
    /// None if there is none: then nobody operates the relay over HTTP.
    pub(super) fn admin_token(&mut self, token: Option<&str>) -> Option<AdminToken> {
        let token = token?;
        if token.len() > LONGEST {
            self.problem(NAME, format_args!("longer than {LONGEST} characters"));
        } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.problem(NAME, "holds white space or other characters that no header carries as they are");
        }
        Some(AdminToken(token.to_owned()))
    }

    /// As [`admin_token`](Self::admin_token), for a command that is no use without one.
    pub(super) fn required_admin_token(&mut self, token: Option<&str>) -> Option<AdminToken> {
        if token.is_none() {
            self.problem(NAME, "required: the token that the running relay was given");
        }
        self.admin_token(token)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{KEY, problem, settings};

    #[test]
    fn it_is_read_and_never_shown() {
        assert!(settings(&[KEY]).unwrap().admin_token.is_none());
        let settings = settings(&[KEY, ("RELAY_ADMIN_TOKEN", "s3cret,+/=~")]).unwrap();
        assert_eq!(settings.admin_token.as_ref().unwrap().reveal(), "s3cret,+/=~");
        assert!(!format!("{settings:?}").contains("s3cret"));
    }

    #[test]
    fn one_that_no_header_carries_is_refused_and_never_shown() {
        for wrong in ["s3cret token", " s3cret", "s3cret\n", "s3crét", &"s3cret".repeat(200)] {
            assert!(!problem("RELAY_ADMIN_TOKEN", wrong).contains("s3cr"));
        }
    }
}
