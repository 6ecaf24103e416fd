//! Endpoints that cannot work, or are not what they seem to be.

use super::{run, stops};
use crate::harness::{App, Relay, Segment, WRITE_KEY, ada};

const NAME: &str = "SEGMENT_ENDPOINT";

#[tokio::test]
async fn an_endpoint_that_cannot_work_stops_the_start() {
    for endpoint in [
        "https://a,https://b",
        "https://a.example/,https://b.example",
        "https://a.example https://b.example",
        "https://a.example;https://b.example",
        "https://api.segment.io:0",
        "https://-",
        "https://-a.example",
        "https://..",
        "https://.",
        "https://a..example",
        "https://a b",
        "https://a.example/a b",
        "https://api.seg\nment.io",
        "https://api.seg\tment.io",
        "https:/api.segment.io",
        "https:api.segment.io",
        "https:///api.segment.io",
        "https:\\\\api.segment.io",
        "https://api.segment.io\\v1",
        "https://",
        "https://:443",
        "https://@api.segment.io",
        "https://s3cret@api.segment.io",
        "https://api.segment.io?",
        "https://api.segment.io#",
        "https://api.segment.io/?writeKey=s3cret",
        "https://$HOST",
        "https://${HOST}",
        "https://<host>",
        "\"https://api.segment.io\"",
        "'https://api.segment.io'",
        "https://api.segment.io'",
        "ftp://api.segment.io",
        "wss://api.segment.io",
        "api.segment.io",
        "api.segment.io:443",
        "/v1/batch",
        " ",
    ] {
        stops(&[(NAME, endpoint)], NAME, &["s3cret"]).await;
    }
}

#[tokio::test]
async fn a_path_of_the_api_at_the_end_of_the_endpoint_is_left_out() {
    let segment = Segment::start().await;
    let once = ["", "/", "/v1", "/v1/", "/v1/batch", "/v1/batch/", "/v1/identify", "/v1/identify//"];
    let more = ["/v1/v1", "/v1/batch/v1", "/v1//v1/batch/", "/v1/batch/v1/identify", "//v1", "/v1/./v1"];
    for path in once.into_iter().chain(more) {
        let relay = Relay::start(&[(NAME, &format!(" {}{path}\n", segment.url()))]).await;
        assert_eq!(relay.post(&ada()).await.status, 200, "{path}");
    }
    assert_eq!(segment.received().await.len(), 14);
}

#[tokio::test]
async fn an_http_endpoint_that_is_not_this_machine_is_warned_about() {
    let warning = |line: &String| line.contains(NAME) && line.contains("http://") && line.contains("TLS");
    for endpoint in ["http://segment.invalid", "http://sandbox_1.invalid:8090", "http://192.0.2.1:1"] {
        let (code, printed) =
            run("check", &[(NAME, endpoint), ("SEGMENT_TIMEOUT", "50ms"), ("SEGMENT_WRITE_KEY", WRITE_KEY)]).await;
        assert_eq!((code, printed.iter().filter(|line| warning(line)).count()), (Some(1), 1), "{printed:?}");
    }
    let relay = Relay::start(&[(NAME, "http://segment.invalid")]).await;
    let is_logged = |relay: &Relay| {
        relay.log().iter().any(|line| {
            line["level"] == "WARN" && line["message"].as_str().is_some_and(|text| warning(&text.to_owned()))
        })
    };
    crate::harness::eventually(async || is_logged(&relay)).await;
    let here = App::start().await;
    crate::harness::eventually(async || {
        here.relay().log().iter().any(|line| line.to_string().contains("RELAY_AUTH is none"))
    })
    .await;
    assert!(!is_logged(here.relay()));
}
