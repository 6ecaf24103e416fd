//! What cannot be a scheme, said all at once; what is known of a scheme's secrets.

use std::time::Duration;

use axum::http::HeaderName;

use crate::auth::{
    Algorithm, Encoding, Scheme, SecretForm, SignatureScheme, TimeUnit, TimestampScheme, Verifier, preset, presets,
};

const SECRET: &str = "canary-of-the-sender-1";

fn scheme() -> SignatureScheme {
    SignatureScheme::new(HeaderName::from_static("x-signature"))
}

fn time(header: Option<&'static str>) -> Option<TimestampScheme> {
    let header = header.map(HeaderName::from_static);
    Some(TimestampScheme { header, unit: TimeUnit::Seconds, tolerance: Duration::from_secs(300) })
}

fn with_format(format: &str) -> SignatureScheme {
    SignatureScheme { format: format.to_owned(), ..scheme() }
}

fn with_signed(signed: &str) -> SignatureScheme {
    SignatureScheme { signed: signed.to_owned(), ..scheme() }
}

fn compiled(scheme: &Scheme, secrets: &[&str], url: Option<&str>) -> Result<Verifier, Vec<String>> {
    let secrets: Vec<String> = secrets.iter().map(|secret| (*secret).to_owned()).collect();
    Verifier::new(scheme, &secrets, url)
}

fn problems_of(scheme: &Scheme, secrets: &[&str], url: Option<&str>) -> Vec<String> {
    let problems = compiled(scheme, secrets, url).err().unwrap_or_default();
    assert!(!problems.concat().contains("canary"), "{problems:?}");
    problems
}

/// The problems of a scheme under a good secret.
fn problems(scheme: SignatureScheme) -> Vec<String> {
    problems_of(&Scheme::Signature(Box::new(scheme)), &[SECRET], None)
}

#[test]
fn every_preset_compiles() {
    for preset in presets() {
        let scheme = preset.scheme();
        let secret = match &scheme {
            Scheme::Basic => "user:canary-of-the-sender",
            Scheme::Signature(scheme) if scheme.secret_prefix.as_deref() == Some("whsec_") => {
                "whsec_Y2FuYXJ5LW9mLXRoZS1zZW5kZXItMTIzNDU2"
            }
            Scheme::Signature(scheme) if scheme.secret_prefix.is_some() => {
                "v1,whsec_Y2FuYXJ5LW9mLXRoZS1zZW5kZXItMTIzNDU2"
            }
            _ => SECRET,
        };
        let needs_url = matches!(&scheme, Scheme::Signature(scheme) if scheme.signed.contains("{url}"));
        let url = needs_url.then_some("https://relay.example/sources/a?b=c@d");
        assert_eq!(problems_of(&scheme, &[secret], url), [""; 0], "{}", preset.name);
        let verifier = compiled(&scheme, &[secret], url).ok().unwrap();
        assert_eq!(verifier.warnings(), [""; 0], "{}", preset.name);
        assert!(!verifier.is_none() && verifier.holds(secret) && !verifier.holds("another"), "{}", preset.name);
        // What is known is one sentence, and names stand once.
        assert!(
            preset.known.len() > 20 && !preset.known.contains(". ") && !preset.known.ends_with('.'),
            "{}",
            preset.name
        );
        assert_eq!(presets().iter().filter(|other| other.name == preset.name).count(), 1);
        assert_eq!(super::super::preset(preset.name).map(|found| found.name), Some(preset.name));
        let is_place = |part: &&str| part.starts_with("header:") || part.starts_with("body:/");
        assert!(preset.key.iter().all(is_place), "{}", preset.name);
    }
    assert!(preset("no-such-product").is_none());
}

