//! `Debug` of everything public that holds a value or a secret: whoever logs one of these by accident tells nothing.

use std::fmt::Debug;

use jiff::Timestamp;
use segment_relay::config;
use segment_relay::customer::{Address, PayloadError, SegmentIdentifyPayload};
use segment_relay::outbox::{Append, DeadLetter, LetterFilter, ParkedUser, StoredCall};
use segment_relay::segment::{Call, CallOutcome, ErrorCode, Refusal, SegmentError, SettledCall};
use serde_json::value::RawValue;

use super::needles::Needles;
use super::sender::SENDERS;
use super::{EMAIL, PERSONAL, USER, WORDS, body};
use crate::harness::{TOKEN, WRITE_KEY};

#[test]
fn nothing_public_shows_a_value_or_a_secret_by_accident() {
    let body = body(USER).to_string();
    let payload = SegmentIdentifyPayload::parse(body.as_bytes()).unwrap();
    let call = Call::new(&payload, USER, Timestamp::UNIX_EPOCH).unwrap();
    let words = format!("{WORDS} {EMAIL}");
    let error = SegmentError::new(ErrorCode::Rejected, &words);
    let refusal = Refusal { status: 400, reason: words.clone(), attempts: 1 };
    let wrong = format!("{{\"userId\":[\"{USER}\"],\"traits\":\"{EMAIL}\"}}");
    let letter = DeadLetter {
        id: 1,
        message_id: Some(USER.to_owned()),
        user_id: Some(USER.to_owned()),
        why: "refused".to_owned(),
        source: None,
        call: Some(RawValue::from_string(body.clone()).unwrap()),
        event: None,
        status: Some(400),
        reason: words,
        attempts: 1,
        stored_at: String::new(),
        refused_at: String::new(),
    };
    let parked = ParkedUser {
        id: 1,
        user_id: USER.to_owned(),
        message_id: USER.to_owned(),
        source: None,
        calls: 1,
        since: String::new(),
        attempts: 1,
        status: None,
        reason: String::new(),
        retry_at: String::new(),
    };
    let filter = LetterFilter { user_id: Some(USER.to_owned()), ..LetterFilter::default() };
    let address = Address { street: Some("12 Quagmire Mews".to_owned()), ..Address::default() };
    let broken: PayloadError = SegmentIdentifyPayload::parse(wrong.as_bytes()).unwrap_err();
    let shown: [&dyn Debug; 15] = [
        &payload,
        &payload.traits,
        &payload.context,
        &payload.traits.address(),
        &address,
        &call,
        &Append { call: call.clone(), key: None, watch: false },
        &StoredCall { id: 1, call: call.clone(), is_parked: false },
        &SettledCall { id: 1, outcome: CallOutcome::Refused(refusal.clone()) },
        &refusal,
        &error,
        &letter,
        &parked,
        &filter,
        &broken,
    ];
    let personal = Needles::of(PERSONAL);
    for shown in shown {
        personal.assert_absent(&format!("{shown:?} {shown:#?}"), "Debug");
    }
    for sender in SENDERS.iter().skip(1) {
        let own = [("SEGMENT_WRITE_KEY", WRITE_KEY), ("RELAY_ADMIN_TOKEN", TOKEN)]
            .map(|(name, value)| (name, value.to_owned()));
        let variables = own.into_iter().chain(sender.settings()).map(|(name, value)| (name.to_owned(), value));
        let settings = config::from_variables(variables).unwrap();
        let secrets = Needles::of(sender.secrets.into_iter().chain([WRITE_KEY, TOKEN]));
        secrets.assert_absent(&format!("{settings:?} {settings:#?}"), "Debug");
    }
}
