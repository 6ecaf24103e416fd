//! The integration service: it sends a validated customer to Segment and returns one result.
//!
//! It calls `identify`, then `flush`. It calls no client for an id that must not be sent, does not flush after `identify`
//! failed, and returns the client's error unchanged. The client is injected, or made from the environment.

mod environment;
#[cfg(test)]
mod tests;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::customer::SegmentIdentifyPayload;
use crate::segment::{ErrorCode, Receipt, SegmentClient, SegmentError};
pub use environment::{client_from_environment, send_customer_to_segment};

/// What became of a customer: a receipt or an error. [`ResultReport`] is its JSON.
pub type SegmentIntegrationResult = Result<Receipt, SegmentError>;

/// Sends a customer through an injected client and waits for the outcome.
///
/// # Errors
/// [`ErrorCode::InvalidPayload`] for ids that must not be sent; otherwise the client's error.
///
/// ```
/// use async_trait::async_trait;
/// use segment_relay::{Receipt, SegmentClient, SegmentError, SegmentIdentifyPayload, send_customer_to_segment_with_client};
///
/// /// Keeps the users it gets.
/// #[derive(Default)]
/// struct InMemory(Vec<String>);
///
/// #[async_trait]
/// impl SegmentClient for InMemory {
///     fn identify(&mut self, payload: &SegmentIdentifyPayload<'_>) -> Result<(), SegmentError> {
///         self.0.push(payload.user_id.to_string());
///         Ok(())
///     }
///
///     async fn flush(&mut self) -> Result<Receipt, SegmentError> {
///         Ok(Receipt::accepted(format!("message-{}", self.0.len())))
///     }
///
///     async fn close_and_flush(self: Box<Self>) -> Result<(), SegmentError> {
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut client = InMemory::default();
/// let customer = SegmentIdentifyPayload::parse(br#"{"userId":"c-1042","traits":{"plan":"pro"}}"#)?;
/// let receipt = send_customer_to_segment_with_client(&mut client, &customer).await?;
/// assert_eq!(receipt.message_id, "message-1");
/// assert_eq!(client.0, ["c-1042"]);
/// # Ok(())
/// # }
/// ```
pub async fn send_customer_to_segment_with_client(
    client: &mut dyn SegmentClient,
    payload: &SegmentIdentifyPayload<'_>,
) -> SegmentIntegrationResult {
    identify_customer(client, payload)?;
    client.flush().await
}

/// The first step of [`send_customer_to_segment_with_client`]. Whoever flushes then need not keep the payload meanwhile.
///
/// # Errors
/// [`ErrorCode::InvalidPayload`] for ids that must not be sent; otherwise the client's error.
pub(crate) fn identify_customer(
    client: &mut dyn SegmentClient,
    payload: &SegmentIdentifyPayload<'_>,
) -> Result<(), SegmentError> {
    payload.check_ids().map_err(|fault| SegmentError::new(ErrorCode::InvalidPayload, fault))?;
    client.identify(payload)
}

/// A result as JSON: `{"success":true}` or `{"success":false,"error":{"message":"...","code":"..."}}`.
///
/// ```
/// use segment_relay::{ErrorCode, Receipt, ResultReport, SegmentError, SegmentIntegrationResult};
///
/// let accepted: SegmentIntegrationResult = Ok(Receipt::accepted("message-1".to_owned()));
/// assert_eq!(serde_json::to_string(&ResultReport(&accepted))?, r#"{"success":true}"#);
///
/// let refused = Err(SegmentError::new(ErrorCode::Rejected, "traits are malformed"));
/// assert_eq!(
///     serde_json::to_string(&ResultReport(&refused))?,
///     r#"{"success":false,"error":{"message":"traits are malformed","code":"segment_rejected"}}"#
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
pub struct ResultReport<'a>(pub &'a SegmentIntegrationResult);

impl Serialize for ResultReport<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct ErrorReport<'a> {
            message: &'a str,
            code: &'static str,
        }
        let mut report = serializer.serialize_struct("ResultReport", 2)?;
        report.serialize_field("success", &self.0.is_ok())?;
        if let Err(error) = self.0 {
            report.serialize_field("error", &ErrorReport { message: &error.message, code: error.code.as_str() })?;
        }
        report.end()
    }
}
