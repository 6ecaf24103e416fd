//! What is allowed and warned about.

use super::{Files, shop};

fn warnings(text: &str) -> Vec<String> {
    let table = Files::new().with("sources.toml", text).read().unwrap_or_else(|problems| panic!("{problems:#?}"));
    table.warnings()
}

/// What is warned about in a source that signs a time and has these further lines.
fn of_stripe(lines: &str) -> Vec<String> {
    warnings(&shop(lines).replace("\"shopify\"", "'stripe'"))
}

#[test]
fn a_usual_source_is_not_warned_about() {
    assert_eq!(of_stripe("window = '10m'"), [""; 0]);
    assert_eq!(warnings("# none"), [""; 0]);
}

#[test]
fn a_source_that_verifies_nobody_is_warned_about() {
    let expected = "shop: verify is none: whoever can reach this port can send its events";
    assert_eq!(warnings("[shop]\nverify = 'none'\nkey = ['body:/id']"), [expected]);
}

#[test]
fn a_source_without_a_key_is_warned_about_unless_its_filter_makes_one() {
    let expected = "shop: there is no key, so an event that is sent again is a new one";
    assert_eq!(of_stripe("key = []\nmap = '{userId: .id}'"), [expected]);
    assert_eq!(of_stripe("key = []\nmap = '{userId: .id, messageId: .event}'"), [""; 0]);
}

#[test]
fn a_window_shorter_than_a_signature_is_valid_is_warned_about() {
    let found = of_stripe("window = '9m'");
    assert!(found.len() == 1 && found[0].starts_with("shop: window is shorter than"), "{found:?}");
}

#[test]
fn a_write_key_of_another_length_is_warned_about() {
    assert_eq!(of_stripe("write_key = 'env:KEY'"), [""; 0]);
    let found = of_stripe("write_key = 'env:SHOP'");
    assert!(found.len() == 1 && found[0].starts_with("shop: write_key has 33 characters"), "{found:?}");
}

#[test]
fn sources_without_an_outbox_are_warned_about_once() {
    let text = "[a]\nverify = 'stripe'\nsecrets = ['env:SHOP']\n[b]\nverify = 'stripe'\nsecrets = ['env:SHOP']";
    let mut files = Files::new().with("sources.toml", text);
    files.has_outbox = false;
    let found = files.read().unwrap_or_else(|problems| panic!("{problems:#?}")).warnings();
    assert!(found.len() == 1 && found[0].starts_with("RELAY_SOURCES is set and RELAY_OUTBOX_URL is not"), "{found:?}");
}

#[test]
fn recorded_requests_that_pass_for_new_events_are_warned_about_once() {
    let two = format!("{}{}", shop(""), shop("").replace("shop", "other").replace("otherify", "shopify"));
    let found = warnings(&two);
    assert!(found.len() == 1 && found[0].starts_with("other, shop: neither the time nor the key"), "{found:?}");
    assert_eq!(warnings(&shop("key = ['body:/id', 'body:/updated_at']")), [""; 0]);
    let signed = "[shop]\nsecrets = ['env:SHOP']\nkey = ['header:x-id']\n[shop.verify]\nheader = 'x-signature'\nsigned = '{id}{body}'\nid_header = 'x-id'";
    assert_eq!(warnings(signed), [""; 0]);
    assert_eq!(warnings(&signed.replace("{id}{body}", "{body}").replace("\nid_header = 'x-id'", "")).len(), 1);
}

#[test]
fn secrets_that_are_probably_mistakes_are_warned_about() {
    let text = "[shop]\nverify = 'stripe'\nsecrets = ['env:SHOP', 'env:CHANGEME', 'file:quoted']";
    let files = Files::new().with("sources.toml", text).with("quoted", "\"a-secret-in-quotes\"\n");
    let found = files.read().unwrap_or_else(|problems| panic!("{problems:#?}")).warnings();
    let expected = ["number 2 of 3 is a placeholder", "number 2 of 3 is shorter than", "number 3 of 3 is in quotes"];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(&format!("shop: secrets: {expected}")), "{found}");
    }
}
