//! Tests of RELAY_ADMIN_TOKEN.

use super::read::{KEY, problem, settings};

#[test]
fn the_token_is_read_and_never_shown() {
    assert!(settings(&[KEY]).unwrap().admin_token.is_none());
    let settings = settings(&[KEY, ("RELAY_ADMIN_TOKEN", "s3cret,+/=~12345")]).unwrap();
    assert_eq!(settings.admin_token.as_ref().unwrap().reveal(), "s3cret,+/=~12345");
    assert!(!format!("{settings:?}").contains("s3cret"));
}

#[test]
fn a_token_that_is_short_or_that_a_header_cannot_carry_is_refused_and_never_shown() {
    let wrong = ["s3cret-16-of a-token", " s3cret-16-of-a-token", "s3cret-16-of-a-token\n", "s3crét-16-of-a-token"];
    for wrong in wrong.into_iter().chain(["s3cret-15-bytes", &"s3cret".repeat(200)]) {
        assert!(!problem("RELAY_ADMIN_TOKEN", wrong).contains("s3cr"));
    }
}
