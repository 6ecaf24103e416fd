//! Connections: accepted, bounded in number and in time, and served by any `tower::Service`.
//!
//! The server knows nothing of what it serves. What a connection shares with its requests travels as an extension of each
//! request, [`Connection`].

mod accept;
mod activity;
mod connection;
pub mod fd_limit;
mod head_bounds;
mod idle;
mod limits;
mod places;
mod stream;

pub use accept::serve;
pub use connection::Connection;
pub use fd_limit::LimitTooLow;
pub use limits::{Limits, MAX_BACKLOG, MAX_CONNECTIONS, MAX_WAITING_STREAMS};

#[cfg(test)]
mod tests;
