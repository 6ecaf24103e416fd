//! Fuzz target `settings`: any environment, one variable on each line.

use super::settings::from_variables;
use crate::fuzz::hold;

/// The text in the corpus that stands for a secret.
const CANARY: &str = "canary";

/// The settings that are secrets.
const SECRETS: [&str; 4] = ["RELAY_ADMIN_TOKEN", "RELAY_AUTH_SECRETS", "RELAY_NOTIFY_SECRETS", "SEGMENT_WRITE_KEY"];

/// The settings that are no secrets, but into which somebody may put one.
const MAY_HOLD_SECRET: [&str; 5] =
    ["HTTPS_PROXY", "RELAY_NOTIFY_URL", "RELAY_OUTBOX_URL", "SEGMENT_ENDPOINT", "http_proxy"];

const TOKENS: &[&str] = &[
    "\n",
    "=",
    "canary",
    "SEGMENT_WRITE_KEY=canary",
    "SEGMENT_ENDPOINT=",
    "SEGMENT_TIMEOUT=",
    "RELAY_LISTEN=",
    "RELAY_OUTBOX_URL=",
    "RELAY_OUTBOX_MAX_SIZE=",
    "RELAY_ADMIN_TOKEN=canary",
    "RELAY_ADMIN_TOKEN_FILE=canary",
    "RELAY_ADMIN_LISTEN=",
    "RELAY_AUTH=",
    "RELAY_AUTH_SECRETS=canary",
    "RELAY_NOTIFY_URL=https://host/canary",
    "RELAY_NOTIFY_SECRETS=whsec_canary",
    "RELAY_LOG=",
    "HTTPS_PROXY=",
    "http_proxy=",
    "NO_PROXY=",
    "SSL_CERT_FILE=",
    "socks5://",
    "user:canary@",
    "%2F",
    "PORT=",
    "standard-webhooks",
    "hmac",
    "bearer",
    "basic",
    "none",
    "whsec_",
    "user:",
    ",",
    "sqlite:///",
    "postgres://",
    "https://",
    "0",
    "-1",
    "5s",
    "250ms",
    "99999999999999999999",
    "GiB",
    "1e999",
    "NaN",
    "true",
    "[::1]:0",
    "info",
    "\u{0}",
    "é",
    "%",
    "..",
];

#[test]
fn settings_are_accepted_or_every_problem_names_its_variable_and_no_secret_is_shown() {
    hold("settings", TOKENS, |input| {
        let text = String::from_utf8_lossy(input);
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let pairs: Vec<(String, String)> = pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .filter(|(name, _)| !name.is_empty())
            .collect();
        let has_canary = |name: &str, value: &str| name.contains(CANARY) || value.contains(CANARY);
        let others_have_none = |allowed: &[&str]| {
            let others = pairs.iter().filter(|(name, _)| !allowed.contains(&&**name));
            !others.into_iter().any(|(name, value)| has_canary(name, value))
        };
        match from_variables(pairs.iter().cloned()) {
            Ok(settings) => {
                let shown = format!("{settings:?}");
                assert!(!others_have_none(&SECRETS) || !shown.contains(CANARY), "{shown}");
                assert!((1..=100_000).contains(&settings.max_in_flight));
                assert!(!settings.segment.timeout.is_zero() && !settings.request_timeout.is_zero());
                assert!(!settings.segment.write_key.reveal().is_empty());
            }
            Err(problems) => {
                assert!(!problems.lines().is_empty());
                for problem in problems.lines() {
                    let names_one =
                        problem.split_once(": ").is_some_and(|(name, what)| !name.is_empty() && !what.is_empty());
                    assert!(names_one, "{problem}");
                    let is_clean = others_have_none(&[&SECRETS[..], &MAY_HOLD_SECRET].concat());
                    assert!(!is_clean || !problem.contains(CANARY), "{problem}");
                }
            }
        }
    });
}
