//! Settings of authentication: which stop the start, what is said then, and the commands beside `serve`.

use serde_json::Value;

use super::{BODY, SCHEMES, borrowed, credentials, refused, secret};
use crate::harness::{Answer, App, Process, Relay, Segment, WRITE_KEY, client};

/// In every secret below.
const SECRET: &str = "s3cret";

/// Base64 of `s3cret-of-the-sender-or-so`.
const KEY: &str = "czNjcmV0LW9mLXRoZS1zZW5kZXItb3Itc28=";

const AUTH: &str = "RELAY_AUTH";
const SECRETS: &str = "RELAY_AUTH_SECRETS";
const HEADER: &str = "RELAY_AUTH_HMAC_HEADER";
const ENCODING: &str = "RELAY_AUTH_HMAC_ENCODING";

/// Runs this command to its end, which must be that of one wrong setting: exit code 2 and a line that begins with a
/// name of `named`. The line.
async fn stops(arguments: &[&str], settings: &[(&str, &str)], named: &[&str]) -> String {
    let all = [&[("SEGMENT_WRITE_KEY", WRITE_KEY), ("RELAY_LISTEN", "127.0.0.1:0")], settings].concat();
    let mut process = Process::start(arguments, &all);
    let (code, stderr) = (process.exit_code().await, process.stderr());
    assert_eq!((code, stderr.len()), (Some(2), 1), "{settings:?}: {stderr:?}");
    let names_it = named.iter().any(|name| stderr[0].starts_with(&format!("{name}: ")));
    assert!(names_it, "{settings:?} names none of {named:?}: {stderr:?}");
    for line in process.stdout().iter().chain(&stderr) {
        assert!(!line.contains(SECRET) && !line.contains("czNj"), "{settings:?} is shown: {line}");
    }
    stderr[0].clone()
}

#[tokio::test]
async fn a_scheme_without_secrets_or_with_an_empty_one_stops_the_start() {
    for scheme in SCHEMES {
        stops(&["serve"], &[(AUTH, scheme)], &[SECRETS]).await;
        let good = secret(scheme, "a");
        let lists = ["", " ", &format!("{good},"), &format!(",{good}"), &format!("{good}, ,{good}")];
        for list in lists {
            stops(&["serve"], &[(AUTH, scheme), (SECRETS, list)], &[SECRETS]).await;
        }
    }
}

#[tokio::test]
async fn secrets_without_a_scheme_stop_the_start() {
    stops(&["serve"], &[(SECRETS, "s3cret")], &[SECRETS, AUTH]).await;
    stops(&["serve"], &[(AUTH, "none"), (SECRETS, "s3cret")], &[SECRETS, AUTH]).await;
    stops(&["serve"], &[(AUTH, "handshake")], &[AUTH]).await;
    // It is the secret that somebody put into the wrong variable.
    stops(&["serve"], &[(AUTH, "whsec_czNjcmV0")], &[AUTH]).await;
}

#[tokio::test]
async fn a_secret_that_cannot_be_one_of_its_scheme_stops_the_start() {
    let webhooks = [
        "s3cret",
        KEY,
        "whsec_",
        "whsec_=",
        "whsec_s3cret!",
        "whsec_czNjc",
        "whsec_czNj cmV0",
        "whsec_czNj-_-_",
        "whsec_czNjcmV0====",
        "whsec_czNj=cmV0",
        "whsec_whsec_czNjcmV0!",
        "whpk_czNjcmV0",
        &format!("whsec_{KEY},{KEY}"),
        &format!("{KEY},whsec_{KEY}"),
    ];
    let bearer = ["two s3cret", "s3cret\ttab", "s3crét", "s3cret\u{7f}", "good,two s3cret", "s3cret\u{a0}"];
    let basic = ["s3cret", ":s3cret", "s3cret:", ":", "s3cret:ok,s3cret"];
    for (scheme, wrong) in [("standard-webhooks", &webhooks[..]), ("bearer", &bearer[..]), ("basic", &basic[..])] {
        for secrets in wrong {
            stops(&["serve"], &[(AUTH, scheme), (SECRETS, secrets)], &[SECRETS]).await;
        }
    }
}

#[tokio::test]
async fn what_is_for_hmac_alone_stops_the_start_with_any_other_scheme() {
    for scheme in ["none", "standard-webhooks", "bearer", "basic"] {
        for (name, value) in [(HEADER, "X-Signature-256"), (ENCODING, "hex")] {
            let mut settings = vec![(AUTH, scheme), (name, value)];
            let secret = secret(scheme, "a");
            if scheme != "none" {
                settings.push((SECRETS, &secret));
            }
            stops(&["serve"], &settings, &[name]).await;
        }
    }
    stops(&["serve"], &[(HEADER, "X-Signature-256")], &[HEADER]).await;
}

#[tokio::test]
async fn a_header_that_can_be_none_and_an_unknown_encoding_stop_the_start() {
    let hmac = [(AUTH, "hmac"), (SECRETS, "s3cret")];
    for header in ["X Signature", "X-Signature:", "X-Sïgnature", "X-Signature,X-Other", "\"X\"", " "] {
        stops(&["serve"], &[&hmac[..], &[(HEADER, header)]].concat(), &[HEADER]).await;
    }
    // A signature there would be taken for something else, or never arrive.
    for header in ["Content-Length", "host", "Transfer-Encoding", "Connection", "Content-Type", "X-Request-Id"] {
        stops(&["serve"], &[&hmac[..], &[(HEADER, header)]].concat(), &[HEADER]).await;
    }
    for encoding in ["base32", "hex,base64", "utf-8"] {
        stops(&["serve"], &[&hmac[..], &[(ENCODING, encoding)]].concat(), &[ENCODING]).await;
    }
}

