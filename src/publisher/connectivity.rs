//! Checks whether Segment can be reached, with a request that holds no calls.

use std::time::SystemTime;

use super::batch::Batch;
use super::retry::{self, ResponseClass, SendResult};
use super::transport::Transport;
use crate::config::SegmentSettings;
use crate::segment::SegmentError;

/// Sends an empty batch once. `Ok` describes the answer. Any answer that shows that Segment's API is there counts, also a
/// refusal of the empty batch.
///
/// # Errors
/// The outer error if HTTPS cannot be set up. The inner error if Segment cannot be reached, or refuses the credentials.
pub async fn check_connectivity(settings: &SegmentSettings) -> anyhow::Result<Result<String, SegmentError>> {
    let transport = Transport::new(settings.clone())?;
    let result = transport.send_batch(&Batch::default(), 0).await;
    let description = match &result {
        SendResult::Response { status, .. } => format!("it answered {status}"),
        SendResult::NotSent(_) | SendResult::NoResponse(_) => String::new(),
    };
    Ok(match retry::classify(&result, SystemTime::now()) {
        ResponseClass::Accepted
        | ResponseClass::Refused { .. }
        | ResponseClass::RateLimited { .. }
        | ResponseClass::RetriesExhausted { .. } => Ok(description),
        ResponseClass::Retryable { error, .. } | ResponseClass::ConfigurationError(error) => Err(error),
    })
}
