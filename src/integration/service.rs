//! The service over an injected client.

use crate::customer::SegmentIdentifyPayload;
use crate::segment::{ErrorCode, Receipt, SegmentClient, SegmentError};

/// What became of a customer: a receipt or an error. [`ResultReport`](super::ResultReport) is its JSON.
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
    payload.check_ids().map_err(|fault| SegmentError::new(ErrorCode::InvalidPayload, fault))?;
    client.identify(payload)?;
    client.flush().await
}
