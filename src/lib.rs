//! segment-relay receives customers from webhooks, sends them to Segment's Identify API, and reports the outcome of each.
//!
//! As a library it sends one customer and returns one result:
//!
//! - [`send_customer_to_segment`] makes a [`SegmentClient`] from the environment ([`client_from_environment`]),
//! - [`send_customer_to_segment_with_client`] uses a client of your own,
//! - [`SegmentIdentifyPayload`] is the customer, with [`UserTraits`] and [`Address`],
//! - [`SegmentIntegrationResult`] is a [`Receipt`] or a [`SegmentError`] with a message and an [`ErrorCode`];
//!   [`ResultReport`] is its JSON.
//!
//! ```no_run
//! use segment_relay::{SegmentIdentifyPayload, send_customer_to_segment};
//!
//! # async fn send() -> Result<(), Box<dyn std::error::Error>> {
//! // The write key comes from SEGMENT_WRITE_KEY.
//! let customer = SegmentIdentifyPayload::parse(br#"{"userId":"c-1042","traits":{"plan":"pro"}}"#)?;
//! let receipt = send_customer_to_segment(&customer).await?;
//! println!("Segment accepted {}", receipt.message_id);
//! # Ok(())
//! # }
//! ```
//!
//! The folder `examples/` has both as whole programs. The modules are listed in the order in which a customer passes through
//! them; `ARCHITECTURE.md` describes the way.

// Production code returns errors; a test may panic.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod server;

pub mod api;

pub mod auth;

pub mod sources;

pub mod customer;

pub mod integration;

pub mod segment;

pub mod publisher;

pub mod outbox;

pub mod delivery;

pub mod import;

pub mod notify;

// Used by all of the above.
pub mod config;
pub mod http_client;
pub mod metrics;
pub mod supervisor;
pub mod telemetry;

pub mod sandbox;

pub mod app;
pub mod cli;

#[cfg(test)]
mod fuzz;

pub use customer::{Address, BrokenRule, PayloadError, SegmentIdentifyPayload, UserTraits};
pub use integration::{
    ResultReport, SegmentIntegrationResult, client_from_environment, send_customer_to_segment,
    send_customer_to_segment_with_client,
};
pub use segment::{DeliveryState, ErrorCode, Receipt, SegmentClient, SegmentError};
