//! `GET /status/events`: what the operators' page shows, each second.

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Durable, TOKEN, client_builder, customer, eventually};

/// A reader of events.
struct Events {
    response: Response,
    read: String,
}

impl Events {
    async fn open(durable: &Durable) -> Response {
        let request = durable.relay().request(Method::GET, "/status/events").bearer_auth(TOKEN);
        request.send().await.unwrap()
    }

    async fn of(durable: &Durable) -> Self {
        Self::from(Self::open(durable).await)
    }

    fn from(response: Response) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self { response, read: String::new() }
    }

    /// The name and the data of the next event. `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.read.split_once("\n\n") {
                let line = |name| event.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
                let (name, data) = (line("event: "), serde_json::from_str(&line("data: ")).unwrap());
                self.read = rest.to_owned();
                return Some((name, data));
            }
            let piece = self.response.chunk().await.unwrap()?;
            self.read.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// Reads until a status fits.
    async fn status(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (name, data) = self.next().await.expect("the stream goes on");
            if name == "status" && fits(&data) {
                return data;
            }
        }
    }
}

#[tokio::test]
async fn a_stream_has_the_last_minutes_first_and_then_the_status_as_it_changes() {
    let durable = Durable::start().await;
    let mut events = Events::of(&durable).await;
    let (name, history) = events.next().await.unwrap();
    assert_eq!((&*name, &history["stepSeconds"]), ("history", &json!(5)));
    for list in ["stored", "delivered", "refused", "oldestSeconds", "segmentP99Ms"] {
        assert_eq!(history[list].as_array().map(Vec::len), Some(180), "{list}");
    }
    let well = events.status(|_| true).await;
    assert_eq!(well["summary"]["level"], "well", "{well}");
    durable.segment().fail(json!({"status": 503})).await;
    for user in 0..6 {
        assert!(durable.post(&customer(&format!("c-{user}"))).await.is_stored());
    }
    let outage = events.status(|status| status["summary"]["level"] == "trouble").await;
    let text = outage["summary"]["text"].as_str().unwrap();
    assert!(text.starts_with("Segment has answered 503 for ") && text.ends_with(" none is lost."), "{text}");
    assert_eq!(outage["segment"]["lastTrouble"]["status"], 503);
    durable.segment().heal().await;
    let healed = events.status(|status| status["summary"]["level"] == "well").await;
    assert_eq!(healed["outbox"]["waiting"], 0, "{healed}");
}

#[tokio::test]
async fn a_new_sample_of_the_history_is_an_event() {
    let durable = Durable::start().await;
    let mut events = Events::of(&durable).await;
    assert!(durable.post(&customer("c-1")).await.is_stored());
    loop {
        let (name, point) = events.next().await.expect("the stream goes on");
        if name == "point" {
            assert!(point["stored"].is_number() && point["at"].is_string(), "{point}");
            break;
        }
    }
    let rates = durable.operate(Method::GET, "/status").await.body["rates"].take();
    assert!(rates["storedPerSecond"].is_number(), "{rates}");
}

#[tokio::test]
async fn the_streams_are_bounded_and_end_when_the_relay_stops() {
    let mut durable = Durable::start().await;
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(Events::of(&durable).await);
    }
    let refused = Events::open(&durable).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    durable.relay().process().signal("TERM");
    for events in &mut open {
        while events.next().await.is_some() {}
    }
    assert_eq!(durable.ended().await, Some(0));
}

#[tokio::test]
async fn a_reader_who_leaves_makes_room_for_another_one() {
    let durable = Durable::start().await;
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(Events::of(&durable).await);
    }
    assert_eq!(Events::open(&durable).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    open.pop();
    eventually(async || Events::open(&durable).await.status() == StatusCode::OK).await;
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_valid_no_longer() {
    let (mut durable, file) = Durable::with_token_file().await;
    durable.start_relay().await;
    let over_http2 = client_builder().http2_prior_knowledge().build().unwrap();
    let url = format!("http://{}/status/events", durable.relay().address());
    let response = over_http2.get(url).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    let mut streams = [Events::of(&durable).await, Events::from(response)];
    for events in &mut streams {
        events.status(|_| true).await;
    }
    std::fs::write(&file, "t0ken-of-the-next-operator").unwrap();
    durable.relay().process().signal("HUP");
    for events in &mut streams {
        while events.next().await.is_some() {}
    }
    assert!(durable.get("/healthz").await.status == 200, "the relay goes on");
}

#[tokio::test]
async fn without_the_token_there_are_no_events() {
    let durable = Durable::start().await;
    let answer = durable.relay().request(Method::GET, "/status/events").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}
