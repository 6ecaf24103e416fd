//! The faults that `POST /faults` sets, as pure decisions.
//!
//! For one request, in this order: `latency` delays it; a call of a poisoned user makes the whole request refused; `rate` and
//! `count` decide whether the request gets the fault. `hang` goes before `reset`, and `reset` before `status`. A request that
//! is refused for a poisoned user does not lower `count`. At a `count` of 0 the fault is gone; latency and poison stay.
//!
//! The caller passes the random number. No clock is read.

use std::collections::HashSet;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest latency. A longer one is refused as a typing error; `hang` delays without end.
const MAX_LATENCY: Duration = Duration::from_secs(3_600);

/// The body of `POST /faults` and `GET /faults`. A field that is not set is left out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct FaultSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hang: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reset: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    poison_user_ids: Option<HashSet<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    poison_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_accepting: Option<bool>,
}

/// The present faults.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    settings: FaultSettings,
    /// How long every request waits before it is decided.
    pub(super) latency: Duration,
    poison_status: StatusCode,
    fault: Option<Fault>,
}

/// What a request gets instead of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reaction: Reaction,
    /// The calls are kept first, so only the answer is lost.
    pub(super) after_accepting: bool,
}

/// How the sandbox reacts to a request, with or without a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// No answer until the peer leaves.
    Hang,
    /// No answer, and the connection is reset.
    Reset,
    /// An answer.
    Answer(TrackingAnswer),
}

/// The answer to a request with calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TrackingAnswer {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<HeaderValue>,
    /// The exact body. `None` gives a body that suits the status.
    pub(super) body: Option<String>,
}

impl Faults {
    /// Parses the body of `POST /faults`.
    ///
    /// # Errors
    /// A sentence that says what is wrong: not JSON, an unknown field, an invalid value.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        // serde also takes an array for a struct.
        if !json.trim_ascii_start().starts_with(b"{") {
            return Err("expected a JSON object".to_owned());
        }
        let settings: FaultSettings = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if settings.rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
            return Err("rate must be a number from 0 to 1".to_owned());
        }
        let latency = settings.latency.as_deref().map(latency).transpose()?.unwrap_or_default();
        let poison_status = settings.poison_status.map(|code| status("poisonStatus", code)).transpose()?;
        let retry_after = settings.retry_after.as_ref().map(retry_after).transpose()?;
        let answer = settings
            .status
            .map(|code| status("status", code))
            .transpose()?
            .map(|status| Reaction::Answer(TrackingAnswer { status, retry_after, body: settings.body.clone() }));
        let reaction = match (settings.hang, settings.reset) {
            (Some(true), _) => Some(Reaction::Hang),
            (_, Some(true)) => Some(Reaction::Reset),
            _ => answer,
        };
        let after_accepting = settings.after_accepting.unwrap_or_default();
        let fault = reaction.map(|reaction| Fault { reaction, after_accepting });
        let poison_status = poison_status.unwrap_or(StatusCode::BAD_REQUEST);
        let mut faults = Self { settings, latency, poison_status, fault };
        faults.clear_if_used_up();
        Ok(faults)
    }

    /// The present settings. `count` is the number of faults that are left.
    pub(super) fn current(&self) -> impl Serialize + use<> {
        self.settings.clone()
    }

    /// The status that refuses a request with calls of these users. `None` if none of them is poisoned.
    pub(super) fn poison_status<'a>(&self, user_ids: impl IntoIterator<Item = &'a str>) -> Option<StatusCode> {
        let poisoned = self.settings.poison_user_ids.as_ref().filter(|ids| !ids.is_empty())?;
        user_ids.into_iter().any(|id| poisoned.contains(id)).then_some(self.poison_status)
    }

    /// The fault of the next request, if it gets one. `random` is at least 0 and below 1.
    pub(super) fn next_fault(&mut self, random: f64) -> Option<Fault> {
        let fault = self.fault.as_ref().filter(|_| random < self.settings.rate.unwrap_or(1.0))?.clone();
        if let Some(count) = &mut self.settings.count {
            *count = count.saturating_sub(1);
        }
        self.clear_if_used_up();
        Some(fault)
    }

    fn clear_if_used_up(&mut self) {
        if self.settings.count == Some(0) {
            let FaultSettings { latency, poison_user_ids, poison_status, .. } = std::mem::take(&mut self.settings);
            self.settings = FaultSettings { latency, poison_user_ids, poison_status, ..FaultSettings::default() };
            self.fault = None;
        }
    }
}

fn latency(text: &str) -> Result<Duration, String> {
    match text.parse::<SignedDuration>().and_then(Duration::try_from) {
        Ok(latency) if latency <= MAX_LATENCY => Ok(latency),
        Ok(_) => Err("latency must be at most 1h".to_owned()),
        Err(error) => Err(format!("latency must be a duration such as \"50ms\": {error}")),
    }
}

fn status(field: &str, code: u16) -> Result<StatusCode, String> {
    let is_final = (200..=599).contains(&code);
    StatusCode::from_u16(code).ok().filter(|_| is_final).ok_or_else(|| format!("{field} must be from 200 to 599"))
}