#[test]
fn a_format_has_the_signature_once_and_what_is_around_it_tells_it_apart() {
    let between =
        "format: one comma, semicolon or space must stand between {timestamp} and {signature}, and nowhere else";
    let names =
        "format: {timestamp} and {signature} must each have a name in front, as in t={timestamp},v1={signature}";
    let timed = |format: &str| SignatureScheme {
        signed: "{timestamp}{body}".to_owned(),
        timestamp: time(None),
        ..with_format(format)
    };
    for (format, problem) in [
        ("t={timestamp}v1={signature}", between),
        ("t={timestamp},x;y,v1={signature}", between),
        ("t={timestamp}  v1={signature}", between),
        ("a,t={timestamp},v1={signature}", between),
        ("t={timestamp};v1={signature};", between),
        ("{timestamp},v1={signature}", names),
        ("t={timestamp},{signature}", names),
        ("a={timestamp},a={signature}", names),
        ("t={timestamp},t=v={signature}", names),
    ] {
        assert_eq!(problems(timed(format)), [problem], "{format}");
    }
    for right in [
        "t={timestamp},v1={signature}",
        "v1={signature}; t={timestamp}",
        "t={timestamp} v1={signature}",
        "t=\"{timestamp}\", s=\"{signature}\"",
    ] {
        assert_eq!(problems(timed(right)), [""; 0], "{right}");
    }
    for (format, expected) in [
        ("", vec!["format: {signature} must be there once"]),
        ("sha256=", vec!["format: {signature} must be there once"]),
        ("{signature},{signature}", vec!["format: {signature} must be there once"]),
        ("{signature", vec!["format: a brace has no counterpart"]),
        ("sha256=}{signature}", vec!["format: a brace has no counterpart"]),
        ("{{signature}}", vec!["format: a brace has no counterpart"]),
        (
            "{sig}",
            vec![
                "format: {signature} must be there once",
                "format: {sig} is unknown; there are {signature} and {timestamp}",
            ],
        ),
    ] {
        assert_eq!(problems(with_format(format)), expected, "{format}");
    }
}

#[test]
fn a_signed_text_has_the_body_once_and_nothing_that_nobody_provides() {
    let unknown = "is unknown; there are {body}, {timestamp}, {id}, {method}, {url} and {secret}";
    for (signed, expected) in [
        (
            "{timestamp}",
            vec![
                "signed: {body} must be there once".to_owned(),
                "signed: {timestamp} needs {timestamp} in format, or the header of timestamp".to_owned(),
            ],
        ),
        ("{body}{body}", vec!["signed: {body} must be there once".to_owned()]),
        ("{body}{id}", vec!["signed: {id} needs id_header".to_owned()]),
        ("{body}{url}", vec!["signed: {url} needs url, the public address of this source".to_owned()]),
        ("{body}{secret}", vec!["signed: {secret} is for the algorithm sha256 alone".to_owned()]),
        ("{body}{bdy}", vec![format!("signed: {{bdy}} {unknown}")]),
        ("{body", vec!["signed: a brace has no counterpart".to_owned()]),
    ] {
        assert_eq!(problems(with_signed(signed)), expected, "{signed}");
    }
    let plain = SignatureScheme { algorithm: Algorithm::Sha256, ..scheme() };
    assert_eq!(problems(plain), ["signed: {secret} must be there, because the algorithm sha256 has no key"]);
    let id = SignatureScheme { id_header: Some(HeaderName::from_static("x-id")), ..scheme() };
    assert_eq!(problems(id), ["id_header: has no effect without {id} in signed"]);
}

#[test]
fn a_time_that_is_checked_is_signed_and_comes_from_one_place() {
    let unsigned = "timestamp: is checked, so {timestamp} must be in signed";
    assert_eq!(problems(SignatureScheme { timestamp: time(Some("x-time")), ..scheme() }), [unsigned]);
    let nowhere = SignatureScheme { timestamp: time(None), ..with_signed("{timestamp}{body}") };
    assert_eq!(
        problems(nowhere),
        [
            "signed: {timestamp} needs {timestamp} in format, or the header of timestamp",
            "timestamp: needs its header, or {timestamp} in format",
        ]
    );
    let in_format = "t={timestamp},v1={signature}".to_owned();
    let twice = SignatureScheme {
        format: in_format.clone(),
        timestamp: time(Some("x-time")),
        ..with_signed("{timestamp}{body}")
    };
    assert_eq!(problems(twice), ["timestamp: needs only one of its header and {timestamp} in format"]);
    let short = Some(TimestampScheme { tolerance: Duration::from_millis(999), ..time(None).unwrap() });
    let short = SignatureScheme { format: in_format.clone(), timestamp: short, ..with_signed("{timestamp}{body}") };
    assert_eq!(problems(short), ["timestamp: the tolerance must be at least 1s"]);
    // A time of another form may be signed without a check.
    assert_eq!(problems(SignatureScheme { format: in_format, ..with_signed("{timestamp}{body}") }), [""; 0]);
}

