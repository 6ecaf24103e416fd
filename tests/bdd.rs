//! The scenarios of `features/`, run against the real relay and the sandbox.
//!
//! A step that fails, is skipped or is not defined makes this binary fail. It ignores its arguments, because `cargo test`
//! passes on arguments for other test binaries: all scenarios run each time.

mod harness;

use std::fmt;

use cucumber::gherkin::Step;
use cucumber::{World, given, then, when};
use serde_json::{Map, Value, json};
use tokio::net::TcpSocket;

use harness::{Answer, App, Process, ada};

/// Each scenario has two processes, and a machine that runs tests may have two cores.
const SCENARIOS_AT_ONCE: usize = 4;

#[tokio::main]
async fn main() {
    Shop::cucumber()
        .max_concurrent_scenarios(SCENARIOS_AT_ONCE)
        .fail_on_skipped()
        .with_default_cli()
        .run_and_exit(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/features"))
        .await;
}

/// The state of a scenario: the shop's customer, and what happened so far.
#[derive(World)]
#[world(init = Self::new)]
struct Shop {
    customer: Value,
    settings: Vec<(&'static str, String)>,
    app: Option<App>,
    answers: Vec<Answer>,
    /// The calls that Segment had when the last answer came.
    received: Vec<Value>,
    /// Holds a port on which nobody listens.
    unused_port: Option<TcpSocket>,
    refused_start: Option<Process>,
}

impl fmt::Debug for Shop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shop").field("customer", &self.customer).field("answers", &self.answers).finish_non_exhaustive()
    }
}

impl Shop {
    fn new() -> Self {
        Self {
            // A scenario adds the traits.
            customer: json!({"userId": "c-1042", "traits": {}}),
            settings: Vec::new(),
            app: None,
            answers: Vec::new(),
            received: Vec::new(),
            unused_port: None,
            refused_start: None,
        }
    }

    /// The relay and the sandbox. They start at the first use, when all settings are known.
    async fn app(&mut self) -> &App {
        if self.app.is_none() {
            let settings: Vec<_> = self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
            self.app = Some(App::with(&settings).await);
        }
        self.app.as_ref().expect("just started")
    }

    fn answer(&self) -> &Answer {
        self.answers.last().expect("an answer")
    }

    /// The traits of the last call that Segment got.
    fn last_traits(&self) -> &Value {
        &self.received.last().expect("a call")["traits"]
    }
}

fn address(step: &Step) -> Value {
    let table = step.table.as_ref().expect("a table");
    table.rows.iter().map(|row| (row[0].clone(), Value::from(&*row[1]))).collect::<Map<_, _>>().into()
}

#[given(expr = "a customer with the userId {string}")]
fn with_user_id(shop: &mut Shop, user_id: String) {
    shop.customer["userId"] = user_id.into();
}

#[given(regex = r#"^(?:a customer )?whose (\w+) is "(.*)"$"#)]
#[when(regex = r#"^the (\w+) changes to "(.*)"$"#)]
fn with_trait(shop: &mut Shop, name: String, value: String) {
    shop.customer["traits"][name] = value.into();
}

#[given("a customer who lives at")]
fn with_address(shop: &mut Shop, step: &Step) {
    shop.customer["traits"]["address"] = address(step);
}

#[given("a customer with the traits")]
fn with_traits(shop: &mut Shop, step: &Step) {
    // The body is kept as text, because a tree of values would lose digits.
    let traits = step.docstring.as_deref().expect("a docstring").trim();
    shop.customer = format!(r#"{{"userId":"c-1042","traits":{traits}}}"#).into();
}

#[given(regex = r"^a relay that gives Segment (\w+), and the shop its answer within (\w+)$")]
fn with_timeouts(shop: &mut Shop, attempt: String, whole: String) {
    shop.settings.extend([("SEGMENT_TIMEOUT", attempt), ("RELAY_REQUEST_TIMEOUT", whole)]);
}

#[given("nobody listens where Segment should be")]
fn nobody_listens(shop: &mut Shop) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let address = socket.local_addr().expect("an address");
    shop.settings.push(("SEGMENT_ENDPOINT", format!("http://{address}")));
    shop.unused_port = Some(socket);
}

#[given(regex = r"^Segment takes (\w+) over every request$")]
async fn segment_is_slow(shop: &mut Shop, latency: String) {
    shop.app().await.segment().fail(json!({"latency": latency})).await;
}

#[given(expr = "Segment refuses the next request with the words {string}")]
async fn segment_refuses(shop: &mut Shop, words: String) {
    let body = json!({"success": false, "message": words, "code": "invalid_request"}).to_string();
    shop.app().await.segment().fail(json!({"status": 400, "body": body, "count": 1})).await;
}

#[given("Segment never answers")]
async fn segment_hangs(shop: &mut Shop) {
    shop.app().await.segment().fail(json!({"hang": true})).await;
}

#[given(expr = "Segment asks everybody to come back after {int} seconds")]
async fn segment_limits(shop: &mut Shop, seconds: u64) {
    shop.app().await.segment().fail(json!({"status": 429, "retryAfter": seconds.to_string()})).await;
}

#[given("nobody has set SEGMENT_WRITE_KEY")]
fn no_write_key(shop: &mut Shop) {
    shop.settings.clear();
}

