//! One call of a request, checked as lightly as Segment's edge checks it.
//!
//! The text of a call is neither changed nor copied here. Traits, context and integrations are not parsed.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::drop_reason::{DropReason, drop_reason};
use super::fields::{Fields, unquote};

/// One call of a request.
#[derive(Debug)]
pub struct ReceivedCall<'a> {
    /// The call's JSON as received.
    pub text: &'a str,
    /// `userId`, if it is a string.
    pub user_id: Option<Cow<'a, str>>,
    /// `messageId`, if it is a string and not empty.
    pub message_id: Option<Cow<'a, str>>,
    /// Set if Segment would drop this call.
    pub dropped: Option<DropReason>,
}

/// Why a call makes Segment refuse the whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// Not a JSON object.
    NotAnObject,
    /// `type` is missing, empty or not a string.
    NoType,
}

impl<'a> ReceivedCall<'a> {
    /// Reads one item of a batch.
    pub fn from_batch_item(item: &'a RawValue) -> Result<Self, CallError> {
        let fields = parse_fields(item)?;
        let Some(kind) = fields.kind.and_then(unquote).filter(|kind| !kind.is_empty()) else {
            return Err(CallError::NoType);
        };
        Ok(Self::from_fields(item, &fields, kind == "identify"))
    }

    /// Reads the body of `POST /v1/identify`, whose path gives the type.
    pub fn from_identify_body(body: &'a RawValue) -> Result<Self, CallError> {
        Ok(Self::from_fields(body, &parse_fields(body)?, true))
    }

    fn from_fields(item: &'a RawValue, fields: &Fields<'a>, is_identify: bool) -> Self {
        Self {
            text: item.get(),
            user_id: fields.user_id.and_then(unquote),
            message_id: fields.message_id.and_then(unquote).filter(|id| !id.is_empty()),
            dropped: drop_reason(fields, is_identify),
        }
    }
}

fn parse_fields(item: &RawValue) -> Result<Fields<'_>, CallError> {
    // A `RawValue` is valid JSON, so only its shape can be wrong.
    serde_json::from_str(item.get()).map_err(|_| CallError::NotAnObject)
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::{CallError, ReceivedCall};

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_item_needs_a_type_and_the_body_of_identify_does_not() {
        for item in ["{}", r#"{"type":null}"#, r#"{"type":""}"#, r#"{"type":1}"#] {
            assert_eq!(ReceivedCall::from_batch_item(raw(item)).unwrap_err(), CallError::NoType, "{item}");
        }
        assert_eq!(ReceivedCall::from_batch_item(raw("[]")).unwrap_err(), CallError::NotAnObject);
        assert_eq!(ReceivedCall::from_identify_body(raw(r#"{"userId":"u"}"#)).unwrap().dropped, None);
    }

    #[test]
    fn escapes_in_names_and_ids_are_decoded() {
        let item = raw(r#"{"type":"track","\u0075serId":"a\u0062c","messageId":""}"#);
        let call = ReceivedCall::from_batch_item(item).unwrap();
        assert_eq!(call.user_id.as_deref(), Some("abc"));
        assert_eq!(call.message_id, None);
    }
}
