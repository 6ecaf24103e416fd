//! Sends one customer to Segment, with the settings of the environment.
//!
//! ```sh
//! SEGMENT_WRITE_KEY=... cargo run --example from_environment
//! ```
//!
//! To try it without Segment, start `cargo run -- sandbox` and set `SEGMENT_ENDPOINT` to the address that it prints.

use std::process::ExitCode;

use segment_relay::{ResultReport, SegmentIdentifyPayload, send_customer_to_segment};

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    // All broken rules of a payload are in the error of `parse`.
    let body = br#"{"userId":"c-1042","traits":{"email":"ada@example.com","plan":"pro"}}"#;
    let customer = SegmentIdentifyPayload::parse(body)?;

    // Success means that Segment accepted the customer. A missing write key is an error in the result, not a panic.
    let result = send_customer_to_segment(&customer).await;
    println!("{}", serde_json::to_string(&ResultReport(&result))?);
    Ok(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
