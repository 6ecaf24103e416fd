//! A noisy run with the log at its loudest, of every dependency too: whatever goes wrong, nothing that is printed, measured or
//! reported holds a trait, an id, a secret or Segment's words about one, in any form.
//!
//! An answer to a caller holds no secret either, and no value that it sent: messages name fields. Segment's words are the
//! one exception, for the caller whose call it was.

mod debug;
mod h2;
pub mod needles;
mod sender;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Durable, Process, TOKEN, WRITE_KEY, client_builder, eventually, head};
use h2::h2;
use needles::Needles;
use sender::{SENDERS, Sender};

const EMAIL: &str = "ada.q7vx@post.example";
const USER: &str = "c-90417-zebra";
const POISON: &str = "c-55120-walrus";
const WORDS: &str = "muttered xylophones";
const GUESS: &str = "guessed-admin-t0ken-62fe";
const KEY: &str = "key-8842-of-the-caller";

/// What is known of a customer, and what a caller calls its request by.
const PERSONAL: [&str; 10] = [
    EMAIL,
    USER,
    POISON,
    WORDS,
    KEY,
    "Adeline \"Zyx\" Löwenherz",
    "12 Quagmire Mews",
    "platinum-quince-77",
    "anon-kiwi-5531",
    "msg-3307-okapi-of-the-caller",
];

fn body(user: &str) -> Value {
    json!({
        "userId": user,
        "anonymousId": "anon-kiwi-5531",
        "traits": {
            "email": EMAIL,
            "name": "Adeline \"Zyx\" Löwenherz",
            "address": {"street": "12 Quagmire Mews"},
            "plan": "platinum-quince-77",
        },
        "context": {"page": {"title": EMAIL}},
    })
}

/// One relay, one scheme, and everything it was heard to say.
struct Run<'a> {
    durable: Durable,
    sender: &'a Sender,
    personal: Needles,
    /// Signatures and tokens that were shown.
    shown: Vec<String>,
    printed: Vec<String>,
}

impl<'a> Run<'a> {
    async fn start(sender: &'a Sender, has_outbox: bool, settings: &[(&str, &str)]) -> Self {
        let mut durable = Durable::prepared(settings).await;
        durable.set("RELAY_LOG", "trace");
        durable.set("SEGMENT_TIMEOUT", "1s");
        // Long enough for every wish to hear the outcome, on any machine.
        durable.set("RELAY_REQUEST_TIMEOUT", "15s");
        sender.settings().iter().for_each(|(name, value)| durable.set(name, value));
        if !has_outbox {
            durable.unset("RELAY_OUTBOX_URL");
        }
        durable.start_relay().await;
        Self { durable, sender, personal: Needles::of(PERSONAL), shown: Vec::new(), printed: Vec::new() }
    }

    /// `POST /customers` by a sender who is let in.
    async fn post(&mut self, body: &str, more: &[(&str, &str)]) -> Answer {
        let headers = self.sender.headers(body);
        self.post_with(headers, body, more).await
    }

    async fn post_with(&mut self, auth: Vec<(&str, String)>, body: &str, more: &[(&str, &str)]) -> Answer {
        // The id and the time of a webhook are no secrets.
        let secret = auth.iter().filter(|(name, _)| !name.starts_with("webhook-") || name.ends_with("-signature"));
        self.shown.extend(
            secret.map(|(_, value)| {
                value.rsplit([' ', ',', '=']).find(|part| part.len() > 8).unwrap_or(value).to_owned()
            }),
        );
        let auth = auth.iter().map(|(name, value)| (*name, &**value));
        let headers: Vec<_> = auth.chain(more.iter().copied()).collect();
        let answer = self.durable.post_with(&headers, body.to_owned()).await;
        self.hear(&answer);
        answer
    }

    /// No answer holds a secret, and none but a refusal in Segment's words a value.
    fn hear(&self, answer: &Answer) {
        let text = format!("{:?} {}", answer.headers, answer.body);
        self.secrets().assert_absent(&text, "an answer");
        if answer.code() != "segment_rejected" {
            self.personal.assert_absent(&text, "an answer");
        }
    }

    fn secrets(&self) -> Needles {
        let known = [WRITE_KEY, TOKEN, GUESS, self.sender.wrong].into_iter().chain(self.sender.secrets);
        Needles::of(known.chain(self.shown.iter().map(String::as_str)))
    }

    async fn fail(&self, mut faults: Value) {
        faults["body"] = format!("Segment {WORDS} about {EMAIL} and {USER}").into();
        self.durable.segment().fail(faults).await;
    }

