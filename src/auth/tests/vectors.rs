//! One request of each preset that signs: published examples, and values that another implementation of the digests made.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::auth::{Scheme, Unauthorized, Verifier, preset, presets};

const SECRET: &str = "relay-test-secret";
const SVIX_SECRET: &str = "whsec_cmVsYXktdGVzdC1rZXktb2YtMjQtYnl0";
const BODY: &str = r#"{"id":7345678901234567890,"email":"maren.okonjo@mail.example"}"#;
const URL: &str = "https://relay.example/sources/test";
/// 2026-11-26T18:00:00.123Z.
const NOW: u64 = 1_795_716_000_123;

const BASE64: &str = "NkB4BofA0aBfLKEvV/laaOE14JbqyB1g/IZ0gV7AS3k=";
const HEX: &str = "3640780687c0d1a05f2ca12f57f95a68e135e096eac81d60fc8674815ec04b79";
const DOT: &str = "2689f90281238d75068536b30556fcd6931e95110ac06b96e10e7080c60ca2e2";
const DOT_MS: &str = "093043ecfb60dd0f8a79615f9a1cc2c403c5a8a4b8e514b20de326697f0ffb26";
const COLON: &str = "c4877995509df23985460f8179e37005720fe2cfdb82712533be1f435628bcfc";
const COLON_MS: &str = "3709e140335036317687f0b198b3c8dad0e52b4fccc49c673349fbc53f0454b1";
const V0: &str = "d6aeef8e75633c67d8eb7463142ad9c58056625f048032e0ec92a75e0f0a40e6";
const WEBHOOK: &str = "v1,B0cc1BMyM+3AJCjNSSjpaI2j5XN4SQ6IyxgKq35/NjI=";
const PLAIN: &str = "f39bb22bddccea26740b42816c3e2dca45fcbf30f80c85b5a27a4e040590c4d1";

/// The example of docs.slack.dev, "Verifying requests from Slack".
const SLACK_BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";

/// The example of HubSpot's page on the first version of its signature.
const HUBSPOT_BODY: &str = r#"[{"eventId":1,"subscriptionId":12345,"portalId":62515,"occurredAt":1564113600000,"subscriptionType":"contact.creation","attemptNumber":0,"objectId":123,"changeSource":"CRM","changeFlag":"NEW","appId":54321}]"#;

/// A request that is right, and what its source is set to.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) preset: &'static str,
    pub(super) secrets: Vec<String>,
    pub(super) url: Option<String>,
    pub(super) method: Method,
    /// In milliseconds since 1970.
    pub(super) now: u64,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn ask(&self) -> Result<Option<HeaderValue>, Unauthorized> {
        let scheme = preset(self.preset).unwrap().scheme();
        self.ask_as(&Verifier::new(&scheme, &self.secrets, self.url.as_deref()).map_err(|all| all.join("\n")).unwrap())
    }

    pub(super) fn ask_as(&self, verifier: &Verifier) -> Result<Option<HeaderValue>, Unauthorized> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(self.now);
        let claim = verifier.verify_head(&headers, now)?;
        verifier.verify_body(claim, &self.method, &headers, &self.body)
    }

    /// The same at another time.
    pub(super) fn at(&self, now: u64) -> Self {
        Self { now, ..self.clone() }
    }
}

fn request(preset: &'static str, headers: &[(&str, &str)]) -> Request {
    Request {
        preset,
        secrets: vec![SECRET.to_owned()],
        url: None,
        method: Method::POST,
        now: NOW,
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect(),
        body: BODY.as_bytes().to_vec(),
    }
}

/// A request with a secret, a time in seconds and a body of its own.
fn published(preset: &'static str, secret: &str, now: u64, headers: &[(&str, &str)], body: &str) -> Request {
    Request { secrets: vec![secret.to_owned()], now: now * 1000, body: body.into(), ..request(preset, headers) }
}

/// One of the headers that Svix and Standard Webhooks name alike.
fn webhook(preset: &'static str, prefix: &str, secret: &str) -> Request {
    let name = |part| format!("{prefix}-{part}");
    let headers = [(name("id"), "msg_test1"), (name("timestamp"), "1795716000"), (name("signature"), WEBHOOK)];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, *value)).collect();
    Request { secrets: vec![secret.to_owned()], ..request(preset, &headers) }
}

fn with_url(request: Request, url: &str) -> Request {
    Request { url: Some(url.to_owned()), ..request }
}

