//! Products whose way to prove themselves is known: a scheme under a name, and where the id of an event is.
//!
//! This is a table and nothing else. A product that is not in it costs its operator a few lines of settings, and no release.

use std::sync::LazyLock;
use std::time::Duration;

use axum::http::HeaderName;
use axum::http::header::AUTHORIZATION;

use super::scheme::{Algorithm, Challenge, Encoding, Scheme, SecretForm, SignatureScheme, TimeUnit, TimestampScheme};

/// A product.
#[derive(Debug)]
pub struct Preset {
    pub name: &'static str,
    scheme: Scheme,
    /// Where the event's id is, as in the file of sources. Empty: there is none, or only in each part of an event.
    pub key: &'static [&'static str],
    /// The status that the product takes for a success, where it does not take every 2xx.
    pub answer: Option<u16>,
    pub challenge: Option<Challenge>,
    /// What is known of the product, and what is not.
    pub known: &'static str,
}

impl Preset {
    /// How the product proves who it is.
    pub fn scheme(&self) -> Scheme {
        self.scheme.clone()
    }
}

/// All presets.
pub fn presets() -> &'static [Preset] {
    &PRESETS
}

/// The preset of this name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// The header of Stripe and of those who do as Stripe does, and what they sign.
const STRIPE_FORMAT: &str = "t={timestamp},v1={signature}";
const STRIPE_SIGNED: &str = "{timestamp}.{body}";