    /// Ends the relay with this signal and keeps what it printed; the exit code.
    async fn end(&mut self, signal: &str) -> Option<i32> {
        let process = self.durable.relay_mut().process_mut();
        process.signal(signal);
        process.exit_code().await;
        self.printed.extend(process.stdout().into_iter().chain(process.stderr()));
        self.durable.ended().await
    }

    /// What is no customer at all, or not by one who may.
    async fn strangers(&mut self) {
        let good = body(USER).to_string();
        let with_id = |id: &'static str| [("x-request-id", id), ("idempotency-key", KEY)];
        for wrong in [
            format!("{{\"userId\":\"{USER}\" \"{EMAIL}\"}}"),
            format!("{{\"userId\":\"{USER}\",\"userId\":\"{EMAIL}\",\"traits\":{{}}}}"),
            json!({"userId": [USER], "traits": {"email": [EMAIL], "age": EMAIL}, "timestamp": EMAIL}).to_string(),
            json!({"userId": USER, "traits": {"createdAt": EMAIL}, "type": EMAIL, "messageId": EMAIL.repeat(9)})
                .to_string(),
            json!({"userId": USER, "traits": {"email": EMAIL.repeat(2_000)}}).to_string(),
            json!({"userId": USER, "traits": {"email": EMAIL.repeat(4_000)}}).to_string(),
        ] {
            let answer = self.post(&wrong, &with_id(EMAIL)).await;
            assert!(matches!(answer.status, 400 | 413 | 422), "{answer:?}");
        }
        assert_eq!(self.post(&good, &[("content-type", EMAIL)]).await.status, 415);
        assert_eq!(self.post(&good, &[("content-encoding", EMAIL)]).await.status, 415);
        if self.sender.scheme != "none" {
            let wrong = self.sender.wrong_headers(&good);
            self.post_with(wrong, &good, &with_id("wrong")).await.assert_failed(401, "unauthorized");
            self.post_with(Vec::new(), &good, &[]).await.assert_failed(401, "unauthorized");
            let mangled = [("authorization", GUESS), ("webhook-signature", GUESS), ("x-signature-256", GUESS)];
            self.post_with(Vec::new(), &good, &mangled).await.assert_failed(401, "unauthorized");
        }
        for path in [format!("/customers/{USER}?email={EMAIL}"), format!("/{EMAIL}"), format!("/metrics?{EMAIL}")] {
            let _ = self.durable.get(&path).await;
        }
        self.bytes(&good).await;
    }

    /// What is no request that HTTP knows, and one over h2c.
    async fn bytes(&mut self, good: &str) {
        let broken = [
            head(&format!("x-request-id: {EMAIL}\r\ncontent-length: 50\r\n")) + &format!("{{\"userId\":\"{USER}\""),
            format!("POST /customers HTTP/1.1\r\n{EMAIL} {USER}\r\n\r\n"),
            format!("{EMAIL} /{USER} HTTP/9.9\r\n\r\n"),
            head(&format!("authorization: Bearer {WRITE_KEY}\r\nx: {}\r\n", EMAIL.repeat(3_000))),
            head("transfer-encoding: chunked\r\n") + &format!("zz\r\n{EMAIL}\r\n"),
            format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{EMAIL}{USER}{WRITE_KEY}"),
        ];
        for bytes in broken {
            let mut caller = self.durable.relay().connect().await;
            let _ = caller.try_send(bytes).await;
            let _ = caller.answer_within(std::time::Duration::from_millis(200)).await;
        }
        let values = format!("{EMAIL} {USER} {WRITE_KEY}");
        for bytes in [h2("/customers?email=", 4, &values), h2("relay/", 1, &values)] {
            let mut caller = self.durable.relay().connect().await;
            let _ = caller.try_send(bytes).await;
            assert!(caller.is_closed_at_last().await);
        }
        let client = client_builder().http2_prior_knowledge().build().expect("a client");
        for headers in [self.sender.headers(good), self.sender.wrong_headers(good)] {
            let mut request = client.post(self.durable.relay().url("/customers")).body(good.to_owned());
            request = request.header("content-type", "application/json").header("x-email", EMAIL);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let answer = Answer::of(request.send().await.expect("an answer")).await.expect("a whole answer");
            self.hear(&answer);
        }
    }

