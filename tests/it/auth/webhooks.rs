//! `standard-webhooks`: id, timestamp and body signed, under the standard's names or Svix's.

use super::{BODY, guarded, h2_client, post_by, refused, refused_for};
use crate::harness::sign::{Webhook, now, webhook_secret, webhook_signature};
use crate::harness::{Answer, App};

/// The three headers, as the standard calls them.
const NAMES: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

/// How far from now a timestamp may be, in seconds.
const TOLERANCE: u64 = 300;

fn secret() -> String {
    webhook_secret(b"s3cret-of-the-sender-24b")
}

async fn app() -> App {
    guarded("standard-webhooks", &secret()).await
}

async fn post(app: &App, webhook: &Webhook) -> Answer {
    app.post_with(&webhook.headers(), BODY).await
}

#[tokio::test]
async fn a_signed_webhook_is_taken_under_either_name() {
    let app = app().await;
    let webhook = Webhook::sign(&secret(), "msg_1", BODY);
    for headers in [webhook.headers(), webhook.svix_headers()] {
        let answer = app.post_with(&headers, BODY).await;
        assert!(answer.is_accepted(), "{answer:?}");
    }
    // As libraries write them.
    let [id, timestamp, signature] = webhook.headers().map(|(_, value)| value);
    let names = ["Webhook-Id", "WEBHOOK-TIMESTAMP", "Webhook-Signature"];
    let mut caller = app.relay().connect().await;
    let lines = names.iter().zip([id, timestamp, signature]).map(|(name, value)| format!("{name}: {value}\r\n"));
    let further = lines.collect::<String>() + &format!("content-length: {}\r\n", BODY.len());
    caller.send(crate::harness::head(&further) + BODY).await;
    assert!(caller.answer().await.is_accepted());
    assert_eq!(app.segment().received().await.len(), 3);
}

#[tokio::test]
async fn a_missing_repeated_or_empty_header_is_named() {
    let app = app().await;
    let webhook = Webhook::sign(&secret(), "msg_1", BODY);
    for (place, name) in NAMES.into_iter().enumerate() {
        let mut missing = webhook.headers().to_vec();
        let (_, value) = missing.remove(place);
        refused_for(&app.post_with(&missing, BODY).await, name);
        for second in [value, "x", ""] {
            let repeated = [&webhook.headers()[..], &[(name, second)]].concat();
            refused_for(&app.post_with(&repeated, BODY).await, name);
            let repeated = [&[(name, second)], &webhook.headers()[..]].concat();
            refused_for(&app.post_with(&repeated, BODY).await, name);
        }
        let empty = [&missing[..], &[(name, "")]].concat();
        refused_for(&app.post_with(&empty, BODY).await, name);
    }
    let answer = app.post_with(&[], BODY).await;
    refused_for(&answer, "webhook-");
    assert_eq!(answer.header("www-authenticate"), None);
    // An empty id is none, even if it is signed.
    refused_for(&post(&app, &Webhook::sign(&secret(), "", BODY)).await, "webhook-id");
    assert!(app.segment().received().await.is_empty());
}

#[tokio::test]
async fn svix_names_count_when_all_of_them_are_there_and_the_standards_are_not() {
    let app = app().await;
    let webhook = Webhook::sign(&secret(), "msg_1", BODY);
    let forged = webhook.with_signature(&webhook_signature(&secret(), "msg_2", &webhook.timestamp, b""));
    for (place, standard) in NAMES.into_iter().enumerate() {
        // One or two of the standard's names beside all of Svix's, right or wrong.
        for other in [&webhook, &forged] {
            let mut two = other.headers().to_vec();
            let one = [two.remove(place)];
            for some in [&two[..], &one[..]] {
                let answer = app.post_with(&[some, &webhook.svix_headers()].concat(), BODY).await;
                assert!(answer.is_accepted(), "{some:?}: {answer:?}");
            }
        }
        let mut of_svix = webhook.svix_headers().to_vec();
        let (name, value) = of_svix.remove(place);
        refused_for(&app.post_with(&of_svix, BODY).await, name);
        // Two of the one and one of the other are neither.
        refused(&app.post_with(&[&of_svix[..], &[(standard, value)]].concat(), BODY).await);
        refused_for(&app.post_with(&[&of_svix[..], &[(name, value), (name, value)]].concat(), BODY).await, name);
    }
    let accepted = app.segment().received().await.len();
    // All of the standard's are there: Svix's mean nothing.
    refused(&app.post_with(&[forged.headers(), webhook.svix_headers()].concat(), BODY).await);
    assert!(app.post_with(&[webhook.headers(), forged.svix_headers()].concat(), BODY).await.is_accepted());
    assert_eq!(app.segment().received().await.len(), accepted + 1);
}