#[tokio::test]
async fn every_problem_has_its_line() {
    let settings = [
        ("SEGMENT_WRITE_KEY", WRITE_KEY),
        (AUTH, "bearer"),
        (SECRETS, "two s3cret"),
        (HEADER, "X-Signature-256"),
        (ENCODING, "hex"),
        ("RELAY_MAX_IN_FLIGHT", "0"),
    ];
    let mut process = Process::start(&["serve"], &settings);
    let (code, stderr) = (process.exit_code().await, process.stderr());
    assert_eq!((code, stderr.len()), (Some(2), 4), "{stderr:?}");
    for name in [SECRETS, HEADER, ENCODING, "RELAY_MAX_IN_FLIGHT"] {
        assert!(stderr.iter().any(|line| line.starts_with(&format!("{name}: "))), "{name}: {stderr:?}");
    }
    assert!(stderr.iter().all(|line| !line.contains(SECRET)), "{stderr:?}");
}

#[tokio::test]
async fn a_misspelt_setting_is_named_and_its_secret_is_not_shown() {
    let line = stops(&["serve"], &[("RELAY_AUTH_SECRET", "s3cret")], &["RELAY_AUTH_SECRET"]).await;
    assert!(line.contains(SECRETS), "{line}");
}

#[tokio::test]
async fn an_empty_setting_counts_as_not_set() {
    let app = App::with(&[(AUTH, "hmac"), (SECRETS, "s3cret"), (HEADER, ""), (ENCODING, "")]).await;
    let signed = credentials("hmac", "s3cret", "", BODY);
    assert!(app.post_with(&borrowed(&signed), BODY).await.is_accepted());
    let app = App::with(&[(AUTH, ""), (SECRETS, ""), (HEADER, ""), (ENCODING, "")]).await;
    assert!(app.post_with(&[], BODY).await.is_accepted());
}

#[tokio::test]
async fn a_relay_that_lets_everybody_in_says_so_at_the_start_and_a_guarded_one_does_not() {
    let warns = |relay: &Relay| {
        let is_it = |line: &Value| {
            line["level"] == "WARN" && line["message"].as_str().unwrap_or_default().contains("RELAY_AUTH is none")
        };
        relay.log().iter().filter(|line| is_it(line)).count()
    };
    assert_eq!(warns(App::start().await.relay()), 1);
    assert_eq!(warns(App::with(&[(AUTH, "none")]).await.relay()), 1);
    for scheme in SCHEMES {
        assert_eq!(warns(super::guarded(scheme, &secret(scheme, "a")).await.relay()), 0, "{scheme}");
    }
}

#[tokio::test]
async fn check_reports_what_serve_would_and_dev_does_not_start_with_it_either() {
    let segment = Segment::start().await;
    let endpoint = ("SEGMENT_ENDPOINT", segment.url());
    let data = tempfile::tempdir().unwrap();
    let dev = ["dev", "--sandbox-listen", "127.0.0.1:0", "--data", data.path().to_str().unwrap()];
    for (scheme, secrets) in
        [("standard-webhooks", "s3cret"), ("hmac", "s3cret,"), ("bearer", "two s3cret"), ("basic", "s3cret")]
    {
        let wrong = [(AUTH, scheme), (SECRETS, secrets)];
        stops(&["check"], &[&[endpoint], &wrong[..]].concat(), &[SECRETS]).await;
        stops(&dev, &wrong, &[SECRETS]).await;
    }
    for scheme in SCHEMES {
        let secret = secret(scheme, "a");
        let mut check = Process::start(
            &["check"],
            &[
                ("SEGMENT_WRITE_KEY", WRITE_KEY),
                ("RELAY_LISTEN", "127.0.0.1:0"),
                endpoint,
                (AUTH, scheme),
                (SECRETS, &secret),
            ],
        );
        assert_eq!(check.exit_code().await, Some(0), "{scheme}: {:?} {:?}", check.stdout(), check.stderr());
        assert!(check.stdout().iter().chain(&check.stderr()).all(|line| !line.contains(&secret)));
    }
}

#[tokio::test]
async fn dev_is_guarded_as_serve_is() {
    for scheme in SCHEMES {
        let (data, secret) = (tempfile::tempdir().unwrap(), secret(scheme, "a"));
        let arguments = ["dev", "--sandbox-listen", "127.0.0.1:0", "--data", data.path().to_str().unwrap()];
        let settings = [("RELAY_LISTEN", "127.0.0.1:0"), (AUTH, scheme), (SECRETS, &secret)];
        let mut dev = Process::start(&arguments, &settings);
        let word = |line: &str| {
            let mut words = line.split_whitespace();
            words.find(|word| word.starts_with("http://") && word.ends_with("/customers")).map(str::to_owned)
        };
        let url = dev.line(word).await;
        let post = async |headers: &[(String, String)]| {
            let mut request = client().post(&url).header("content-type", "application/json").body(BODY);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            Answer::of(request.send().await.expect("an answer")).await.expect("a whole answer")
        };
        refused(&post(&[]).await);
        let answer = post(&credentials(scheme, &secret, "msg_1", BODY)).await;
        assert!(answer.is_stored(), "{scheme}: {answer:?}");
        assert!(dev.stdout().iter().chain(&dev.stderr()).all(|line| !line.contains(&secret)), "{scheme}");
    }
}
