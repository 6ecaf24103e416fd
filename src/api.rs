//! The relay as its callers see it: an axum application.
//!
//! [`service`] is the one door: production, tests and benches all go through it. It holds the router and everything around
//! it. `server` serves it; `axum::serve` could, too.

mod admin;
mod body;
mod customers;
mod docs;
mod error;
mod health;
mod idempotency;
mod layers;
mod openapi;
mod prefer;
mod proven_body;
mod request_id;
mod router;
mod state;

pub use admin::{AdminState, DurationSummary, OutboxReport, SegmentReport};
pub use error::NO_ROUTE;
pub use router::service;
pub use state::{AppState, MAX_BODIES_IN_PROGRESS};

#[cfg(test)]
mod tests;
