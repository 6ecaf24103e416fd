//! The integration service: a validated customer goes to Segment, and one result says what became of it.
//!
//! identify, then flush, then the result. Nothing is called for ids that must not be sent; nothing is flushed when
//! identify failed; the original error comes back with its words. The client is injected; it knows no HTTP.

mod environment;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

pub use crate::segment::{
    DeliveryState, ErrorCode, IdempotencyKey, KeyKind, MAX_CALL_BYTES, MIN_RETRY_AFTER, Receipt, SegmentClient,
    SegmentClients, SegmentError,
};
pub use environment::{client_from_environment, send_customer_to_segment};

use crate::customer::SegmentIdentifyPayload;

/// What became of a customer. [`Report`] is its JSON.
pub type SegmentIntegrationResult = Result<Receipt, SegmentError>;

/// Sends a customer through an injected client and waits for the outcome.
///
/// # Errors
/// [`ErrorCode::InvalidPayload`] for ids that must not be sent; else whatever the client says.
pub async fn send_customer_to_segment_with_client(
    client: &mut dyn SegmentClient,
    payload: &SegmentIdentifyPayload<'_>,
) -> SegmentIntegrationResult {
    payload.check_ids().map_err(|fault| SegmentError::new(ErrorCode::InvalidPayload, fault))?;
    client.identify(payload)?;
    client.flush().await
}

/// A result as JSON: `{"success":true}` or `{"success":false,"error":{"message":"...","code":"..."}}`.
pub struct Report<'a>(pub &'a SegmentIntegrationResult);

impl Serialize for Report<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Failure<'a> {
            message: &'a str,
            code: &'static str,
        }
        let mut report = serializer.serialize_struct("Report", 2)?;
        report.serialize_field("success", &self.0.is_ok())?;
        if let Err(error) = self.0 {
            report.serialize_field("error", &Failure { message: &error.message, code: error.code.as_str() })?;
        }
        report.end()
    }
}

#[cfg(test)]
mod tests;
