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

#[test]
fn an_unreplaced_variable_or_a_placeholder_is_no_token() {
    for (token, says) in [
        ("${RELAY_ADMIN_TOKEN}", "not replaced"),
        ("${TOKEN}", "not replaced"),
        ("$(RELAY_ADMIN_TOKEN)", "not replaced"),
        ("$RELAY_ADMIN_TOKEN", "not replaced"),
        ("\"${RELAY_ADMIN_TOKEN:-}\"", "not replaced"),
        ("{{relay_admin_token}}", "not replaced"),
        ("YOUR_ADMIN_TOKEN_HERE", "placeholder"),
        ("<your-secret-token>", "placeholder"),
        ("PUT_YOUR_SECRET_HERE", "placeholder"),
        ("RELAY_ADMIN_TOKEN", "placeholder"),
        ("changemechangeme", "placeholder"),
        ("change-me-change-me-change-me", "placeholder"),
        ("'changemechangeme'", "placeholder"),
        ("xxxxxxxxxxxxxxxx", "placeholder"),
        ("changeme", "placeholder"),
        ("****************", "placeholder"),
    ] {
        let problem = problem("RELAY_ADMIN_TOKEN", token);
        assert!(problem.contains(says), "{token}: {problem}");
    }
    for token in
        ["$t0ken-of-16-byte", "t0ken$of$16}byte", "!#%&/()=?+,;:~@^", "token-for-your-relay", "(${-t0ken-of-16-)"]
    {
        settings(&[KEY, ("RELAY_ADMIN_TOKEN", token)]).unwrap();
    }
}

#[test]
fn a_token_in_quotes_is_warned_about() {
    for (token, is_quoted) in
        [("'s3cret-of-18-bytes'", true), ("\"s3cret-of-18-bytes", true), ("s3cret-'of'-16-bytes", false)]
    {
        let warnings = settings(&[KEY, ("RELAY_ADMIN_TOKEN", token)]).unwrap().warnings();
        let told: Vec<_> = warnings.iter().filter(|line| line.starts_with("RELAY_ADMIN_TOKEN ")).collect();
        assert_eq!(told.len(), usize::from(is_quoted), "{warnings:?}");
        assert!(told.iter().all(|line| line.contains("quotes") && !line.contains("s3cret")), "{warnings:?}");
    }
}