    /// All that Segment does to a call, from good to worst; the gate is shut in the end.
    async fn segments_moods(&mut self, has_outbox: bool) {
        let good = body(USER).to_string();
        let wait: &[(&str, &str)] = &[("prefer", "wait=15"), ("idempotency-key", KEY)];
        let named = json!({"userId": USER, "messageId": "msg-3307-okapi-of-the-caller", "traits": {"email": EMAIL}});
        for (body, headers) in [(&good, wait), (&good, wait), (&good, &[]), (&named.to_string(), &[])] {
            let answer = self.durable_post(body, headers).await;
            assert!(answer.is_accepted() || answer.is_stored(), "{answer:?}");
        }
        if has_outbox {
            // Or the next fault would strike these.
            self.all_delivered().await;
        }
        self.fail(json!({"poisonUserIds": [POISON]})).await;
        self.post(&body(POISON).to_string(), wait).await.assert_failed(422, "segment_rejected");
        self.fail(json!({"status": 400, "count": 1})).await;
        let refused =
            self.post(&json!({"userId": USER, "traits": {"n": 1}}).to_string(), &[("prefer", "wait=15")]).await;
        refused.assert_failed(422, "segment_rejected");
        assert!(refused.message().contains(WORDS), "{refused:?}");
        // So many failures in a row are an outage, which is worth a line.
        self.fail(json!({"status": 503, "count": 3})).await;
        self.post(&good, &[]).await;
        if has_outbox {
            self.all_delivered().await;
        }
        let moods = [
            json!({"hang": true, "count": 1}),
            json!({"reset": true, "count": 1}),
            json!({"status": 503, "retryAfter": EMAIL, "count": 1}),
            json!({"status": 302, "count": 1}),
            json!({"status": 401}),
            json!({"status": 429, "retryAfter": "60"}),
        ];
        for (number, mood) in moods.into_iter().enumerate() {
            self.fail(mood).await;
            let body = json!({"userId": format!("{USER}-{number}"), "traits": {"email": EMAIL}}).to_string();
            let answer = self.post(&body, &[]).await;
            assert!(answer.is_stored() == has_outbox, "{answer:?}");
        }
    }

    /// As [`post`](Self::post), for answers that say nothing but their `messageId`, which may be the caller's.
    async fn durable_post(&mut self, body: &str, more: &[(&str, &str)]) -> Answer {
        let headers = self.sender.headers(body);
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (*name, &**value)).chain(more.iter().copied()).collect();
        self.durable.post_with(&headers, body.to_owned()).await
    }

    /// What those ask for who operate the relay, and those who would like to.
    async fn operators(&mut self, has_outbox: bool) {
        let paths = ["/metrics", "/status", "/healthz", "/readyz", "/openapi.json", "/docs", "/"];
        for path in paths {
            let answer = self.durable.operate(Method::GET, path).await;
            self.hear(&answer);
        }
        for (method, path) in
            [(Method::GET, "/status"), (Method::GET, "/dead-letters"), (Method::POST, "/dead-letters/replay")]
        {
            let request = self.durable.relay().request(method, path).bearer_auth(GUESS);
            let answer = Answer::of(request.send().await.expect("an answer")).await.expect("a whole answer");
            answer.assert_failed(401, "unauthorized");
            self.hear(&answer);
        }
        for query in [format!("?{EMAIL}=1"), format!("?limit={EMAIL}"), format!("?before={USER}")] {
            let answer = self.durable.operate(Method::GET, &format!("/dead-letters{query}")).await;
            self.hear(&answer);
            let answer = self.durable.operate(Method::POST, &format!("/parked/retry{query}")).await;
            self.hear(&answer);
        }
        if !has_outbox {
            return;
        }
        let letters = self.durable.dead_letters().await;
        assert_eq!(letters.len(), 2, "{letters:?}");
        self.secrets().assert_absent(&Value::from(letters.clone()).to_string(), "the dead letters");
        let address = self.durable.relay().address().to_string();
        let id = letters[0]["id"].to_string();
        for (token, arguments) in [
            (TOKEN, vec!["list"]),
            (GUESS, vec!["list"]),
            (TOKEN, vec!["replay", "--all"]),
            (TOKEN, vec!["discard", &id]),
        ] {
            let settings = [("RELAY_LISTEN", &*address), ("RELAY_ADMIN_TOKEN", token), ("RELAY_LOG", "trace")];
            let mut process = Process::start(&[&["dead-letters"], &arguments[..]].concat(), &settings);
            process.exit_code().await;
            let printed = [process.stdout(), process.stderr()].concat().join("\n");
            self.secrets().assert_absent(&printed, "the command");
        }
    }

    async fn all_delivered(&self) {
        eventually(async || self.durable.operate(Method::GET, "/status").await.body["outbox"]["waiting"] == 0).await;
    }

    /// Kills the relay, starts it again and stops it in order; then looks at all it printed.
    async fn over(mut self, has_outbox: bool) {
        self.durable.segment().heal().await;
        assert_eq!(self.end("KILL").await, None);
        self.durable.start_relay().await;
        if has_outbox {
            self.all_delivered().await;
        }
        assert_eq!(self.end("TERM").await, Some(0));
        let printed = self.printed.join("\n");
        assert!(self.printed.len() > 10, "there was no noise: {printed}");
        self.secrets().assert_absent(&printed, "the log");
        self.personal.assert_absent(&printed, "the log");
    }
}