#[test]
fn an_address_is_one_that_is_signed() {
    let signs = Scheme::Signature(Box::new(with_signed("{url}{body}")));
    let wrong = "url: must be the address that is registered with the sender, such as https://host/path";
    for url in [
        "relay.example",
        "/sources/a",
        "https://",
        "ftp://relay.example/",
        "https://relay.example/a#b",
        "https://relay.example/a b",
        "",
    ] {
        assert_eq!(problems_of(&signs, &[SECRET], Some(url)), [wrong], "{url}");
    }
    for url in ["https://relay.example/sources/a", "http://relay.example:8080/sources/a?b=c@d"] {
        assert_eq!(problems_of(&signs, &[SECRET], Some(url)), [""; 0], "{url}");
    }
    let useless = ["url: has no effect, because it is not signed"];
    for scheme in [Scheme::Signature(Box::new(scheme())), Scheme::Bearer] {
        assert_eq!(problems_of(&scheme, &[SECRET], Some("https://relay.example/")), useless);
    }
}

#[test]
fn each_wrong_secret_is_named_by_its_number() {
    let webhooks = preset("svix").unwrap().scheme();
    for (scheme, wrong, problem) in [
        (&webhooks, "Y2FuYXJ5", "does not begin with secret_prefix"),
        (&webhooks, "whsec_canary!", "is not base64 behind secret_prefix"),
        (&webhooks, "whsec_", "is empty"),
        (&Scheme::Bearer, "canary of two words", "must be visible ASCII characters"),
        (&Scheme::Basic, "canary", "must be user:password"),
        (
            &Scheme::Token { header: HeaderName::from_static("x-token") },
            "canary ",
            "must not begin or end with a space, which no header does",
        ),
        (
            &Scheme::Signature(Box::new(scheme())),
            "canary\n",
            "must not hold control characters, such as a newline, or a byte order mark",
        ),
        (&Scheme::Signature(Box::new(scheme())), "", "is empty"),
    ] {
        let right = match scheme {
            Scheme::Signature(scheme) if scheme.secret_is == SecretForm::Base64 => "whsec_Y2FuYXJ5",
            Scheme::Basic => "user:canary",
            _ => "canary",
        };
        assert_eq!(problems_of(scheme, &[right, wrong], None), [format!("secrets: number 2 of 2 {problem}")]);
    }
    for (scheme, secrets, problem) in [
        (Scheme::Bearer, vec![], "secrets: 1 to 16 are needed"),
        (Scheme::Bearer, vec!["canary"; 17], "secrets: 1 to 16 are needed"),
        (Scheme::None, vec!["canary"], "secrets: have no effect"),
    ] {
        assert_eq!(problems_of(&scheme, &secrets, None), [problem]);
    }
    assert!(compiled(&Scheme::None, &[], None).ok().unwrap().is_none());
}

#[test]
fn all_problems_are_said_at_once() {
    let scheme = SignatureScheme {
        format: "{sig}".to_owned(),
        signed: "{bdy}".to_owned(),
        timestamp: time(None),
        id_header: Some(HeaderName::from_static("x-id")),
        ..scheme()
    };
    let problems = problems_of(&Scheme::Signature(Box::new(scheme)), &["canary\n"], Some("canary"));
    let keys: Vec<_> = problems.iter().map(|problem| problem.split(':').next().unwrap()).collect();
    assert_eq!(keys, ["secrets", "url", "format", "format", "signed", "signed", "timestamp", "timestamp", "id_header"]);
}

#[test]
fn a_secret_is_known_in_every_form_and_warned_about_when_it_is_weak() {
    let webhooks = preset("svix").unwrap().scheme();
    let verifier = compiled(&webhooks, &["whsec_Y2FuYXJ5"], None).ok().unwrap();
    for form in ["whsec_Y2FuYXJ5", "Y2FuYXJ5", "canary"] {
        assert!(verifier.holds(form), "{form}");
    }
    assert_eq!(verifier.warnings(), ["secrets: number 1 of 1 is shorter than 24 bytes"]);
    let verifier = compiled(&Scheme::Basic, &["user:canary-of-the-sender", "user:changeme"], None).ok().unwrap();
    assert!(verifier.holds("canary-of-the-sender") && verifier.holds("user:changeme") && !verifier.holds("user"));
    let warnings = verifier.warnings().join("\n");
    assert!(warnings.contains("number 2 of 2 is a placeholder") && warnings.contains("shorter than 16"), "{warnings}");
    let quoted = SignatureScheme { encoding: Encoding::Base64, ..scheme() };
    let verifier = compiled(&Scheme::Signature(Box::new(quoted)), &["'canary-of-the-sender'"], None).ok().unwrap();
    assert!(verifier.warnings()[0].starts_with("secrets: number 1 of 1 is in quotes"), "{:?}", verifier.warnings());
}
