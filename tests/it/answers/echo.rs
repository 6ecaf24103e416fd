//! An endpoint that echoes the request's headers: whatever form the write key has there, it reaches nobody.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::by_proxy;
use super::peer::{Peer, answer};
use crate::harness::{Durable, Relay, WRITE_KEY, ada};
use crate::secrets::needles::Needles;

/// Bodies that hold the write key, and how.
fn echoes(head: &str) -> Vec<String> {
    let by = |escape: fn(u8) -> String| -> String { WRITE_KEY.bytes().map(escape).collect() };
    let basic = BASE64_STANDARD.encode(format!("{WRITE_KEY}:"));
    let mut echoes = vec![
        head.to_owned(),
        json!({"success": false, "message": head}).to_string(),
        json!({"error": {"message": format!("your key is {WRITE_KEY}.")}}).to_string(),
        WRITE_KEY.to_ascii_uppercase(),
        basic.clone(),
        basic.trim_end_matches('=').replace('=', "%3D"),
        basic.chars().map(|letter| format!("{letter} ")).collect(),
        by(|byte| format!("%{byte:02X}")),
        by(|byte| format!("%25{byte:02x}")),
        by(|byte| format!("&#{byte};")),
        by(|byte| format!("&#x{byte:X};")),
        by(|byte| format!("\\u{{{byte:x}}}")),
        by(|byte| format!("\\u{byte:04x}")),
        by(|byte| format!("\\x{byte:02x}")),
        by(|byte| format!("{byte:02x}")),
        by(|byte| format!("{byte:02X}:")),
        format!("{:?}", WRITE_KEY.as_bytes()),
        // An echo that the endpoint cuts off.
        format!("Authorization: Basic {}...", &basic[..basic.len() / 2]),
        format!("the key {} is unknown", &WRITE_KEY[3..16]),
    ];
    for before in ["", "a", "ab", "Authorization: "] {
        let text = format!("{before}{WRITE_KEY}:and more");
        echoes.extend([BASE64_STANDARD.encode(&text), BASE64_URL_SAFE_NO_PAD.encode(&text)]);
    }
    echoes
}

#[tokio::test]
async fn an_endpoint_that_echoes_headers_tells_nobody_the_write_key() {
    let needles = Needles::of([WRITE_KEY, &BASE64_STANDARD.encode(format!("{WRITE_KEY}:"))]);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let count = echoes("").len();
    let segment = Peer::start(move |head| {
        let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        answer("400 Bad Request", &[], &echoes(head)[number % count])
    });
    let relay = Relay::start(&[("SEGMENT_ENDPOINT", &segment.url())]).await;
    for _ in 0..count {
        let refused = relay.post(&ada()).await;
        refused.assert_failed(422, "segment_rejected");
        needles.assert_absent(&refused.body.to_string(), "an answer");
        // Whoever decodes an answer must not find it either: its message is one sentence of ours.
        assert!(refused.message().len() < 120 && refused.message().contains("400"), "{refused:?}");
    }
    let mut durable = Durable::prepared(&[]).await;
    durable.set("SEGMENT_ENDPOINT", &segment.url());
    durable.start_relay().await;
    for _ in 0..count {
        let refused = durable.post_with(&[("prefer", "wait=10")], ada().to_string()).await;
        refused.assert_failed(422, "segment_rejected");
        needles.assert_absent(&refused.body.to_string(), "an answer");
    }
    let letters = durable.dead_letters().await;
    assert_eq!(letters.len(), count);
    needles.assert_absent(&Value::from(letters).to_string(), "the dead letters");
}

#[tokio::test]
async fn a_proxy_that_echoes_headers_tells_nobody_its_password() {
    for password in ["pr0xy-pa55w0rd-of-ours", "pw0rd"] {
        let proxy = Peer::start(|head| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("proxy-authorization"));
            answer("400 Bad Request", &[], line.unwrap_or("nothing"))
        });
        let url = format!("http://relay:{password}@{}", proxy.address());
        let relay = Relay::start(&by_proxy("http://segment.invalid", &url)).await;
        let refused = relay.post(&ada()).await;
        refused.assert_failed(422, "segment_rejected");
        assert!(refused.message().contains("left out"), "{refused:?}");
        Needles::of([password]).assert_absent(&refused.body.to_string(), "an answer");
    }
}

#[tokio::test]
async fn segments_words_reach_callers_in_segment_rejected_alone() {
    let words = "muttered xylophones";
    for (status, own) in [(400, true), (401, false), (404, false), (422, false), (429, false), (503, false)] {
        let line = format!("{status} Whatever");
        let segment = Peer::start(move |_| answer(&line, &["retry-after: 60"], words));
        let relay = Relay::start(&[("SEGMENT_ENDPOINT", &segment.url())]).await;
        let told = relay.post(&ada()).await;
        assert!(told.status >= 400, "{told:?}");
        assert_eq!(told.message().contains(words), own, "{told:?}");
        assert_eq!(told.code() == "segment_rejected", own, "{told:?}");
        assert!(told.message().contains(&status.to_string()), "{told:?}");
    }
}
