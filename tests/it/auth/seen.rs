//! What an operator sees of those who were refused, and that nobody sees a secret.

use serde_json::Value;

use super::{BODY, SCHEMES, borrowed, credentials, guarded, refused, secret};
use crate::harness::{App, eventually};

const UNAUTHORIZED: &str = r#"segment_relay_requests_total{code="unauthorized",result="refused"}"#;

fn lines_of(log: &[Value], request_id: &str) -> Vec<Value> {
    log.iter().filter(|line| line["request_id"] == request_id).cloned().collect()
}

#[tokio::test]
async fn the_refused_are_counted_and_nobody_else_is() {
    for scheme in SCHEMES {
        let app = guarded(scheme, &secret(scheme, "a")).await;
        assert_eq!(app.relay().metric(UNAUTHORIZED).await, 0.0);
        refused(&app.post_with(&[], BODY).await);
        let wrong = credentials(scheme, &secret(scheme, "wrong"), "msg_1", BODY);
        refused(&app.post_with(&borrowed(&wrong), BODY).await);
        assert_eq!(app.relay().metric(UNAUTHORIZED).await, 2.0);
        let right = credentials(scheme, &secret(scheme, "a"), "msg_1", BODY);
        assert!(app.post_with(&borrowed(&right), BODY).await.is_accepted());
        assert_eq!(app.relay().metric(UNAUTHORIZED).await, 2.0);
        assert_eq!(app.relay().metric(r#"segment_relay_requests_total{code="",result="accepted"}"#).await, 1.0);
        assert_eq!(app.relay().metric("segment_relay_requests_in_flight").await, 0.0);
    }
}

#[tokio::test]
async fn a_refusal_has_one_line_at_info_with_its_code_and_request_id() {
    for scheme in SCHEMES {
        let app = guarded(scheme, &secret(scheme, "a")).await;
        let wrong = credentials(scheme, &secret(scheme, "wrong"), "msg_1", BODY);
        let answer = app.post_with(&[&borrowed(&wrong)[..], &[("x-request-id", "of-a-stranger")]].concat(), BODY).await;
        refused(&answer);
        assert_eq!(answer.header("x-request-id"), Some("of-a-stranger"));
        eventually(async || !lines_of(&app.relay().log(), "of-a-stranger").is_empty()).await;
        let lines = lines_of(&app.relay().log(), "of-a-stranger");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!((&lines[0]["level"], &lines[0]["code"]), (&"INFO".into(), &"unauthorized".into()));
        // As its sender heard it, which names headers alone.
        assert_eq!(lines[0]["reason"], answer.message());
    }
}

#[tokio::test]
async fn no_secret_credential_or_signature_is_ever_written() {
    for scheme in SCHEMES {
        let settings = [
            ("RELAY_AUTH", scheme),
            ("RELAY_AUTH_SECRETS", &*[secret(scheme, "a"), secret(scheme, "b")].join(",")),
            ("RELAY_LOG", "trace"),
            ("RELAY_SHUTDOWN_DELAY", "0s"),
        ];
        let mut app = App::with(&settings).await;
        let mut secrets = vec!["s3cret".to_owned(), "czNj".to_owned()];
        let mut told = Vec::new();
        for seed in ["a", "b", "wrong"] {
            for body in [BODY, "{", "{}"] {
                let headers = credentials(scheme, &secret(scheme, seed), "msg-of-the-sender", body);
                told.push(app.post_with(&borrowed(&headers), body).await);
                // What was sent twice is refused with a message of its own.
                told.push(app.post_with(&borrowed(&[&headers[..], &headers[..]].concat()), body).await);
                let values = headers.into_iter().map(|(_, value)| value).filter(|value| value.len() > 10);
                secrets.extend(values.filter(|value| value.parse::<u64>().is_err()));
            }
        }
        let printed = format!("{told:?} {:?}", app.get("/metrics").await);
        app.relay().process().signal("TERM");
        app.relay_mut().process_mut().exit_code().await;
        let process = app.relay().process();
        for line in process.stdout().iter().chain(&process.stderr()).map(String::as_str).chain([&*printed]) {
            for secret in &secrets {
                // A token may come after its scheme, and a signature after its version.
                let bare = secret.rsplit([' ', ',']).next().unwrap();
                assert!(!line.contains(bare), "{scheme}: {bare} is in {line}");
            }
        }
    }
}