pub(super) fn all() -> Vec<Request> {
    let time = "1795716000";
    let time_ms = "1795716000123";
    let hubspot = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy";
    let hubspot_get = with_url(
        published(
            "hubspot-v2",
            hubspot,
            0,
            &[("x-hubspot-signature", "eee2dddcc73c94d699f5e395f4b9d454a069a6855fbfa152e91e88823087200e")],
            "",
        ),
        "https://www.example.com/webhook_uri",
    );
    let plain_with_url = "1c92adfe331123ebdbf575ffc6a570093dc6ae1821129738d7774f4161951c91";
    let supabase_secret = format!("v1,{SVIX_SECRET}");
    vec![
        request("shopify", &[("x-shopify-hmac-sha256", BASE64)]),
        request("stripe", &[("stripe-signature", &format!("t={time},v1={DOT}"))]),
        with_url(
            request(
                "hubspot-v3",
                &[
                    ("x-hubspot-signature-v3", "UtZ5/vLBcVwrvzbdY44I+nhs3dZC6LSt2mPnY82WefU="),
                    ("x-hubspot-request-timestamp", time_ms),
                ],
            ),
            URL,
        ),
        with_url(request("hubspot-v2", &[("x-hubspot-signature", plain_with_url)]), URL),
        Request { method: Method::GET, ..hubspot_get },
        request("hubspot-v1", &[("x-hubspot-signature", PLAIN)]),
        published(
            "hubspot-v1",
            hubspot,
            0,
            &[("x-hubspot-signature", "232db2615f3d666fe21a8ec971ac7b5402d33b9a925784df3ca654d05f4817de")],
            HUBSPOT_BODY,
        ),
        request("woocommerce", &[("x-wc-webhook-signature", BASE64)]),
        webhook("clerk", "svix", SVIX_SECRET),
        webhook("svix", "svix", SVIX_SECRET),
        published(
            "svix",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            1_614_265_330,
            &[
                ("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                ("svix-timestamp", "1614265330"),
                ("svix-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
            ],
            r#"{"test": 2432232314}"#,
        ),
        webhook("standard-webhooks", "webhook", SVIX_SECRET),
        webhook("supabase-auth", "webhook", &supabase_secret),
        request("github", &[("x-hub-signature-256", &format!("sha256={HEX}"))]),
        published(
            "github",
            "It's a Secret to Everybody",
            0,
            &[("x-hub-signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")],
            "Hello, World!",
        ),
        request("intercom", &[("x-hub-signature", "sha1=ad222901ed87f16f3e43433cc53ae86dc4e281bc")]),
        request(
            "zendesk",
            &[
                ("x-zendesk-webhook-signature", "j4frnK7sZn9Ir60HCVNLlRBSp83EUEM9YtItfQjhx70="),
                ("x-zendesk-webhook-signature-timestamp", "2026-11-26T18:00:00Z"),
            ],
        ),
        request("calendly", &[("calendly-webhook-signature", &format!("t={time},v1={DOT}"))]),
        request("typeform", &[("typeform-signature", &format!("sha256={BASE64}"))]),
        request("paddle", &[("paddle-signature", &format!("ts={time};h1={COLON}"))]),
        request("recharge", &[("x-recharge-webhook-signature", &format!("t={time},v1={DOT}"))]),
        request("recharge-old", &[("x-recharge-hmac-sha256", PLAIN)]),
        request("customer-io", &[("x-cio-signature", V0), ("x-cio-timestamp", time)]),
        request("slack", &[("x-slack-signature", &format!("v0={V0}")), ("x-slack-request-timestamp", time)]),
        published(
            "slack",
            "8f742231b10e8888abcd99yyyzzz85a5",
            1_531_420_618,
            &[
                ("x-slack-signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
                ("x-slack-request-timestamp", "1531420618"),
            ],
            SLACK_BODY,
        ),
        with_url(
            request("square", &[("x-square-hmacsha256-signature", "XVkx8vDIukS2G3qtycX0D2MIAvDg5XqZIMJmOZRNCsI=")]),
            URL,
        ),
        request("lemon-squeezy", &[("x-signature", HEX)]),
        request("webflow", &[("x-webflow-signature", COLON_MS), ("x-webflow-timestamp", time_ms)]),
        request("workos", &[("workos-signature", &format!("t={time_ms}, v1={DOT_MS}"))]),
    ]
}

#[test]
fn every_preset_that_signs_has_a_request_here() {
    let is_signed = |scheme| matches!(scheme, Scheme::Signature(_));
    let signed: BTreeSet<_> =
        presets().iter().filter(|preset| is_signed(preset.scheme())).map(|preset| preset.name).collect();
    assert_eq!(all().iter().map(|request| request.preset).collect::<BTreeSet<_>>(), signed);
}

#[test]
fn each_is_let_in_and_its_signed_id_is_known() {
    for request in all() {
        let id = request.ask().map_err(|error| format!("{}: {}", request.preset, error.message)).unwrap();
        let signed = request.headers.iter().find(|(name, _)| name.ends_with("-id"));
        assert_eq!(id.as_ref().map(HeaderValue::as_bytes), signed.map(|(_, value)| &**value), "{}", request.preset);
    }
}

/// Another byte in its place, of the same kind, so that the time stays a number and the signature stays a digest.
fn other(byte: u8) -> u8 {
    match byte {
        b'0' | b'a' => byte + 1,
        b'1'..=b'9' | b'b'..=b'z' | b'B'..=b'Z' => byte - 1,
        b'A' => b'B',
        _ => b'.',
    }
}

/// Every request of one byte's difference. `.` is not changed into itself.
fn changed(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len()).map(|at| {
        let mut bytes = bytes.to_vec();
        bytes[at] = if bytes[at] == b'.' { b'_' } else { other(bytes[at]) };
        bytes
    })
}

#[test]
fn each_is_refused_with_one_byte_changed_in_the_body_or_a_header() {
    for request in all() {
        for body in changed(&request.body) {
            assert!(Request { body, ..request.clone() }.ask().is_err(), "{}", request.preset);
        }
        for (index, (name, value)) in request.headers.iter().enumerate() {
            for value in changed(value) {
                let mut other = request.clone();
                other.headers[index].1 = value;
                assert!(other.ask().is_err(), "{} {name} {:?}", request.preset, other.headers[index]);
            }
        }
        let longer = [&request.body[..], b" "].concat();
        assert!(Request { body: longer, ..request.clone() }.ask().is_err(), "{}", request.preset);
    }
}

#[test]
fn each_is_refused_under_another_secret_url_or_method_and_without_a_header() {
    for request in all() {
        let name = request.preset;
        let wrong = |secret: &str| {
            let mut bytes = secret.as_bytes().to_vec();
            // Behind the prefix of the secret.
            bytes[11] = other(bytes[11]);
            String::from_utf8(bytes).unwrap()
        };
        let secret = wrong(&request.secrets[0]);
        assert!(Request { secrets: vec![secret.clone()], ..request.clone() }.ask().is_err(), "{name}");
        // One that fits among others is enough.
        for secrets in [[secret.clone(), request.secrets[0].clone()], [request.secrets[0].clone(), secret]] {
            assert!(Request { secrets: secrets.to_vec(), ..request.clone() }.ask().is_ok(), "{name}");
        }
        if let Some(url) = &request.url {
            assert!(with_url(request.clone(), &format!("{url}/")).ask().is_err(), "{name}");
        }
        if name == "hubspot-v3" || name == "hubspot-v2" {
            assert!(Request { method: Method::PUT, ..request.clone() }.ask().is_err(), "{name}");
        }
        for index in 0..request.headers.len() {
            let mut less = request.clone();
            let (header, _) = less.headers.remove(index);
            assert_eq!(less.ask().unwrap_err().message, format!("the header {header} is missing"));
        }
    }
}

/// How far off a preset's time may be, in milliseconds, and the step that is too far.
fn tolerance(preset: &str) -> Option<(u64, u64)> {
    Some(match preset {
        "stripe" | "clerk" | "svix" | "standard-webhooks" | "supabase-auth" | "paddle" | "customer-io" | "slack" => {
            (300_000, 1000)
        }
        "calendly" => (180_000, 1000),
        "recharge" => (172_800_000, 1000),
        "hubspot-v3" | "webflow" | "zendesk" => (300_000, 1),
        "workos" => (180_000, 1),
        _ => return None,
    })
}

#[test]
fn a_time_is_good_up_to_the_tolerance_either_way() {
    for request in all() {
        let Some((tolerance, step)) = tolerance(request.preset) else {
            assert!(request.at(0).ask().is_ok(), "{}", request.preset);
            continue;
        };
        // The sender's time: whole seconds, but where it is in milliseconds.
        let is_precise = matches!(request.preset, "hubspot-v3" | "webflow" | "workos");
        let time = if is_precise { request.now } else { request.now / 1000 * 1000 };
        for near in [time - tolerance, time + tolerance] {
            assert!(request.at(near).ask().is_ok(), "{}", request.preset);
        }
        for far in [time - tolerance - step, time + tolerance + step, 0] {
            let message = request.at(far).ask().unwrap_err().message;
            assert!(message.ends_with("off"), "{}: {message}", request.preset);
        }
    }
}
