//! An endpoint that echoes the request's headers: whatever form the write key has there, it reaches nobody.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use data_encoding::{BASE32, HEXLOWER};
use serde_json::{Value, json};

use super::by_proxy;
use crate::harness::{Durable, Peer, Relay, WRITE_KEY, ada, answer};
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
        assert!(refused.message().contains("400"), "{refused:?}");
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

/// Encodings of the write key that the relay knows nothing of.
fn encoded() -> Vec<String> {
    let by = |escape: fn(u8) -> String| -> String { WRITE_KEY.bytes().map(escape).collect() };
    let line = format!("Authorization: Basic {}", BASE64_STANDARD.encode(format!("{WRITE_KEY}:")));
    let utf16: Vec<u8> = WRITE_KEY.encode_utf16().flat_map(u16::to_le_bytes).collect();
    vec![
        BASE64_STANDARD.encode(&line),
        HEXLOWER.encode(line.as_bytes()),
        HEXLOWER.encode(&utf16),
        BASE64_STANDARD.encode(&utf16),
        BASE32.encode(WRITE_KEY.as_bytes()),
        by(|byte| format!("\\{byte:03o}")),
        by(|byte| format!("%u{byte:04x}")),
        by(|byte| format!("\\U{byte:08x}")),
        by(|byte| format!("\\{byte:x} ")),
        by(|byte| format!("&#{byte:05};")),
        by(|byte| format!("={byte:02X}")),
        by(|byte| format!("{byte:03} ")),
        by(|byte| format!("{byte:08b} ")),
        by(|byte| format!("{byte:#o}, ")),
        by(|byte| format!("U+{byte:04X} ")),
        by(|byte| format!("%2525252525{byte:02x}")),
    ]
}

#[tokio::test]
async fn whatever_encodes_the_write_key_is_replaced_and_the_words_around_it_stay() {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let segment = Peer::start(move |_| {
        let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        answer("400 Bad Request", &[], &format!("you sent {}", encoded()[number]))
    });
    let relay = Relay::start(&[("SEGMENT_ENDPOINT", &segment.url())]).await;
    let mut shown = Vec::new();
    for form in encoded() {
        let refused = relay.post(&ada()).await;
        refused.assert_failed(422, "segment_rejected");
        let message = refused.message();
        if !message.ends_with(": you sent [...]") && !message.contains("left out") {
            shown.push(form);
        }
    }
    assert_eq!(shown, [""; 0]);
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
        let message = refused.message();
        assert!(message.contains("left out") || message.ends_with("Basic [...]"), "{refused:?}");
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
