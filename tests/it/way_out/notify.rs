//! `RELAY_NOTIFY_URL` and `RELAY_NOTIFY_SECRETS`: what cannot work stops the start, and what may be a secret is not shown.

use super::{run, stops};
use crate::harness::Segment;
use crate::harness::sign::webhook_secret;

const URL: &str = "RELAY_NOTIFY_URL";
const SECRETS: &str = "RELAY_NOTIFY_SECRETS";

#[tokio::test]
async fn a_url_or_a_secret_that_cannot_work_stops_the_start_and_is_not_shown() {
    let secret = webhook_secret(b"s3cret-of-24-bytes-or-so");
    for url in [
        "hooks.example.com/s3cret",
        "ftp://hooks.example.com/s3cret",
        "https:///s3cret",
        "https://",
        "https://?s3cret",
        "https://relay:s3cret@hooks.example.com/",
        "https://hooks.example.com:0/s3cret",
        "https://-/s3cret",
        "https://hooks.example.com/s3cret path",
        "\"https://hooks.example.com/s3cret\"",
        "https://hooks.example.com/#s3cret",
        "https://a.example.com/s3cret,https://b.example.com/s3cret",
    ] {
        stops(&[(URL, url), (SECRETS, &secret)], URL, &["s3cret", "example.com"]).await;
    }
    let url = "https://hooks.example.com/s3cret";
    for secrets in ["s3cret", "whsec_", "whsec_s3cret!", "${SECRET}", &format!("v1,{secret}"), &format!("{secret},")] {
        stops(&[(URL, url), (SECRETS, secrets)], SECRETS, &["s3cret", &secret]).await;
    }
}

#[tokio::test]
async fn one_of_the_two_settings_without_the_other_stops_the_start() {
    let secret = webhook_secret(b"s3cret-of-24-bytes-or-so");
    let line = stops(&[(URL, "https://hooks.example.com/s3cret")], SECRETS, &["s3cret"]).await;
    assert!(line.contains(URL), "{line}");
    let line = stops(&[(SECRETS, &secret)], URL, &[&secret]).await;
    assert!(line.contains(SECRETS), "{line}");
}

#[tokio::test]
async fn a_weak_secret_and_a_senders_secret_are_warned_about_and_not_shown() {
    let segment = Segment::start().await;
    let (weak, sound) = (webhook_secret(b"s3cret-of-23-bytes-or-s"), webhook_secret(b"s3cret-of-24-bytes-or-so"));
    for (secrets, auth, word) in
        [(&weak, &sound, Some("shorter")), (&sound, &sound, Some("RELAY_AUTH_SECRETS")), (&sound, &weak, None)]
    {
        let settings = [
            ("SEGMENT_ENDPOINT", segment.url()),
            (URL, "https://hooks.example.com/s3cret?token=s3cret"),
            (SECRETS, secrets),
            ("RELAY_AUTH", "standard-webhooks"),
            ("RELAY_AUTH_SECRETS", auth),
        ];
        let (code, printed) = run("check", &settings).await;
        assert_eq!(code, Some(0), "{printed:?}");
        let told: Vec<_> = printed.iter().filter(|line| line.contains(SECRETS)).collect();
        assert!(told.len() == usize::from(word.is_some()), "{printed:?}");
        assert!(told.iter().all(|line| word.is_some_and(|word| line.contains(word))), "{printed:?}");
        let printed = printed.concat();
        assert!(!printed.contains("s3cret") && !printed.contains(&**secrets), "{printed}");
    }
}
