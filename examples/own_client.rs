//! Sends customers through a client of your own.
//!
//! Whatever implements `SegmentClient` can be injected. This client prints each Identify call instead of sending it, which
//! suits a test or a dry run.
//!
//! ```sh
//! cargo run --example own_client
//! ```

use async_trait::async_trait;
use segment_relay::{
    Receipt, ResultReport, SegmentClient, SegmentError, SegmentIdentifyPayload, UserTraits,
    send_customer_to_segment_with_client,
};
use serde_json::json;

/// Prints the calls and counts them.
#[derive(Default)]
struct PrintingClient {
    calls: u32,
}

#[async_trait]
impl SegmentClient for PrintingClient {
    /// Gets one customer. The payload was checked before.
    fn identify(&mut self, payload: &SegmentIdentifyPayload<'_>) -> Result<(), SegmentError> {
        self.calls += 1;
        println!("identify {} {}", payload.user_id, payload.traits.as_json());
        Ok(())
    }

    /// Returns when the outcome is known. Here nothing is sent, so it is known at once.
    async fn flush(&mut self) -> Result<Receipt, SegmentError> {
        Ok(Receipt::accepted(format!("dry-run-{}", self.calls)))
    }

    async fn close_and_flush(self: Box<Self>) -> Result<(), SegmentError> {
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = PrintingClient::default();

    // A customer made in the program. `SegmentIdentifyPayload::parse` reads one from JSON.
    let traits = UserTraits::from_serialize(&json!({"email": "ada@example.com", "plan": "pro"}))?;
    let ada = SegmentIdentifyPayload::new("c-1042", traits.clone());
    let result = send_customer_to_segment_with_client(&mut client, &ada).await;
    println!("{}", serde_json::to_string(&ResultReport(&result))?);

    // The client is not called for an id that names no customer. The result says why.
    let nobody = SegmentIdentifyPayload::new("anonymous", traits);
    let result = send_customer_to_segment_with_client(&mut client, &nobody).await;
    println!("{}", serde_json::to_string(&ResultReport(&result))?);
    Ok(())
}
