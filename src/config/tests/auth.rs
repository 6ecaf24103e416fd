//! Tests of RELAY_AUTH and the settings that belong to it.

use super::read::{KEY, settings};
use crate::config::auth::AuthSettings;

const SCHEMES: [(&str, &str); 4] = [
    ("standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ("hmac", "It's a Secret to Everybody"),
    ("bearer", "t0ken"),
    ("basic", "relay:pa55word"),
];

fn auth(variables: &[(&str, &str)]) -> Result<AuthSettings, Vec<String>> {
    settings(&[&[KEY], variables].concat()).map(|settings| settings.auth)
}

#[test]
fn every_scheme_is_read_and_no_secret_is_shown() {
    assert_eq!(auth(&[]).unwrap().name(), "none");
    assert_eq!(auth(&[("RELAY_AUTH", "none")]).unwrap().name(), "none");
    for (scheme, secret) in SCHEMES {
        let two = format!("{secret}, {secret}2");
        for secrets in [secret, &two] {
            let auth = auth(&[("RELAY_AUTH", scheme), ("RELAY_AUTH_SECRETS", secrets)]);
            // The 33 characters after whsec_ are not base64.
            let Ok(auth) = auth else {
                assert!(scheme == "standard-webhooks" && secrets == two, "{scheme} {auth:?}");
                continue;
            };
            assert_eq!(format!("{auth:?}"), format!("AuthSettings({scheme})"));
        }
    }
}

#[test]
fn a_scheme_without_secrets_and_secrets_without_a_scheme_are_refused() {
    for (scheme, secret) in SCHEMES {
        let problems = auth(&[("RELAY_AUTH", scheme)]).unwrap_err();
        assert_eq!(problems, [format!("RELAY_AUTH_SECRETS: required with RELAY_AUTH={scheme}")]);
        let problems = auth(&[("RELAY_AUTH_SECRETS", secret)]).unwrap_err();
        assert_eq!(problems, ["RELAY_AUTH_SECRETS: not used while RELAY_AUTH is none"]);
    }
}

#[test]
fn each_wrong_secret_is_reported_by_its_number_and_never_shown() {
    for (scheme, wrong) in [
        ("standard-webhooks", "s3cret"),
        ("standard-webhooks", "whsec_"),
        ("standard-webhooks", "whsec_s3cret!"),
        ("standard-webhooks", "whpk_s3cretaa"),
        ("bearer", "s3cret token"),
        ("bearer", "s3crét"),
        ("basic", "s3cret"),
        ("basic", ":s3cret"),
        ("basic", "s3cret:"),
        ("basic", "s3cret:\u{7}"),
        ("hmac", ""),
    ] {
        let (_, right) = SCHEMES.iter().find(|(name, _)| *name == scheme).unwrap();
        let problems = auth(&[("RELAY_AUTH", scheme), ("RELAY_AUTH_SECRETS", &format!("{right},{wrong},"))]);
        let problems = problems.unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("RELAY_AUTH_SECRETS: secret 2 of 3 "), "{problems:?}");
        assert_eq!(problems[1], "RELAY_AUTH_SECRETS: secret 3 of 3 is empty");
        assert!(!format!("{problems:?}").contains("s3cr"), "{problems:?}");
    }
    let many = vec!["t0ken"; 17].join(",");
    assert_eq!(auth(&[("RELAY_AUTH", "bearer"), ("RELAY_AUTH_SECRETS", &many)]).unwrap_err().len(), 1);
}