#[given("the shop has sent the customer")]
#[when("the shop sends the customer")]
async fn send(shop: &mut Shop) {
    let body = shop.customer.as_str().map_or_else(|| shop.customer.to_string(), str::to_owned);
    let app = shop.app().await;
    let answer = app.post_with(&[], body).await;
    let received = app.segment().received().await;
    shop.answers.push(answer);
    shop.received = received;
}

#[when("the relay is started")]
fn start(shop: &mut Shop) {
    let mut settings = vec![("RELAY_LISTEN", "127.0.0.1:0")];
    settings.extend(shop.settings.iter().map(|(name, value)| (*name, value.as_str())));
    shop.refused_start = Some(Process::start(&["serve"], &settings));
}

#[then("the customer is accepted")]
fn is_accepted(shop: &mut Shop) {
    assert!(shop.answer().is_accepted(), "{:?}", shop.answer());
}

#[then("the answer is 200 and says success, with the messageId under which Segment has the call")]
fn says_success(shop: &mut Shop) {
    assert_eq!(shop.answer().status, 200);
    let [call] = &shop.received[..] else { panic!("{:?}", shop.received) };
    assert_eq!(shop.answer().body, json!({"success": true, "messageId": call["messageId"]}));
}

#[then(expr = "Segment got one Identify call, for the user {string}")]
fn one_identify(shop: &mut Shop, user_id: String) {
    let [call] = &shop.received[..] else { panic!("{:?}", shop.received) };
    assert_eq!((&call["type"], &call["userId"]), (&json!("identify"), &json!(user_id)));
}

#[then(regex = r#"^Segment knows the (\w+) "(.*)" and nothing else$"#)]
fn knows_trait(shop: &mut Shop, name: String, value: String) {
    assert_eq!(*shop.last_traits(), json!({name: value}));
}

#[then("Segment knows this address and nothing else")]
fn knows_address(shop: &mut Shop, step: &Step) {
    assert_eq!(*shop.last_traits(), json!({"address": address(step)}));
}

#[then("Segment got the traits word for word")]
async fn word_for_word(shop: &mut Shop, step: &Step) {
    let traits = step.docstring.as_deref().expect("a docstring").trim();
    let [line] = &shop.app().await.segment().received_lines().await[..] else { panic!("one call") };
    assert!(line.contains(&format!(r#""traits":{traits},"#)), "{line}");
}

#[then(expr = "Segment got these plans of the user {string}, in this order")]
fn in_order(shop: &mut Shop, step: &Step, user_id: String) {
    let table = step.table.as_ref().expect("a table");
    let expected: Vec<_> = table.rows.iter().map(|row| (json!(user_id), json!(row[0]))).collect();
    let got: Vec<_> =
        shop.received.iter().map(|call| (call["userId"].clone(), call["traits"]["plan"].clone())).collect();
    assert_eq!(got, expected);
}

#[then("Segment had the customer before the shop had the answer")]
fn had_it_before(shop: &mut Shop) {
    // The sandbox was asked right after the answer. An answer that is too early is 300 ms ahead of the call.
    assert_eq!(shop.received.len(), 1);
}

#[then(expr = "the answer is {int} with the code {string}")]
fn failed(shop: &mut Shop, status: u16, code: String) {
    let answer = shop.answer();
    assert_eq!((answer.status, answer.code()), (status, code.as_str()), "{answer:?}");
    assert_eq!(answer.body["success"], false);
}

#[then(expr = "the message has the words {string}")]
fn has_words(shop: &mut Shop, words: String) {
    assert!(shop.answer().message().contains(&words), "{:?}", shop.answer());
}

#[then(expr = "the field {string} is named")]
fn names_field(shop: &mut Shop, field: String) {
    let details = &shop.answer().body["error"]["details"];
    assert!(details.as_array().is_some_and(|rules| rules.iter().any(|rule| rule["field"] == *field)), "{details}");
}

#[then("Segment got no call")]
fn no_call(shop: &mut Shop) {
    assert!(shop.received.is_empty(), "{:?}", shop.received);
}

#[then("Segment was not asked about this one, while it is about the next")]
async fn not_asked(shop: &mut Shop) {
    // The next one shows that the relay sends, and that no request was still in flight.
    let app = shop.app().await;
    assert!(app.post(&ada()).await.is_accepted());
    assert_eq!(app.segment().stats().await["requests"], 1);
}

#[then("it says when to come back")]
fn says_when(shop: &mut Shop) {
    assert!(shop.answer().retry_after().is_some_and(|seconds| seconds >= 1), "{:?}", shop.answer());
}

#[then(expr = "it says to come back after at most {int} seconds")]
fn says_when_at_most(shop: &mut Shop, most: u64) {
    // The pause began when Segment asked for it, so a part of it may be over.
    assert!(shop.answer().retry_after().is_some_and(|seconds| (1..=most).contains(&seconds)), "{:?}", shop.answer());
}

#[then(expr = "it ends at once with exit code {int}")]
async fn ends_with(shop: &mut Shop, code: i32) {
    assert_eq!(shop.refused_start.as_mut().expect("a start").exit_code().await, Some(code));
}

#[then("it names SEGMENT_WRITE_KEY")]
fn names_write_key(shop: &mut Shop) {
    let lines = shop.refused_start.as_ref().expect("a start").stderr();
    assert!(matches!(&lines[..], [line] if line.starts_with("SEGMENT_WRITE_KEY: ")), "{lines:?}");
}
