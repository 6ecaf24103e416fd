//! Files that are right, and what is read of them.

use std::time::Duration;

use axum::http::{HeaderName, header};

use super::{Files, only, read, shop};
use crate::auth::{self, Algorithm, Challenge, Encoding, Scheme, SecretForm, TimeUnit};
use crate::config::Secret;
use crate::sources::settings::{KeyPart, OnError, values};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn the_documented_file_is_read() {
    let table = Files::new()
        .with("sources.toml", include_str!("documented.toml"))
        .with("stripe.jq", ".data.object\n\n")
        .with("hubspot.jq", ".[] | {messageId: .eventId}")
        .with("stripe-secret", "whsec_of_stripe_which_is_long_enough\n")
        .read()
        .unwrap_or_else(|problems| panic!("{problems:#?}"));
    let names: Vec<_> = table.names().map(|name| &**name).collect();
    assert_eq!(names, ["hubspot", "shop_of_our_own", "shopify", "stripe"]);
    let shopify = table.get("shopify").unwrap();
    assert_eq!((&*shopify.verify, shopify.window, shopify.max_body), ("shopify", 8 * DAY, 256 * 1024));
    let part = |name| KeyPart::Header(HeaderName::from_static(name));
    assert_eq!(shopify.key, [part("x-shopify-topic"), part("x-shopify-event-id")]);
    let filter = shopify.filter.as_ref().unwrap();
    assert_eq!(filter.place, "sources.toml: shopify.map");
    assert!(filter.text.starts_with("select(header(") && filter.text.ends_with("}\n"), "{}", filter.text);
    let stripe = table.get("stripe").unwrap();
    let filter = stripe.filter.as_ref().unwrap();
    assert_eq!((&*filter.place, &*filter.text), ("stripe.jq", ".data.object"));
    assert!(stripe.verifier.holds("whsec_of_stripe_which_is_long_enough"));
    assert_eq!(stripe.key, [KeyPart::Body("/id".to_owned())]);
    let hubspot = table.get("hubspot").unwrap();
    assert_eq!((hubspot.answer, hubspot.max_body), (Some(200), 1024 * 1024));
    let own = table.get("shop_of_our_own").unwrap();
    assert_eq!(own.verify, "signature");
    let Scheme::Signature(signature) = &own.scheme else { panic!("{:?}", own.scheme) };
    assert_eq!(signature.signed, "{timestamp}.{body}");
    assert_eq!(own.examples.len(), 1);
    assert_eq!(own.examples[0].body, r#"{"customer":{"no":"c-1042","mail":"ada@example.com"}}"#);
    assert!(own.examples[0].expect.as_ref().unwrap().contains("c-1042"));
    assert_eq!(table.filters().len(), 4);
    assert!(table.stand_ins().is_empty());
}

#[test]
fn what_the_file_does_not_say_has_a_default() {
    let source = only("[shop]\nverify = 'bearer'\nsecrets = ['env:SHOP']");
    assert!(source.key.is_empty() && source.examples.is_empty() && source.filter.is_none());
    assert!(source.write_key.is_none() && source.challenge.is_none());
    assert_eq!((source.answer, source.on_error), (None, None));
    assert_eq!((source.window, source.max_body), (8 * DAY, 256 * 1024));
}

#[test]
fn the_eight_values_are_read() {
    let source = only(
        "[shop]\nsecrets = ['env:SHOP', 'env:OTHER']\nurl = 'https://relay.example/sources/shop?a=b'\n\
         [shop.verify]\nheader = 'X-Signature'\nformat = 'v1,{signature}'\nsigned = '{id}{timestamp}{url}{body}'\n\
         encoding = 'base64'\nalgorithm = 'hmac-sha512'\nsecret_is = 'text'\nsecret_prefix = 'a'\nid_header = 'X-Id'\n\
         timestamp = {header = 'X-Time', unit = 'ms'}",
    );
    let Scheme::Signature(signature) = &source.scheme else { panic!("{:?}", source.scheme) };
    assert_eq!((signature.encoding, signature.algorithm), (Encoding::Base64, Algorithm::HmacSha512));
    assert_eq!((signature.header.as_str(), &*signature.format), ("x-signature", "v1,{signature}"));
    assert_eq!((signature.secret_is, signature.id_header.as_ref().unwrap().as_str()), (SecretForm::Text, "x-id"));
    assert_eq!(signature.secret_prefix.as_deref(), Some("a"));
    let time = signature.timestamp.as_ref().unwrap();
    assert_eq!((time.header.as_ref().unwrap().as_str(), time.unit), ("x-time", TimeUnit::Milliseconds));
    assert_eq!(time.tolerance, Duration::from_secs(300));
    assert!(["SHOP", "OTHER"].iter().all(|name| {
        let secret = super::VARIABLES.iter().find(|(variable, _)| variable == name).unwrap().1;
        source.verifier.holds(secret)
    }));
}

#[test]
fn a_token_is_in_the_authorization_header_or_another() {
    let header = |text: &str| match &only(text).scheme {
        Scheme::Token { header } => header.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(header("[a]\nverify = 'token'\nsecrets = ['env:SHOP']"), header::AUTHORIZATION);
    let named = header("[a]\nverify = 'token'\nheader = 'X-Token'\nsecrets = ['env:SHOP']");
    assert_eq!(named.as_str(), "x-token");
    let preset = header("[a]\nverify = 'okta'\nheader = 'X-Token'\nsecrets = ['env:SHOP']");
    assert_eq!(preset.as_str(), "x-token");
}

#[test]
fn every_preset_is_read_with_a_stand_in_and_its_key_is_one() {
    for preset in auth::presets() {
        let url = match preset.scheme() {
            Scheme::Signature(signature) if signature.signed.contains("{url}") => "url = 'https://relay.example/a'",
            _ => "",
        };
        let text = format!("[a]\nverify = '{}'\nsecrets = ['env:NONE']\n{url}", preset.name);
        let mut files = Files::new().with("sources.toml", text);
        files.has_stand_ins = true;
        let table = files.read().unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert_eq!(table.get("a").unwrap().key.len(), preset.key.len(), "{}", preset.name);
        assert!(preset.key.iter().all(|part| values::key_part(part).is_ok()), "{}", preset.name);
        let places: Vec<_> = table.stand_ins().iter().map(|stand_in| &*stand_in.place).collect();
        assert_eq!(places, ["env:NONE"], "{}", preset.name);
    }
}

#[test]
fn the_file_overrides_what_its_preset_says() {
    let source = only(&shop("key = ['body:/id', 'header:X-Topic']\nanswer = 200\nwindow = '3days'"));
    let key = [KeyPart::Body("/id".to_owned()), KeyPart::Header(HeaderName::from_static("x-topic"))];
    assert_eq!(source.key, key);
    assert_eq!((source.answer, source.window), (Some(200), 3 * DAY));
    assert!(only(&shop("key = []")).key.is_empty());
}

#[test]
fn every_handshake_is_read() {
    let challenge = |text: &str| only(&shop(&format!("challenge = {text}"))).challenge.clone().unwrap();
    let header = HeaderName::from_static("x-challenge");
    let answer = "verification".to_owned();
    let expected = Challenge::Header { header, answer };
    assert_eq!(challenge("{method = 'GET', header = 'X-Challenge', answer = 'verification'}"), expected);
    assert_eq!(challenge("{header = 'X-Challenge', answer = 'verification'}"), expected);
    let [field, kind, value] = ["challenge", "type", "url_verification"].map(str::to_owned);
    let expected = Challenge::Field { field: field.clone(), when: (kind, value), answer: field };
    let text = "{field = 'challenge', when = {type = 'url_verification'}, answer = 'challenge'}";
    assert_eq!(challenge(text), expected);
    assert_eq!(challenge("{form = 'webhook_id'}"), Challenge::Form { field: "webhook_id".to_owned() });
}

#[test]
fn write_keys_and_windows_are_by_source() {
    let text = format!("{}window = '1h'\nwrite_key = 'env:KEY'\n[own]\nverify = 'none'", shop(""));
    let table = read(&text).unwrap();
    let default = Secret::new("the-default");
    let keys = table.write_keys(&default);
    let key = |source: Option<&str>| keys.of(source).map(Secret::reveal);
    assert_eq!(key(Some("shop")), Some("abcdefghijklmnopqrstuvwxyz012345"));
    assert_eq!((key(Some("own")), key(None), key(Some("gone"))), (Some("the-default"), Some("the-default"), None));
    let windows: Vec<_> = table.key_windows().into_values().collect();
    assert_eq!(windows, [8 * DAY, DAY / 24]);
}

#[test]
fn examples_have_headers_in_small_letters() {
    let text = "[[shop.example]]\nheaders = {X-Topic = 'a b', x-empty = ''}\nbody = 'no json'\n[[shop.example]]\nbody = ''\nexpect = ' []'";
    let examples = &only(&shop(text)).examples;
    let headers: Vec<_> = examples[0].headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(headers, [("x-topic", &b"a b"[..]), ("x-empty", b"")]);
    assert_eq!((&*examples[0].body, examples[0].expect.as_deref()), (&b"no json"[..], None));
    assert_eq!(examples[1].expect.as_deref(), Some(" []"));
}

#[test]
fn a_file_without_a_source_is_right() {
    assert_eq!(read("# none\n").unwrap().iter().count(), 0);
}

#[test]
fn keep_is_right_with_an_outbox() {
    assert_eq!(only(&shop("on_error = 'keep'")).on_error, Some(OnError::Keep));
    assert_eq!(only(&shop("on_error = 'refuse'")).on_error, Some(OnError::Refuse));
}