#[test]
fn a_secret_that_holds_control_characters_or_is_a_variable_is_refused() {
    for (scheme, secret) in SCHEMES {
        for (wrong, says) in [
            ("s3cret-of-line-1\ns3cret-of-line-2", "control"),
            ("s3cret:of\ttabs", "control"),
            ("s3cret:of\u{0}nul", "control"),
            ("s3cret:of\u{85}next line", "control"),
            ("\u{feff}s3cret:of-a-text-editor", "byte order mark"),
            ("s3cret:not-utf8-\u{fffd}", "UTF-8"),
            ("${S3CRET}", "not replaced"),
            ("s3cret:$(S3CRET)", "not replaced"),
            ("s3cret:${S3CRET:-none}", "not replaced"),
            ("s3cret:$S3CRET_OF_SENDER", "not replaced"),
            ("whsec_${S3CRET}", "not replaced"),
            ("{{s3cret}}", "not replaced"),
        ] {
            let list = format!("{secret},{wrong}");
            let problems = auth(&[("RELAY_AUTH", scheme), ("RELAY_AUTH_SECRETS", &list)]).unwrap_err();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with("RELAY_AUTH_SECRETS: secret 2 of 2 "), "{problems:?}");
            assert!(problems[0].contains(says), "{scheme}: {problems:?}");
            assert!(!problems[0].to_lowercase().contains("s3cret"), "{problems:?}");
        }
    }
    for secret in ["user:$pa55word", "user:pa$$word$A", "user:}${word", "us\u{e9}r:\u{20ac}"] {
        assert!(auth(&[("RELAY_AUTH", "basic"), ("RELAY_AUTH_SECRETS", secret)]).is_ok(), "{secret}");
        assert!(auth(&[("RELAY_AUTH", "hmac"), ("RELAY_AUTH_SECRETS", secret)]).is_ok(), "{secret}");
    }
}

#[test]
fn a_secret_that_is_a_placeholder_is_warned_about() {
    for (scheme, secret, is_placeholder) in [
        ("hmac", "YOUR_WEBHOOK_SECRET_HERE", true),
        ("bearer", "changemechangeme", true),
        ("basic", "sender:your-very-own-password", true),
        ("standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", false),
        ("standard-webhooks", "whsec_changemechangemechangemechangemechangeme", true),
        ("hmac", "\u{43f}\u{430}\u{440}\u{43e}\u{43b}\u{44c}-\u{43f}\u{430}\u{440}", false),
        ("hmac", "!%&/()=?+;:~@^#'|", false),
    ] {
        let list = [("RELAY_AUTH", scheme), ("RELAY_AUTH_SECRETS", secret)];
        let Ok(settings) = settings(&[&[KEY], &list[..]].concat()) else {
            assert!(!is_placeholder, "{secret}");
            continue;
        };
        let told = settings.warnings().iter().filter(|line| line.contains("is a placeholder")).count();
        assert_eq!(told, usize::from(is_placeholder), "{secret}: {:?}", settings.warnings());
    }
}

#[test]
fn the_idempotency_window_is_at_least_as_long_as_a_signature_is_valid() {
    let outbox = ("RELAY_OUTBOX_URL", "sqlite:///tmp/outbox.db");
    let [webhooks, hmac] = [SCHEMES[0], SCHEMES[1]].map(|(scheme, secret)| {
        move |window| {
            [("RELAY_AUTH", scheme), ("RELAY_AUTH_SECRETS", secret), ("RELAY_IDEMPOTENCY_WINDOW", window), outbox]
        }
    });
    assert!(auth(&webhooks("10m")).is_ok());
    assert!(auth(&hmac("1s")).is_ok());
    let problems = auth(&webhooks("599s")).unwrap_err();
    assert_eq!(
        problems,
        ["RELAY_IDEMPOTENCY_WINDOW: must be at least 10m, because a signature is valid for that long"]
    );
}

#[test]
fn settings_of_hmac_are_refused_with_other_schemes() {
    let hmac = [("RELAY_AUTH", "hmac"), ("RELAY_AUTH_SECRETS", "k")];
    let chosen = [("RELAY_AUTH_HMAC_HEADER", "X-Hub-Signature-256"), ("RELAY_AUTH_HMAC_ENCODING", "base64")];
    assert!(auth(&[hmac, chosen].concat()).is_ok());
    let bearer = [("RELAY_AUTH", "bearer"), ("RELAY_AUTH_SECRETS", "k")];
    assert_eq!(auth(&[bearer, chosen].concat()).unwrap_err().len(), 2);
    let wrong = [("RELAY_AUTH_HMAC_HEADER", "X Hub"), ("RELAY_AUTH_HMAC_ENCODING", "base32")];
    assert_eq!(auth(&[hmac, wrong].concat()).unwrap_err().len(), 2);
    assert_eq!(auth(&[&hmac[..], &[("RELAY_AUTH_HMAC_HEADER", "Content-Length")]].concat()).unwrap_err().len(), 1);
    assert_eq!(auth(&[("RELAY_AUTH", "magic"), chosen[0]]).unwrap_err().len(), 1);
}
