//! What `/metrics` counts when Segment does not accept a call.

use serde_json::json;

use crate::harness::{App, ada, eventually};

async fn assert_counted(app: &App, series: &[&str]) {
    for series in series {
        assert_eq!(app.relay().metric(&format!("segment_relay_{series}")).await, 1.0, "{series}");
    }
}

#[tokio::test]
async fn a_call_that_was_certainly_not_accepted_counts_as_failed() {
    let app = App::start().await;
    app.segment().fail(json!({"status": 401})).await;
    app.post(&ada()).await.assert_failed(502, "segment_unauthorized");
    let series = [
        r#"requests_total{code="segment_unauthorized",result="failed"}"#,
        r#"segment_attempts_total{result="unauthorized"}"#,
        r#"calls_total{result="failed"}"#,
    ];
    assert_counted(&app, &series).await;
    assert_eq!(app.relay().metric(r#"segment_relay_calls_total{result="unknown"}"#).await, 0.0);
}

#[tokio::test]
async fn a_call_whose_outcome_is_unknown_counts_as_unknown() {
    let app = App::with(&[("SEGMENT_TIMEOUT", "3s"), ("RELAY_REQUEST_TIMEOUT", "60s")]).await;
    app.segment().fail(json!({"hang": true})).await;
    let ada = ada();
    let rate_limit = async {
        eventually(async || app.segment().stats().await["faultedRequests"] == 1).await;
        app.segment().fail(json!({"status": 429, "retryAfter": "300"})).await;
    };
    let (answer, ()) = tokio::join!(app.post(&ada), rate_limit);
    answer.assert_failed(504, "segment_timeout");
    let series = [
        r#"requests_total{code="segment_timeout",result="failed"}"#,
        r#"segment_attempts_total{result="unknown"}"#,
        r#"segment_attempts_total{result="rate_limited"}"#,
        r#"calls_total{result="unknown"}"#,
    ];
    assert_counted(&app, &series).await;
    assert_eq!(app.relay().metric(r#"segment_relay_calls_total{result="failed"}"#).await, 0.0);
}