#[tokio::test]
async fn a_timestamp_more_than_five_minutes_off_is_stale_either_way() {
    let app = app().await;
    let signed_at = |timestamp: u64| Webhook::sign_at(&secret(), "msg_1", &timestamp.to_string(), BODY);
    // Time passes between here and there: that brings a future timestamp nearer, and a past one further off.
    assert!(post(&app, &signed_at(now() + TOLERANCE)).await.is_accepted());
    refused_for(&post(&app, &signed_at(now() - TOLERANCE - 1)).await, "webhook-timestamp");
    // A minute for a busy machine.
    assert!(post(&app, &signed_at(now() - TOLERANCE + 60)).await.is_accepted());
    refused_for(&post(&app, &signed_at(now() + TOLERANCE + 60)).await, "webhook-timestamp");
    for off in
        [0, 1, now() / 1_000, now() * 1_000, now() * 1_000_000_000, u64::MAX, i64::MAX as u64, u64::from(u32::MAX)]
    {
        refused_for(&post(&app, &signed_at(off)).await, "webhook-timestamp");
    }
    let late = signed_at(now() - 2 * TOLERANCE);
    refused_for(&app.post_with(&late.svix_headers(), BODY).await, "svix-timestamp");
    assert_eq!(app.segment().received().await.len(), 2);
}

#[tokio::test]
async fn what_is_not_whole_seconds_is_no_timestamp() {
    let app = app().await;
    let now = now();
    let beyond_u64 = u128::from(u64::MAX) + 1 + u128::from(now);
    let eastern: String = now.to_string().chars().map(|digit| char::from_u32(digit as u32 + 0x630).unwrap()).collect();
    let malformed = [
        format!("+{now}"),
        format!("-{now}"),
        "-1".to_owned(),
        "1e9".to_owned(),
        format!("{now}.0"),
        format!("{now}.5"),
        format!("{now},{now}"),
        format!("{now} {now}"),
        format!("{now}s"),
        format!("{now}_000"),
        format!("0x{now:x}"),
        format!("{now:x}"),
        "2026-11-22T09:00:00Z".to_owned(),
        "Sun, 22 Nov 2026 09:00:00 GMT".to_owned(),
        "now".to_owned(),
        "NaN".to_owned(),
        "inf".to_owned(),
        "null".to_owned(),
        beyond_u64.to_string(),
        "18446744073709551616".to_owned(),
        "9".repeat(5_000),
    ];
    for timestamp in &malformed {
        refused_for(&post(&app, &Webhook::sign_at(&secret(), "msg_1", timestamp, BODY)).await, "webhook-timestamp");
    }
    // Digits of another script, which only raw bytes can carry.
    let webhook = Webhook::sign_at(&secret(), "msg_1", &eastern, BODY);
    let lines: String = webhook.headers().iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut caller = app.relay().connect().await;
    caller.send(crate::harness::head(&format!("{lines}content-length: {}\r\n", BODY.len())) + BODY).await;
    refused_for(&caller.answer().await, "webhook-timestamp");
    assert!(app.segment().received().await.is_empty());
}

#[tokio::test]
async fn id_timestamp_and_body_are_all_signed_and_what_differs_is_not_told() {
    let app = app().await;
    let right = Webhook::sign(&secret(), "msg_1", BODY);
    let first = refused(&post(&app, &Webhook::sign(&webhook_secret(b"another"), "msg_1", BODY)).await);
    let minute_ago = (now() - 60).to_string();
    let differing = [
        Webhook { id: "msg_2".to_owned(), ..right.clone() },
        Webhook { id: "MSG_1".to_owned(), ..right.clone() },
        Webhook { timestamp: minute_ago, ..right.clone() },
        Webhook::sign(&secret(), "msg_1", format!("{BODY} ")),
        Webhook::sign(&secret(), "msg_1", ""),
        Webhook::sign(&webhook_secret(b""), "msg_1", BODY),
        // The text of the secret instead of the bytes that it stands for.
        Webhook::sign(&webhook_secret(secret().as_bytes()), "msg_1", BODY),
        right.with_signature(&webhook_signature(&secret(), "msg_1", "", BODY.as_bytes())),
        right.with_signature(&format!("v1,{}=", "A".repeat(43))),
    ];
    for webhook in differing {
        let answer = post(&app, &webhook).await;
        assert_eq!(refused(&answer), first, "{webhook:?}");
        assert!(!format!("{answer:?}").contains(&right.signature[3..]), "the right one is told: {answer:?}");
    }
    refused(&app.post_with(&right.headers(), format!("{BODY} ")).await);
    assert!(app.segment().received().await.is_empty());
    assert!(post(&app, &right).await.is_accepted());
}

