//! Vectors that others published, and the harness's own signatures held against them.

use super::{BODY, guarded, refused, refused_for};
use crate::harness::App;
use crate::harness::sign::{Webhook, basic, hmac_hex, now, webhook_signature};

/// The vector of Standard Webhooks' reference libraries (`libraries/*/` of
/// <https://github.com/standard-webhooks/standard-webhooks>) and of Svix's, which it comes from.
mod standard {
    pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    pub const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    pub const TIMESTAMP: &str = "1614265330";
    pub const BODY: &str = r#"{"test": 2432232314}"#;
    pub const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
}

#[tokio::test]
async fn the_vector_of_standard_webhooks_is_right_and_long_out_of_date() {
    let signature = webhook_signature(standard::SECRET, standard::ID, standard::TIMESTAMP, standard::BODY.as_bytes());
    assert_eq!(signature, standard::SIGNATURE);
    let app = guarded("standard-webhooks", standard::SECRET).await;
    let vector = Webhook::sign_at(standard::SECRET, standard::ID, standard::TIMESTAMP, standard::BODY);
    refused_for(&app.post_with(&vector.headers(), standard::BODY).await, "webhook-timestamp");
    refused_for(&app.post_with(&vector.svix_headers(), standard::BODY).await, "svix-timestamp");
    // Signed today it passes, and is asked what it means.
    let today = Webhook::sign(standard::SECRET, standard::ID, standard::BODY);
    for headers in [today.headers(), today.svix_headers()] {
        app.post_with(&headers, standard::BODY).await.assert_failed(422, "invalid_payload");
    }
    // With the timestamp of today and the signature of then it does not.
    let mixed = Webhook { timestamp: now().to_string(), ..vector };
    refused(&app.post_with(&mixed.headers(), standard::BODY).await);
}

/// GitHub's "Validating webhook deliveries", section "Testing the webhook payload validation".
#[tokio::test]
async fn the_vector_of_github_opens_and_one_digit_less_does_not() {
    let (secret, body) = ("It's a Secret to Everybody", "Hello, World!");
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert_eq!(format!("sha256={}", hmac_hex(secret, body)), signature);
    let settings =
        [("RELAY_AUTH", "hmac"), ("RELAY_AUTH_SECRETS", secret), ("RELAY_AUTH_HMAC_HEADER", "X-Hub-Signature-256")];
    let app = App::with(&settings).await;
    app.post_with(&[("X-Hub-Signature-256", signature)], body).await.assert_failed(400, "invalid_json");
    let wrong = signature.replace("3e17", "3e18");
    refused(&app.post_with(&[("X-Hub-Signature-256", &wrong)], body).await);
    refused(&app.post_with(&[("X-Hub-Signature-256", signature)], "Hello, World").await);
    refused_for(&app.post_with(&[("X-Signature-256", signature)], body).await, "x-hub-signature-256");
}

/// RFC 4231, section 4.3: a key shorter than the hash. Section 4.7 has one longer than a block, but of bytes that are no
/// text, which no environment can hold.
#[tokio::test]
async fn the_vector_of_rfc_4231_opens() {
    let digest = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let body = "what do ya want for nothing?";
    let app = guarded("hmac", "Jefe").await;
    app.post_with(&[("x-signature-256", digest)], body).await.assert_failed(400, "invalid_json");
    refused(&app.post_with(&[("x-signature-256", digest)], "what do ya want for nothing!").await);
}

/// RFC 7617, section 2 ("Aladdin") and section 2.1 (the pound sign in UTF-8).
#[tokio::test]
async fn the_examples_of_rfc_7617_open() {
    let examples =
        [("Aladdin:open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), ("test:123\u{a3}", "Basic dGVzdDoxMjPCow==")];
    for (credentials, authorization) in examples {
        assert_eq!(basic(credentials), authorization);
        let app = guarded("basic", credentials).await;
        let answer = app.post_with(&[("authorization", authorization)], BODY).await;
        assert!(answer.is_accepted(), "{answer:?}");
        // The pound sign in ISO 8859-1 is another password.
        refused(&app.post_with(&[("authorization", &basic(b"test:123\xa3"))], BODY).await);
    }
}

/// RFC 6750, section 2.1.
#[tokio::test]
async fn the_example_of_rfc_6750_opens() {
    let app = guarded("bearer", "mF_9.B5f-4.1JqM").await;
    assert!(app.post_with(&[("authorization", "Bearer mF_9.B5f-4.1JqM")], BODY).await.is_accepted());
    refused(&app.post_with(&[("authorization", "Bearer mF_9.B5f-4.1JqN")], BODY).await);
}