fn retry_after(value: &Value) -> Result<HeaderValue, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err("retryAfter must be a string or a number".to_owned()),
    };
    HeaderValue::try_from(text).map_err(|_| "retryAfter cannot be sent in a header".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::{HeaderValue, StatusCode};

    use super::{Fault, Faults, Reaction, TrackingAnswer};

    fn faults(json: &str) -> Faults {
        Faults::parse(json.as_bytes()).unwrap()
    }

    fn current(faults: &Faults) -> String {
        serde_json::to_string(&faults.current()).unwrap()
    }

    fn reaction(json: &str) -> Option<Reaction> {
        faults(json).next_fault(0.0).map(|fault| fault.reaction)
    }

    #[test]
    fn the_documented_example_is_parsed() {
        let mut faults = faults(
            r#"{"status":503,"rate":0.2,"retryAfter":"2","latency":"50ms","hang":false,"reset":false,
                "poisonUserIds":["x"],"count":10}"#,
        );
        assert_eq!(faults.latency, Duration::from_millis(50));
        assert_eq!(faults.poison_status(["a", "x"]), Some(StatusCode::BAD_REQUEST));
        assert_eq!(faults.poison_status(["a"]), None);
        assert_eq!(faults.next_fault(0.2), None);
        let retry_after = Some(HeaderValue::from_static("2"));
        let answer = TrackingAnswer { status: StatusCode::SERVICE_UNAVAILABLE, retry_after, body: None };
        let fault = Fault { reaction: Reaction::Answer(answer), after_accepting: false };
        assert_eq!(faults.next_fault(0.19), Some(fault));
    }

    #[test]
    fn without_settings_there_is_no_fault() {
        let mut healthy = faults("{}");
        assert_eq!(healthy.next_fault(0.0), None);
        assert_eq!(healthy.poison_status(["x"]), None);
        assert_eq!(current(&healthy), "{}");
        assert_eq!(reaction(r#"{"rate":1,"count":5,"hang":false}"#), None);
    }

    #[test]
    fn hang_goes_before_reset_before_status() {
        assert_eq!(reaction(r#"{"hang":true,"reset":true,"status":500}"#), Some(Reaction::Hang));
        assert_eq!(reaction(r#"{"reset":true,"status":500}"#), Some(Reaction::Reset));
    }

    #[test]
    fn a_rate_of_zero_gives_no_fault_and_one_always_does() {
        assert_eq!(faults(r#"{"hang":true,"rate":0}"#).next_fault(0.0), None);
        assert!(faults(r#"{"hang":true,"rate":1}"#).next_fault(0.999_999).is_some());
    }

    #[test]
    fn a_used_up_count_clears_the_fault_but_not_poison_or_latency() {
        let mut faults =
            faults(r#"{"status":500,"count":2,"rate":0.5,"poisonUserIds":["x"],"poisonStatus":500,"latency":"1s"}"#);
        assert!(faults.next_fault(0.0).is_some());
        assert!(faults.next_fault(0.7).is_none());
        assert!(current(&faults).contains(r#""count":1"#));
        assert!(faults.next_fault(0.0).is_some());
        assert!(faults.next_fault(0.0).is_none());
        assert_eq!(faults.poison_status(["x"]), Some(StatusCode::INTERNAL_SERVER_ERROR));
        assert_eq!(faults.latency, Duration::from_secs(1));
        assert_eq!(current(&faults), r#"{"latency":"1s","poisonUserIds":["x"],"poisonStatus":500}"#);
    }

    #[test]
    fn a_count_of_zero_gives_no_fault() {
        assert_eq!(reaction(r#"{"hang":true,"count":0}"#), None);
    }

    #[test]
    fn retry_after_may_be_a_number() {
        for (given, sent) in [("7", "7"), (r#""Wed, 21 Oct 2015 07:28:00 GMT""#, "Wed, 21 Oct 2015 07:28:00 GMT")] {
            let Some(Reaction::Answer(answer)) = reaction(&format!(r#"{{"status":429,"retryAfter":{given}}}"#)) else {
                panic!("no answer")
            };
            assert_eq!(answer.retry_after, Some(HeaderValue::from_static(sent)));
        }
    }

    #[test]
    fn invalid_settings_are_refused_by_name() {
        for (json, word) in [
            ("", "expected a JSON object"),
            ("[]", "expected a JSON object"),
            ("{", "EOF"),
            (r#"{"stauts":500}"#, "stauts"),
            (r#"{"status":199}"#, "status"),
            (r#"{"status":600}"#, "status"),
            (r#"{"poisonStatus":100}"#, "poisonStatus"),
            (r#"{"rate":1.1}"#, "rate"),
            (r#"{"rate":-0.1}"#, "rate"),
            (r#"{"latency":"soon"}"#, "latency"),
            (r#"{"latency":"2h"}"#, "latency"),
            (r#"{"latency":"-1s"}"#, "latency"),
            (r#"{"retryAfter":true}"#, "retryAfter"),
            (r#"{"retryAfter":"a\nb"}"#, "retryAfter"),
            (r#"{"count":-1}"#, "u64"),
        ] {
            let message = Faults::parse(json.as_bytes()).unwrap_err();
            assert!(message.contains(word), "{json}: {message}");
        }
    }
}
