//! Connections: accepted, bounded in number and in time, and served by any `tower::Service`.
//!
//! The server knows nothing of what it serves. What a connection shares with its requests travels as an extension of each
//! request, [`Connection`].

mod accept;
mod connection;
pub mod fd_limit;
mod idle;
mod stream;

pub use accept::{Limits, MAX_CONNECTIONS, serve};
pub use connection::Connection;
pub use fd_limit::LimitTooLow;

#[cfg(test)]
mod tests;
