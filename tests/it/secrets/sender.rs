//! A sender that shows what `RELAY_AUTH` asks for, and one that does not have it.

use crate::harness::sign::{Webhook, basic, hmac_hex};

/// A scheme, a secret that is accepted beside another one, and one that is not.
pub struct Sender {
    pub scheme: &'static str,
    pub secrets: [&'static str; 2],
    pub wrong: &'static str,
}

/// Every scheme of `RELAY_AUTH`.
pub const SENDERS: [Sender; 5] = [
    Sender {
        scheme: "none",
        secrets: ["unused-secret-of-nobody", "unused-2nd-of-nobody"],
        wrong: "nothing-is-wrong-here",
    },
    Sender {
        scheme: "standard-webhooks",
        secrets: ["whsec_c2lnbmluZy1zZWNyZXQtb2YtdGhlLXNlbmRlci0x", "whsec_b2xkZXItc2VjcmV0LW9mLXRoZS1zZW5kZXItMg=="],
        wrong: "whsec_c2VjcmV0LW9mLWEtc3RyYW5nZXItMw==",
    },
    Sender {
        scheme: "hmac",
        secrets: ["hmac-key-of-9f31-sender", "hmac-elder-7c20-key"],
        wrong: "hmac-guess-55d1-stranger",
    },
    Sender { scheme: "bearer", secrets: ["t0ken-5d8e-of-the-sender", "elder-t0ken-91ab"], wrong: "guessed-t0ken-77cc" },
    Sender {
        scheme: "basic",
        secrets: ["webhook-user:pa55w0rd-3e1f", "elder-user:pa55w0rd-8d2a"],
        wrong: "webhook-user:guess-4b7c-pa55",
    },
];

impl Sender {
    /// What the relay has to be told.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let secrets = self.secrets.join(",");
        let mut settings = vec![("RELAY_AUTH", self.scheme.to_owned())];
        settings.extend((self.scheme != "none").then_some(("RELAY_AUTH_SECRETS", secrets)));
        settings
    }

    /// The headers under which this body is let in.
    pub fn headers(&self, body: &str) -> Vec<(&'static str, String)> {
        self.headers_with(self.secrets[0], body)
    }

    /// The headers of somebody who does not know the secret.
    pub fn wrong_headers(&self, body: &str) -> Vec<(&'static str, String)> {
        self.headers_with(self.wrong, body)
    }

    fn headers_with(&self, secret: &str, body: &str) -> Vec<(&'static str, String)> {
        match self.scheme {
            "standard-webhooks" => {
                // An id for each body, as a sender has it.
                let Webhook { id, timestamp, signature } =
                    Webhook::sign(secret, &format!("msg_{}", hmac_hex("id", body)), body);
                vec![("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)]
            }
            "hmac" => vec![("x-signature-256", format!("sha256={}", hmac_hex(secret, body)))],
            "bearer" => vec![("authorization", format!("Bearer {secret}"))],
            "basic" => vec![("authorization", basic(secret))],
            _ => Vec::new(),
        }
    }
}
