//! `POST /forget` and `segment-relay forget`: a person is deleted wherever the relay holds them, and strangers are not.

use serde_json::{Value, json};

use crate::harness::{Answer, Durable, TOKEN, customer, eventually};

async fn forget(durable: &Durable, body: &Value) -> Answer {
    let request = durable.relay().request(reqwest::Method::POST, "/forget").bearer_auth(TOKEN).json(body);
    Answer::of(request.send().await.unwrap()).await.unwrap()
}

async fn store(durable: &Durable, user: &str) {
    let answer = durable.post(&customer(user)).await;
    assert!(answer.is_stored(), "{answer:?}");
}

#[tokio::test]
async fn a_person_who_waits_behind_an_outage_is_forgotten_and_strangers_arrive() {
    let mut durable = Durable::start().await;
    durable.segment().fail(json!({"status": 503})).await;
    for user in ["ada-7", "bob", "ada-7", "eve"] {
        store(&durable, user).await;
    }
    let answer = forget(&durable, &json!({"userId": "ada-7"})).await;
    assert_eq!((answer.status, answer.body), (200, json!({"waiting": 2, "deadLetters": 0})));
    let again = forget(&durable, &json!({"userId": "ada-7"})).await;
    assert_eq!(again.body, json!({"waiting": 0, "deadLetters": 0}));
    durable.kill().await;
    durable.segment().heal().await;
    durable.start_relay().await;
    store(&durable, "ada-7").await;
    eventually(async || durable.operate(reqwest::Method::GET, "/status").await.body["outbox"]["waiting"] == 0).await;
    let mut users: Vec<_> = durable.segment().received().await.iter().map(|event| event["userId"].clone()).collect();
    users.sort_by_key(Value::to_string);
    assert_eq!(users, ["ada-7", "bob", "eve"], "only the later call of the person arrives");
}

#[tokio::test]
async fn dead_letters_of_a_person_are_deleted() {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"poisonUserIds": ["ada-7", "bob"]})).await;
    store(&durable, "ada-7").await;
    store(&durable, "bob").await;
    eventually(async || durable.dead_letters().await.len() == 2).await;
    let answer = forget(&durable, &json!({"userId": "ada-7"})).await;
    assert_eq!((answer.status, answer.body), (200, json!({"waiting": 0, "deadLetters": 1})));
    let letters = durable.dead_letters().await;
    assert_eq!((letters.len(), &letters[0]["userId"]), (1, &json!("bob")));
    forget(&durable, &json!({"userId": " "})).await.assert_failed(422, "invalid_payload");
    forget(&durable, &json!({"userId": "ada-7", "text": "x"})).await.assert_failed(422, "invalid_payload");
    assert!(!durable.relay().process().stdout().concat().contains("ada-7"), "no id is logged");
}

/// How often these bytes are in the files of the outbox.
fn in_files(durable: &Durable, wanted: &[u8]) -> usize {
    let files = std::fs::read_dir(durable.directory()).unwrap();
    let count = |bytes: Vec<u8>| bytes.windows(wanted.len()).filter(|window| *window == wanted).count();
    files.map(|file| count(std::fs::read(file.unwrap().path()).unwrap())).sum()
}

fn with_traits(user: &str, number: usize) -> Value {
    // Small calls, and calls that continue on further pages.
    json!({"userId": user, "traits": {"email": format!("{user}@example.com"), "bio": "b".repeat(number * 997 % 20_000)}})
}

#[tokio::test]
async fn no_byte_of_a_person_is_left_in_the_files_also_of_what_was_delivered_long_before() {
    let durable = Durable::start().await;
    durable.segment().fail(json!({"poisonUserIds": ["person-refused"]})).await;
    for number in 0..60 {
        let user = ["person-of-all", "stranger", "person-refused"][number % 3];
        assert!(durable.post(&with_traits(user, number)).await.is_stored());
    }
    eventually(async || durable.operate(reqwest::Method::GET, "/status").await.body["outbox"]["waiting"] == 0).await;
    durable.segment().fail(json!({"status": 503})).await;
    for number in 0..20 {
        assert!(durable.post(&with_traits("person-of-all", number)).await.is_stored());
    }
    assert!(in_files(&durable, b"person-of-all") > 0 && in_files(&durable, b"person-refused") > 0);
    // Strangers' calls are stored meanwhile.
    let strangers = async {
        for number in 0.. {
            assert!(durable.post(&with_traits(&format!("stranger-{number}"), number)).await.is_stored());
        }
    };
    let forgetting = async {
        let waiting = forget(&durable, &json!({"userId": "person-of-all"})).await;
        assert_eq!(waiting.body, json!({"waiting": 20, "deadLetters": 0}));
        assert_eq!(in_files(&durable, b"person-of-all"), 0);
        let refused = forget(&durable, &json!({"userId": "person-refused"})).await;
        assert_eq!(refused.body, json!({"waiting": 0, "deadLetters": 20}));
        assert_eq!(in_files(&durable, b"person-refused"), 0);
    };
    tokio::select! {
        () = strangers => {}
        () = forgetting => {}
    }
    durable.segment().heal().await;
    eventually(async || durable.operate(reqwest::Method::GET, "/status").await.body["outbox"]["waiting"] == 0).await;
    assert!(durable.post(&with_traits("person-of-all", 1)).await.is_stored());
}
