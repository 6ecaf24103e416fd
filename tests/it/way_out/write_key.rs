//! A write key that cannot be one. Segment would say 200 to it and drop every call.

use super::{run, stops};
use crate::harness::{Segment, WRITE_KEY};

const NAME: &str = "SEGMENT_WRITE_KEY";

#[tokio::test]
async fn a_text_that_cannot_be_a_write_key_stops_the_start_and_the_message_says_why() {
    let long = "k".repeat(257);
    for (key, says) in [
        (r#""s3cr3tkey""#, "quotes"),
        ("'s3cr3tkey'", "--env-file"),
        (r#""s3cr3tkey"#, "quotes"),
        ("${S3CR3TKEY}", "not replaced"),
        ("$(S3CR3TKEY)", "not replaced"),
        ("$S3CR3TKEY", "not replaced"),
        ("{{s3cr3tkey}}", "not replaced"),
        ("s3cr3tkey:", "colon"),
        ("s3cr3tkey ", "white space"),
        (" s3cr3tkey", "white space"),
        ("s3cr3tkey\n", "white space"),
        ("s3cr3t key", "white space"),
        ("s3cr3tkey=", "letters"),
        ("s3cr3tkéy", "letters"),
        (" ", "blank"),
        ("\n\t", "blank"),
        ("???", "letters"),
        ("s3cr3tkey\u{200b}", "letters"),
        (&long, "256"),
    ] {
        let line = stops(&[(NAME, key)], NAME, &["s3cr3t", "S3CR3T", "kkkk"]).await;
        assert!(line.contains(says), "{key}: {line}");
    }
}

#[tokio::test]
async fn a_placeholder_stops_the_start_by_its_name() {
    for key in [
        "YOUR_WRITE_KEY",
        "your-key",
        "<YOUR_WRITE_KEY>",
        "YOUR_SEGMENT_WRITE_KEY",
        "SEGMENT_WRITE_KEY",
        "segment-write-key",
        "your-write-key-here",
        "changeme",
        "change-me",
        "replace_me",
        "TODO",
        "placeholder",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "XXXX-XXXX",
        "ENTER_YOUR_WRITE_KEY",
        "PASTE_YOUR_WRITE_KEY_HERE",
        "put-your-key-here",
        "null",
        "undefined",
        "None",
        "...",
    ] {
        let line = stops(&[(NAME, key)], NAME, &[]).await;
        assert!(line.contains("placeholder"), "{key}: {line}");
    }
}

#[tokio::test]
async fn a_length_that_is_not_a_write_keys_is_warned_about() {
    let segment = Segment::start().await;
    let endpoint = ("SEGMENT_ENDPOINT", segment.url());
    let warned = async |key: &str| {
        let (code, printed) = run("check", &[endpoint, (NAME, key)]).await;
        assert_eq!(code, Some(0), "{printed:?}");
        printed.iter().any(|line| line.contains(NAME) && line.contains("32"))
    };
    assert!(warned(&WRITE_KEY[1..]).await);
    assert!(warned("write_key").await && warned("x").await);
    for key in ["key", "test", "my-segment-write-key", "nonesuch", "yours", "the-keyboard-of-your-friend"] {
        assert!(warned(key).await, "{key}");
    }
    assert!(!warned(WRITE_KEY).await);
    assert!(!warned("dev").await, "it is the sandbox's, which takes any");
}
