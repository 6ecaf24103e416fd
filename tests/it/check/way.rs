//! The rows of the way to Segment: the step that fails is told with its reason, and those behind it are skipped.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::tls::{AUTHORITY, CERTIFICATE, OLD, server, tunnel};
use super::{Report, table};
use crate::harness::{Peer, Reply, Segment, answer};

const WAY: [&str; 7] = ["dns", "tcp", "proxy", "tls", "certificate", "http", "clock"];
const TRUST: [(&str, &str); 2] = [("SSL_CERT_FILE", AUTHORITY), ("SSL_CERT_DIR", "")];

/// A time limit for what never answers. On a busy machine what does answer must be faster.
const SOON: (&str, &str) = ("SEGMENT_TIMEOUT", "500ms");

/// A name that nobody has.
const UNKNOWN: &str = "http://segment.invalid";

fn named(report: &Report, name: &str, word: &str) {
    let (result, found) = report.row(name);
    assert!(result == "failed" && found.contains(word), "{word}: {report:#?}");
    assert_eq!(report.code, Some(1));
}

#[tokio::test]
async fn an_unknown_name_and_a_closed_port_fail_at_their_own_step() {
    let report = Report::of(&[("SEGMENT_ENDPOINT", UNKNOWN)]).await;
    named(&report, "dns", "segment.invalid:80");
    assert_eq!(report.results(WAY)[1..], ["skipped"; 6]);
    // Bound and not listening: whoever connects is refused.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = closed.local_addr().unwrap();
    let report = Report::of(&[("SEGMENT_ENDPOINT", &format!("https://{closed}"))]).await;
    named(&report, "tcp", "refused");
    assert_eq!(report.results(WAY), ["ok", "failed", "skipped", "skipped", "skipped", "skipped", "skipped"]);
    let proxy = format!("http://relay:s3cret@{closed}");
    for (endpoint, name) in [(UNKNOWN, "HTTP_PROXY"), ("https://segment.invalid", "HTTPS_PROXY")] {
        let report = Report::of(&[("SEGMENT_ENDPOINT", endpoint), (name, &proxy)]).await;
        named(&report, "tcp", "refused");
        assert_eq!(report.row("proxy"), ("skipped", "tcp failed"));
        assert!(!format!("{report:?}").contains("s3cret"));
    }
}

#[tokio::test]
async fn a_proxy_that_makes_no_tunnel_fails_with_its_status() {
    for status in [407, 403, 502] {
        let line = format!("{status} Whatever");
        let proxy = Peer::start(move |_| answer(&line, &[], ""));
        let settings = [("SEGMENT_ENDPOINT", "https://segment.invalid"), ("HTTPS_PROXY", proxy.address())];
        let report = Report::of(&settings).await;
        named(&report, "proxy", &status.to_string());
        assert_eq!(report.results(WAY), ["ok", "ok", "failed", "skipped", "skipped", "skipped", "skipped"]);
        assert!(proxy.heads().iter().all(|head| head.starts_with("CONNECT segment.invalid:443 ")));
    }
    let silent = Peer::replying(|_, _| Reply::Hang);
    let settings = [("SEGMENT_ENDPOINT", "https://segment.invalid"), ("HTTPS_PROXY", silent.address()), SOON];
    named(&Report::of(&settings).await, "proxy", "timed out");
}

#[tokio::test]
async fn the_version_of_tls_and_the_certificate_are_told() {
    let endpoint = format!("https://localhost:{}", server(CERTIFICATE));
    let report = Report::of(&[&TRUST[..], &[("SEGMENT_ENDPOINT", &endpoint)]].concat()).await;
    assert_eq!(report.code, Some(0), "{report:#?}");
    assert_eq!(report.row("tls"), ("ok", "TLS 1.3"));
    let (result, found) = report.row("certificate");
    let told = "for localhost, *.segment.invalid, 127.0.0.1, valid until 2119-12-31 (";
    assert!(result == "ok" && found.starts_with(told), "{found}");
}

