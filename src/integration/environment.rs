//! A client made from the environment, for programs that send a customer now and then.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{SegmentIntegrationResult, send_customer_to_segment_with_client};
use crate::config::{self, WriteKeys};
use crate::customer::SegmentIdentifyPayload;
use crate::metrics::Metrics;
use crate::publisher::LiveClients;
use crate::segment::{ErrorCode, Receipt, SegmentClient, SegmentClients, SegmentError};
use crate::supervisor::Supervisor;

/// A client that owns the tasks which send for it.
struct EnvironmentClient {
    client: Box<dyn SegmentClient>,
    tasks: CancelOnDrop,
}

/// Ends the client's tasks when it is dropped.
struct CancelOnDrop(Supervisor);

/// Makes a client with the settings of the environment. Its flush ends within `RELAY_REQUEST_TIMEOUT`. Each such client
/// has connections of its own: a service makes [`LiveClients`] once and injects its clients instead.
///
/// # Errors
/// [`ErrorCode::NotConfigured`] with every problem of the settings, such as a missing write key, one a line; or if it is
/// not called in a tokio runtime.
pub fn client_from_environment() -> Result<Box<dyn SegmentClient>, SegmentError> {
    let not_configured = |why: String| SegmentError::new(ErrorCode::NotConfigured, why);
    let settings = config::from_environment().map_err(|problems| not_configured(problems.to_string()))?;
    tokio::runtime::Handle::try_current().map_err(|error| not_configured(error.to_string()))?;
    let metrics = Metrics::new().map_err(|error| not_configured(error.to_string()))?;
    let supervisor = Supervisor::new();
    let write_keys = WriteKeys::new(settings.segment.write_key.clone());
    let clients = LiveClients::start(settings.segment, &write_keys, Arc::new(metrics), &supervisor)
        .map_err(|error| not_configured(format!("{error:#}")))?;
    let client = clients.open(Instant::now() + settings.request_timeout, None, None);
    Ok(Box::new(EnvironmentClient { client, tasks: CancelOnDrop(supervisor) }))
}

/// Sends a customer through a client that is made from the environment and then closed.
///
/// # Errors
/// As [`client_from_environment`] and [`send_customer_to_segment_with_client`].
pub async fn send_customer_to_segment(payload: &SegmentIdentifyPayload<'_>) -> SegmentIntegrationResult {
    let mut client = client_from_environment()?;
    let result = send_customer_to_segment_with_client(&mut *client, payload).await;
    client.close_and_flush().await?;
    result
}

#[async_trait]
impl SegmentClient for EnvironmentClient {
    fn identify(&mut self, payload: &SegmentIdentifyPayload<'_>) -> Result<(), SegmentError> {
        self.client.identify(payload)
    }

    async fn flush(&mut self) -> Result<Receipt, SegmentError> {
        self.client.flush().await
    }

    async fn close_and_flush(self: Box<Self>) -> Result<(), SegmentError> {
        let Self { client, tasks: _tasks } = *self;
        client.close_and_flush().await
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