async fn noise(sender: &Sender, has_outbox: bool, settings: &[(&str, &str)]) {
    let mut run = Run::start(sender, has_outbox, settings).await;
    run.strangers().await;
    run.segments_moods(has_outbox).await;
    run.operators(has_outbox).await;
    run.over(has_outbox).await;
}

#[tokio::test]
async fn nothing_is_told_without_an_outbox() {
    for sender in &SENDERS[..2] {
        noise(sender, false, &[]).await;
    }
}

#[tokio::test]
async fn nothing_is_told_with_an_outbox() {
    for sender in &SENDERS {
        noise(sender, true, &[("RELAY_LOG_FORMAT", "json")]).await;
    }
}

#[tokio::test]
async fn nothing_is_told_in_text_and_with_compressed_requests() {
    noise(&SENDERS[1], true, &[("RELAY_LOG_FORMAT", "text"), ("SEGMENT_GZIP", "true")]).await;
}

#[tokio::test]
async fn the_password_of_a_proxy_and_what_goes_through_it_are_not_told() {
    let mut durable =
        Durable::prepared(&[("RELAY_LOG", "trace"), ("SEGMENT_ENDPOINT", "http://segment.invalid")]).await;
    let proxy = durable.segment().url().replace("http://", "http://relay:pr0xy-pa55w0rd-19ce@");
    durable.set("HTTP_PROXY", &proxy);
    durable.start_relay().await;
    assert!(durable.post(&body(USER)).await.is_stored());
    eventually(async || durable.segment().received().await.len() == 1).await;
    let mut process = Process::start(
        &["check"],
        &[
            ("SEGMENT_WRITE_KEY", WRITE_KEY),
            ("RELAY_LISTEN", "127.0.0.1:0"),
            ("SEGMENT_ENDPOINT", "http://segment.invalid"),
            ("HTTP_PROXY", &proxy),
        ],
    );
    assert_eq!(process.exit_code().await, Some(0));
    let relay = durable.relay_mut().process_mut();
    relay.signal("TERM");
    assert_eq!(relay.exit_code().await, Some(0));
    let printed = [relay.stdout(), relay.stderr(), process.stdout(), process.stderr()].concat().join("\n");
    Needles::of(PERSONAL.into_iter().chain([WRITE_KEY, "pr0xy-pa55w0rd-19ce"])).assert_absent(&printed, "the log");
}

#[tokio::test]
async fn settings_with_mistakes_are_named_and_not_shown() {
    let secret = "s3cret-6b1d-of-somebody";
    let spoilt = format!("{secret} {secret}");
    let url = format!("https://relay:{secret}@example.com/?key={secret}#{secret}");
    let wrong: [&[(&str, &str)]; 8] = [
        &[("SEGMENT_WRITE_KEY", &spoilt), ("RELAY_ADMIN_TOKEN", &spoilt)],
        &[("SEGMENT_ENDPOINT", &url), ("RELAY_OUTBOX_URL", &url)],
        &[("RELAY_OUTBOX_URL", &format!("sqlite://{secret}.db"))],
        &[("RELAY_AUTH", "standard-webhooks"), ("RELAY_AUTH_SECRETS", &format!("{secret},whsec_{secret}"))],
        &[("RELAY_AUTH", "bearer"), ("RELAY_AUTH_SECRETS", &spoilt)],
        &[("RELAY_AUTH", "basic"), ("RELAY_AUTH_SECRETS", secret)],
        &[("RELAY_AUTH", secret), ("RELAY_AUTH_SECRETS", secret), ("RELAY_AUTH_HMAC_HEADER", &spoilt)],
        &[
            ("RELAY_LOG_FORMAT", secret),
            ("RELAY_LISTEN", secret),
            ("SEGMENT_TIMEOUT", secret),
            ("SEGMENT_GZIP", secret),
        ],
    ];
    for settings in wrong {
        for command in ["serve", "check"] {
            let own = [("SEGMENT_WRITE_KEY", secret), ("SEGMENT_ENDPOINT", "http://127.0.0.1:9")];
            let mut process = Process::start(&[command], &[&own[..], settings].concat());
            assert_eq!(process.exit_code().await, Some(2), "{settings:?}");
            let printed = [process.stdout(), process.stderr()].concat().join("\n");
            Needles::of([secret]).assert_absent(&printed, command);
        }
    }
}