#[tokio::test]
async fn a_tunnel_through_a_proxy_is_told_without_the_certificate() {
    let server = server(CERTIFICATE);
    let (endpoint, proxy) = (format!("https://localhost:{server}"), tunnel(server));
    let proxy = format!("http://relay:s3cret@127.0.0.1:{proxy}");
    let settings = [&TRUST[..], &[("SEGMENT_ENDPOINT", &endpoint), ("HTTPS_PROXY", &proxy)]].concat();
    let report = Report::of(&settings).await;
    assert_eq!(report.code, Some(0), "{report:#?}");
    assert_eq!(report.results(WAY), ["ok", "ok", "ok", "ok", "skipped", "ok", "skipped"]);
    assert_eq!(report.row("certificate").1, "it is not shown through a proxy");
    assert!(report.row("proxy").1.contains("tunnel") && !format!("{report:?}").contains("s3cret"), "{report:#?}");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_or_ended_or_of_another_name_fails_with_the_reason() {
    let sound = server(CERTIFICATE);
    let (here, other) = (format!("https://localhost:{sound}"), format!("https://127.0.0.2:{sound}"));
    let old = format!("https://localhost:{}", server(OLD));
    let http = Segment::start().await;
    let no_tls = http.url().replace("http://", "https://");
    for (endpoint, trust, word) in
        [(&here, &[][..], "UnknownIssuer"), (&old, &TRUST[..], "expired"), (&no_tls, &TRUST[..], "TLS failed")]
    {
        let report = Report::of(&[trust, &[("SEGMENT_ENDPOINT", endpoint)]].concat()).await;
        named(&report, "tls", word);
        assert_eq!(report.results(["certificate", "http", "clock"]), ["skipped"; 3]);
    }
    named(&Report::of(&[&TRUST[..], &[("SEGMENT_ENDPOINT", &other)]].concat()).await, "tcp", "refused");
}

#[tokio::test]
async fn one_who_connects_and_never_answers_fails_at_the_step_that_hangs() {
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf = deaf.local_addr().unwrap();
    for (scheme, step) in [("http", "http"), ("https", "tls")] {
        let report = Report::of(&[("SEGMENT_ENDPOINT", &format!("{scheme}://{deaf}")), SOON]).await;
        named(&report, step, "timed out");
        assert_eq!(report.result("tcp"), "ok");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_acceptance_fails_with_its_status() {
    let segment = Segment::start().await;
    for status in [401, 404, 503] {
        segment.fail(json!({"status": status})).await;
        named(&Report::of(&[("SEGMENT_ENDPOINT", segment.url())]).await, "http", &status.to_string());
    }
    segment.fail(json!({"status": 429})).await;
    let report = Report::of(&[("SEGMENT_ENDPOINT", segment.url())]).await;
    assert_eq!((report.code, report.result("http")), (Some(0), "warning"), "{report:#?}");
    let page = Peer::start(|_| answer("200 OK", &["content-type: text/html"], "<html>sign in</html>"));
    named(&Report::of(&[("SEGMENT_ENDPOINT", &page.url())]).await, "http", "not Segment's");
}

#[tokio::test]
async fn a_clock_that_differs_is_a_warning_and_beyond_the_tolerance_a_failure() {
    let peer = |seconds: i64| {
        Peer::start(move |_| {
            let now = SystemTime::now();
            let size = Duration::from_secs(seconds.unsigned_abs());
            let date = httpdate::fmt_http_date(if seconds < 0 { now - size } else { now + size });
            answer("200 OK", &[&format!("date: {date}")], r#"{"success":true}"#)
        })
    };
    for (seconds, code, result, side) in [
        (0, 0, "ok", "agrees"),
        (-60, 0, "warning", "ahead of"),
        (60, 0, "warning", "behind"),
        (-400, 1, "failed", "ahead of"),
        (400, 1, "failed", "behind"),
    ] {
        let segment = peer(seconds);
        let report = Report::of(&[("SEGMENT_ENDPOINT", &segment.url())]).await;
        let (told, found) = report.row("clock");
        assert_eq!((report.code, told), (Some(code), result), "{seconds}: {report:#?}");
        assert!(found.contains(side) && found.contains("300 s"), "{found}");
    }
    let silent = Peer::start(|_| answer("200 OK", &[], r#"{"success":true}"#));
    assert_eq!(Report::of(&[("SEGMENT_ENDPOINT", &silent.url())]).await.result("clock"), "skipped");
}

#[tokio::test]
async fn without_a_write_key_the_way_is_checked_and_nothing_is_posted() {
    let segment = Peer::start(|_| answer("404 Not Found", &["date: Thu, 01 Jan 1970 00:00:00 GMT"], ""));
    let settings = [("SEGMENT_ENDPOINT", &*segment.url()), ("SEGMENT_WRITE_KEY", "")];
    let report = Report::of(&settings).await;
    assert_eq!(report.code, Some(2));
    assert_eq!(report.results(["dns", "tcp", "http", "clock"]), ["ok", "ok", "skipped", "failed"]);
    assert_eq!(table(&settings).await.0, Some(2));
    let heads = segment.heads();
    assert!(heads.len() == 2 && heads.iter().all(|head| head.starts_with("GET ")), "{heads:?}");
}