static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    use Encoding::Base64;
    use TimeUnit::{Milliseconds, Rfc3339, Seconds};
    vec![
        Preset {
            key: &["header:x-shopify-topic", "header:x-shopify-event-id"],
            known: "Shopify documents it; it signs no time, and neither the topic nor the event's id",
            ..signed("shopify", SignatureScheme { encoding: Base64, ..header("x-shopify-hmac-sha256") })
        },
        Preset {
            key: &["body:/id"],
            known: "two descriptions agree; the secret is used with its prefix whsec_, and signatures v0 are passed over",
            ..signed("stripe", as_stripe("stripe-signature", Seconds, 5 * MINUTE))
        },
        Preset {
            known: "HubSpot documents it; it signs the registered URL with escapes such as %40 decoded, so write it decoded; an event's id is in each part of the body",
            ..signed(
                "hubspot-v3",
                SignatureScheme {
                    signed: "{method}{url}{body}{timestamp}".to_owned(),
                    encoding: Base64,
                    timestamp: Some(time_in("x-hubspot-request-timestamp", Milliseconds)),
                    ..header("x-hubspot-signature-v3")
                },
            )
        },
        Preset {
            known: "HubSpot documents it with an example, which comes out; it signs no time, and its digest is plain: prefer hubspot-v3",
            ..signed("hubspot-v2", plain("x-hubspot-signature", "{secret}{method}{url}{body}"))
        },
        Preset {
            known: "HubSpot documents it with an example, which comes out; it signs no time, and its digest is plain: prefer hubspot-v3",
            ..signed("hubspot-v1", plain("x-hubspot-signature", "{secret}{body}"))
        },
        Preset {
            key: &["header:x-wc-webhook-delivery-id"],
            challenge: Some(Challenge::Form { field: "webhook_id".to_owned() }),
            known: "WooCommerce documents it; it signs no time, and neither the topic nor the delivery's id; the unsigned form it sends first is from general knowledge",
            ..signed("woocommerce", SignatureScheme { encoding: Base64, ..header("x-wc-webhook-signature") })
        },
        Preset {
            key: &["header:svix-id"],
            known: "Clerk sends by Svix, whose published example comes out",
            ..signed("clerk", webhook(["svix-id", "svix-timestamp", "svix-signature"], "whsec_"))
        },
        Preset {
            key: &["header:svix-id"],
            known: "the published example comes out",
            ..signed("svix", webhook(["svix-id", "svix-timestamp", "svix-signature"], "whsec_"))
        },
        Preset {
            key: &["header:webhook-id"],
            known: "the specification's example comes out; signatures of other versions than v1 are passed over",
            ..signed("standard-webhooks", webhook(STANDARD, "whsec_"))
        },
        Preset {
            key: &["header:webhook-id"],
            known: "several receivers of auth hooks agree; Supabase's own page was not seen",
            ..signed("supabase-auth", webhook(STANDARD, "v1,whsec_"))
        },
        Preset {
            key: &["header:x-github-delivery"],
            known: "GitHub documents it with an example, which comes out; it signs no time, and neither the event's name nor the delivery's id",
            ..signed(
                "github",
                SignatureScheme { format: "sha256={signature}".to_owned(), ..header("x-hub-signature-256") },
            )
        },
        Preset {
            key: &["body:/id"],
            known: "Intercom documents it; it signs no time",
            ..signed(
                "intercom",
                SignatureScheme {
                    format: "sha1={signature}".to_owned(),
                    algorithm: Algorithm::HmacSha1,
                    ..header("x-hub-signature")
                },
            )
        },
        Preset {
            key: &["body:/id"],
            known: "Zendesk documents the signature, and no tolerance of the time: 5 minutes are the relay's choice",
            ..signed(
                "zendesk",
                SignatureScheme {
                    signed: "{timestamp}{body}".to_owned(),
                    encoding: Base64,
                    timestamp: Some(time_in("x-zendesk-webhook-signature-timestamp", Rfc3339)),
                    ..header("x-zendesk-webhook-signature")
                },
            )
        },
        Preset {
            key: &["body:/event", "body:/payload/uri", "body:/created_at"],
            known: "two descriptions agree; Calendly signs only for subscriptions that have a signing key",
            ..signed("calendly", as_stripe("calendly-webhook-signature", Seconds, 3 * MINUTE))
        },
        Preset {
            key: &["body:/event_id"],
            known: "several descriptions agree; it signs no time; Typeform signs only where a secret is set",
            ..signed(
                "typeform",
                SignatureScheme {
                    format: "sha256={signature}".to_owned(),
                    encoding: Base64,
                    ..header("typeform-signature")
                },
            )
        },
        Preset {
            key: &["body:/event_id"],
            answer: Some(200),
            known: "two descriptions agree; Paddle's own libraries tolerate 5 seconds, the relay 5 minutes",
            ..signed(
                "paddle",
                SignatureScheme {
                    format: "ts={timestamp};h1={signature}".to_owned(),
                    signed: "{timestamp}:{body}".to_owned(),
                    timestamp: Some(time(None, Seconds, 5 * MINUTE)),
                    ..header("paddle-signature")
                },
            )
        },
        Preset {
            answer: Some(200),
            known: "Recharge documents it; the time is tolerated for the 48 hours of its retries, and whether a retry is signed anew is not known; its events have no id",
            ..signed("recharge", as_stripe("x-recharge-webhook-signature", Seconds, 48 * HOUR))
        },
        Preset {
            answer: Some(200),
            known: "three descriptions agree; it signs no time, and its digest is plain in spite of the header's name: prefer recharge; its events have no id",
            ..signed("recharge-old", plain("x-recharge-hmac-sha256", "{secret}{body}"))
        },
        Preset {
            key: &["body:/event_id"],
            known: "Customer.io documents the header, and several receivers agree on the signed text; no tolerance of the time is documented: 5 minutes are the relay's choice",
            ..signed(
                "customer-io",
                SignatureScheme {
                    signed: "v0:{timestamp}:{body}".to_owned(),
                    timestamp: Some(time_in("x-cio-timestamp", Seconds)),
                    ..header("x-cio-signature")
                },
            )
        },
        Preset {
            key: &["body:/event_id"],
            challenge: Some(Challenge::Field {
                field: "challenge".to_owned(),
                when: ("type".to_owned(), "url_verification".to_owned()),
                answer: "challenge".to_owned(),
            }),
            known: "Slack's own library and its example, which comes out",
            ..signed(
                "slack",
                SignatureScheme {
                    format: "v0={signature}".to_owned(),
                    signed: "v0:{timestamp}:{body}".to_owned(),
                    timestamp: Some(time_in("x-slack-request-timestamp", Seconds)),
                    ..header("x-slack-signature")
                },
            )
        },
        Preset {
            key: &["body:/event_id"],
            known: "Square documents it; it signs the registered URL and no time",
            ..signed(
                "square",
                SignatureScheme {
                    signed: "{url}{body}".to_owned(),
                    encoding: Base64,
                    ..header("x-square-hmacsha256-signature")
                },
            )
        },
        Preset {
            key: &["body:/meta/event_name", "body:/data/id", "body:/data/attributes/updated_at"],
            answer: Some(200),
            known: "Lemon Squeezy documents it; it signs no time, and counts every status but 200 as a failure",
            ..signed("lemon-squeezy", header("x-signature"))
        },
        Preset {
            known: "Webflow documents it; webhooks made in its dashboard are not signed; whether an event's id is the same at a retry is not known",
            ..signed(
                "webflow",
                SignatureScheme {
                    signed: "{timestamp}:{body}".to_owned(),
                    timestamp: Some(time_in("x-webflow-timestamp", Milliseconds)),
                    ..header("x-webflow-signature")
                },
            )
        },
        Preset {
            key: &["body:/id"],
            answer: Some(200),
            known: "WorkOS documents it; whether it shows several signatures while a secret is rotated is not known",
            ..signed("workos", as_stripe("workos-signature", Milliseconds, 3 * MINUTE))
        },
        Preset {
            key: &["body:/eventId"],
            challenge: Some(Challenge::Header {
                header: HeaderName::from_static("x-okta-verification-challenge"),
                answer: "verification".to_owned(),
            }),
            known: "Okta documents it: a fixed text in a header, and no signature",
            ..of("okta", token())
        },
        Preset {
            known: "Auth0 documents it: a fixed text in a header, and no signature; an event's id is in each part of the body",
            ..of("auth0-logs", token())
        },
        Preset {
            key: &["body:/id"],
            known: "Auth0 documents it: a bearer token, and no signature; for a user and password set basic",
            ..of("auth0-stream", Scheme::Bearer)
        },
        Preset {
            key: &["body:/id"],
            known: "Chargebee documents it: a user and password, and no signature",
            ..of("chargebee", Scheme::Basic)
        },
        Preset {
            known: "Supabase documents it: headers of your own on a database webhook, and no signature; its events have no id",
            ..of("supabase", token())
        },
        Preset {
            key: &["body:/hash"],
            answer: Some(200),
            known: "descriptions of a signature contradict each other; headers of your own, such as a token, are documented",
            ..of("bigcommerce", token())
        },
    ]
});

