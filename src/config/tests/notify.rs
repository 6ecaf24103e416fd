//! Tests of RELAY_NOTIFY_URL and RELAY_NOTIFY_SECRETS.

use super::read::{KEY, settings};

const URL: (&str, &str) = ("RELAY_NOTIFY_URL", "https://hooks.example.com/s3cret-path?token=s3cret-query");
const SECRETS: (&str, &str) =
    ("RELAY_NOTIFY_SECRETS", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, whsec_b3RoZXIta2V5LW9mLW5vdGlmaWNhdGlvbnM=");

#[test]
fn the_url_keeps_its_path_and_its_query_and_neither_they_nor_the_secrets_are_shown() {
    assert!(settings(&[KEY]).unwrap().notify.is_none());
    let settings = settings(&[KEY, URL, SECRETS]).unwrap();
    let notify = settings.notify.as_ref().unwrap();
    assert_eq!((notify.url.as_str(), notify.secrets.secrets.len()), (URL.1, 2));
    assert_eq!(notify.secrets.secrets[1], b"other-key-of-notifications");
    let shown = format!("{settings:?} {settings:#?}");
    assert!(shown.contains("hooks.example.com") && !shown.contains("s3cret") && !shown.contains("whsec"), "{shown}");
    assert!(!shown.contains("other-key"), "{shown}");
}

#[test]
fn each_url_has_the_proxy_of_its_own_scheme_and_its_own_exceptions() {
    let proxies =
        [("HTTPS_PROXY", "https.proxy:1"), ("HTTP_PROXY", "http.proxy:2"), ("NO_PROXY", "segment.example.com")];
    for (endpoint, url, expected) in [
        (
            "https://api.example.com",
            "https://hooks.example.com",
            ("http://https.proxy:1", Some("http://https.proxy:1")),
        ),
        ("https://api.example.com", "http://hooks.example.com", ("http://https.proxy:1", Some("http://http.proxy:2"))),
        ("http://api.example.com", "http://hooks.segment.example.com", ("http://http.proxy:2", None)),
    ] {
        let own = [KEY, ("SEGMENT_ENDPOINT", endpoint), ("RELAY_NOTIFY_URL", url), SECRETS];
        let settings = settings(&[&own[..], &proxies].concat()).unwrap();
        let notify = settings.notify.unwrap().proxy.map(|proxy| proxy.to_string());
        assert_eq!((&*settings.segment.proxy.unwrap().to_string(), notify.as_deref()), expected, "{endpoint} {url}");
    }
}

#[test]
fn certificate_authorities_are_read_for_a_url_of_https_too() {
    let plain = ("SEGMENT_ENDPOINT", "http://api.example.com");
    let missing = ("SSL_CERT_FILE", "/proc/no/such/file");
    assert!(settings(&[KEY, plain, missing]).is_ok());
    let problems = settings(&[KEY, plain, missing, URL, SECRETS]).unwrap_err();
    assert!(problems.len() == 1 && problems[0].starts_with("SSL_CERT_FILE: cannot be read"), "{problems:?}");
}