#[tokio::test]
async fn one_fitting_signature_among_others_is_enough() {
    let app = app().await;
    let right = Webhook::sign(&secret(), "msg_1", BODY);
    let one = &right.signature;
    let other = Webhook::sign(&webhook_secret(b"another"), "msg_1", BODY).signature;
    // 32 KiB is the limit of a head; a signature has 47 bytes, and a space.
    let many = vec![&*other; 600].join(" ");
    let lists = [
        format!("{one} {other}"),
        format!("{other} {one}"),
        format!("{other} {one} {other}"),
        format!("v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg== {one}"),
        format!("v2,AAAA {one}"),
        format!("nonsense {one}"),
        format!("v1, {one}"),
        format!("v1,!!! {one}"),
        format!("v1,AAAA {one}"),
        format!("{many} {one}"),
    ];
    for list in &lists {
        let answer = post(&app, &right.with_signature(list)).await;
        assert!(answer.is_accepted(), "{list}: {answer:?}");
    }
    refused(&post(&app, &right.with_signature(&many)).await);
    assert_eq!(app.segment().received().await.len(), lists.len());
}

#[tokio::test]
async fn what_holds_no_fitting_signature_is_401() {
    let app = app().await;
    let right = Webhook::sign(&secret(), "msg_1", BODY);
    let bare = &right.signature[3..];
    let of_others = [
        bare.to_owned(),
        "v1".to_owned(),
        "v1,".to_owned(),
        ",".to_owned(),
        "v1,v1,".to_owned() + bare,
        format!("v1a,{bare}"),
        format!("v1,a{bare}"),
        format!("v0,{bare}"),
        format!("v11,{bare}"),
        format!("1,{bare}"),
        format!("v1 {bare}"),
        format!("v1={bare}"),
        format!("v1:{bare}"),
        format!("v1,{}", &bare[..40]),
        format!("v1,{bare}{bare}"),
        format!("v1,{}", bare.to_lowercase()),
        format!("v1,\"{bare}\""),
        format!("v1,{},v1,{}", &"A".repeat(44), bare),
        format!("v1,{bare},v1,{bare}"),
    ];
    for signature in of_others {
        refused(&post(&app, &right.with_signature(&signature)).await);
    }
    assert!(app.segment().received().await.is_empty());
}

#[tokio::test]
async fn an_id_may_be_any_text() {
    let app = app().await;
    let long = "m".repeat(1_024);
    for id in ["a.b", "1.2.3.", "with spaces", "2KWPBgLlAfxdpx2AI54pPJ85f4W", "{}", "a,b", "=", &long] {
        let answer = post(&app, &Webhook::sign(&secret(), id, BODY)).await;
        assert!(answer.is_accepted(), "{id}: {answer:?}");
        assert!((1..=99).contains(&answer.message_id().len()), "{answer:?}");
    }
}

#[tokio::test]
async fn what_is_signed_is_the_body_byte_for_byte_and_what_it_means_is_asked_afterwards() {
    let app = app().await;
    let wrong = Webhook::sign(&webhook_secret(b"another"), "msg_1", BODY);
    for body in [&b""[..], b"\xff\xfe\x00", b"{", b"Hello, World!"] {
        let webhook = Webhook::sign(&secret(), "msg_1", body);
        app.post_with(&webhook.headers(), body).await.assert_failed(400, "invalid_json");
        refused(&app.post_with(&wrong.headers(), body).await);
    }
    let spaced = BODY.replace(',', " ,\r\n");
    assert!(app.post_with(&Webhook::sign(&secret(), "msg_1", &spaced).headers(), spaced).await.is_accepted());
}

#[tokio::test]
async fn padding_of_a_secret_is_optional() {
    // 16, 17 and 18 bytes: with two signs of padding, with one and with none.
    for key in [&[7; 16][..], &[8; 17], &[9; 18], &[10; 64]] {
        let secret = webhook_secret(key);
        for written in [&*secret, secret.trim_end_matches('=')] {
            let app = guarded("standard-webhooks", written).await;
            assert!(post(&app, &Webhook::sign(&secret, "msg_1", BODY)).await.is_accepted(), "{written}");
        }
    }
}

#[tokio::test]
async fn it_is_the_same_over_http_2() {
    let (app, client) = (app().await, h2_client());
    let webhook = Webhook::sign(&secret(), "msg_1", BODY);
    for headers in [webhook.headers(), webhook.svix_headers()] {
        assert!(post_by(&client, app.relay(), &headers, BODY).await.is_accepted());
        refused(&post_by(&client, app.relay(), &headers, format!("{BODY} ")).await);
        refused(&post_by(&client, app.relay(), &headers[..2], BODY).await);
        refused(&post_by(&client, app.relay(), &[&headers[..], &headers[..1]].concat(), BODY).await);
    }
    assert_eq!(app.segment().received().await.len(), 2);
}