const STANDARD: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

fn of(name: &'static str, scheme: Scheme) -> Preset {
    Preset { name, scheme, key: &[], answer: None, challenge: None, known: "" }
}

fn signed(name: &'static str, scheme: SignatureScheme) -> Preset {
    of(name, Scheme::Signature(Box::new(scheme)))
}

fn token() -> Scheme {
    Scheme::Token { header: AUTHORIZATION }
}

fn header(name: &'static str) -> SignatureScheme {
    SignatureScheme::new(HeaderName::from_static(name))
}

fn time(header: Option<&'static str>, unit: TimeUnit, seconds: u64) -> TimestampScheme {
    let header = header.map(HeaderName::from_static);
    TimestampScheme { header, unit, tolerance: Duration::from_secs(seconds) }
}

/// A time in a header of its own, which may be five minutes off.
fn time_in(header: &'static str, unit: TimeUnit) -> TimestampScheme {
    time(Some(header), unit, 5 * MINUTE)
}

fn as_stripe(name: &'static str, unit: TimeUnit, seconds: u64) -> SignatureScheme {
    SignatureScheme {
        format: STRIPE_FORMAT.to_owned(),
        signed: STRIPE_SIGNED.to_owned(),
        timestamp: Some(time(None, unit, seconds)),
        ..header(name)
    }
}

fn plain(name: &'static str, signed: &str) -> SignatureScheme {
    SignatureScheme { signed: signed.to_owned(), algorithm: Algorithm::Sha256, ..header(name) }
}

/// As the specification of Standard Webhooks says.
fn webhook([id, timestamp, signature]: [&'static str; 3], secret_prefix: &str) -> SignatureScheme {
    SignatureScheme {
        format: "v1,{signature}".to_owned(),
        signed: "{id}.{timestamp}.{body}".to_owned(),
        encoding: Encoding::Base64,
        timestamp: Some(time_in(timestamp, TimeUnit::Seconds)),
        secret_is: SecretForm::Base64,
        secret_prefix: Some(secret_prefix.to_owned()),
        id_header: Some(HeaderName::from_static(id)),
        ..header(signature)
    }
}
