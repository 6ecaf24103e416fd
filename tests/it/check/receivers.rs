//! The rows of who is notified, and of the receiver of traces.

use super::Report;
use crate::harness::{Segment, SpanReceiver};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";

#[tokio::test]
async fn the_receivers_of_notifications_and_of_traces_are_asked() {
    let (spans, segment) = (SpanReceiver::start().await, Segment::start().await);
    let report = Report::of(&[
        ("SEGMENT_ENDPOINT", segment.url()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", spans.url()),
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("RELAY_NOTIFY_URL", &format!("{}/stats", segment.url())),
        ("RELAY_NOTIFY_SECRETS", SECRET),
    ])
    .await;
    assert_eq!(report.results(["notifications", "traces"]), ["ok", "ok"], "{report:#?}");
    assert_eq!(spans.named("check").len(), 1);
    assert!(!format!("{report:?}").contains("/stats"), "the path may be a secret");
}

#[tokio::test]
async fn a_receiver_that_is_away_is_a_warning_and_one_that_is_not_set_is_skipped() {
    let segment = Segment::start().await;
    let away = [
        ("SEGMENT_ENDPOINT", segment.url()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("RELAY_NOTIFY_URL", "http://127.0.0.1:1/hook"),
        ("RELAY_NOTIFY_SECRETS", SECRET),
    ];
    let report = Report::of(&away).await;
    assert_eq!((report.results(["notifications", "traces"]), report.code), (["warning", "warning"], Some(0)));
    let report = Report::of(&away[..1]).await;
    assert_eq!(report.results(["notifications", "traces"]), ["skipped", "skipped"]);
}
