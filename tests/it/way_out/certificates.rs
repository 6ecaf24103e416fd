//! `SSL_CERT_FILE` and `SSL_CERT_DIR`: wrong ones stop the start, if certificates are needed.

use std::fs;

use super::{run, stops};
use crate::harness::{App, Segment};

#[tokio::test]
async fn certificates_that_cannot_be_read_stop_the_start_of_what_needs_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let files = [
        ("empty", ""),
        ("no-certificate", "hello\n"),
        ("broken", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
        ("not-one", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"),
    ];
    for (name, text) in files {
        fs::create_dir(path(name)).unwrap();
        fs::write(directory.path().join(name).join("file.pem"), text).unwrap();
    }
    fs::create_dir(path("nothing")).unwrap();
    let mut wrong = vec![
        ("SSL_CERT_FILE", String::new()),
        ("SSL_CERT_FILE", path("missing")),
        ("SSL_CERT_FILE", path("nothing")),
        ("SSL_CERT_DIR", path("missing")),
        ("SSL_CERT_DIR", path("nothing")),
        ("SSL_CERT_DIR", path("empty/file.pem")),
        ("SSL_CERT_DIR", format!("{}:{}", path("nothing"), path("missing"))),
    ];
    for (name, _) in files {
        wrong.push(("SSL_CERT_FILE", path(&format!("{name}/file.pem"))));
        wrong.push(("SSL_CERT_DIR", path(name)));
    }
    let segment = Segment::start().await;
    for (name, value) in &wrong {
        stops(&[("SEGMENT_ENDPOINT", "https://127.0.0.1:1"), (name, value)], name, &[]).await;
        // Without TLS no certificate is needed.
        let (code, printed) = run("check", &[("SEGMENT_ENDPOINT", segment.url()), (name, value)]).await;
        assert_eq!(code, Some(0), "{name}={value}: {printed:?}");
    }
    stops(
        &[
            ("SEGMENT_ENDPOINT", segment.url()),
            ("HTTP_PROXY", "https://127.0.0.1:1"),
            ("SSL_CERT_FILE", &path("missing")),
        ],
        "SSL_CERT_FILE",
        &[],
    )
    .await;
}

#[tokio::test]
async fn a_health_check_needs_no_certificate() {
    let app = App::with(&[("SSL_CERT_FILE", "/nowhere")]).await;
    let listen = app.relay().address().to_string();
    let (code, printed) = run("healthcheck", &[("RELAY_LISTEN", &listen), ("SSL_CERT_FILE", "/nowhere")]).await;
    assert_eq!(code, Some(0), "{printed:?}");
}
