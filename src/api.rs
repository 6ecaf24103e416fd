//! The relay as its callers see it: an axum application.
//!
//! [`service`] builds the application: the router and the layers around it. Production, tests and benches use it.
//! `server` serves it; `axum::serve` can serve it too.

mod admin;
mod body;
mod body_room;
mod customers;
mod docs;
mod document;
mod error;
mod health;
mod host;
mod idempotency;
mod layers;
mod openapi;
mod page;
mod prefer;
mod proven_body;
mod request_id;
mod router;
mod sources;
mod spans;
mod state;

pub use admin::{
    AdminState, DurationSummary, OutboxReport, ParkedReport, SegmentReport, ShutGate, TroubleReport, UnconfiguredSource,
};
pub(crate) use error::NO_ROUTE;
pub use router::{Routes, service};
pub use state::AppState;

#[cfg(test)]
mod tests;
