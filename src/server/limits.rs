//! How much the server serves at once.

use std::time::Duration;

/// Connections at once, if the system has file descriptors for them. Further ones wait in the system's backlog. Each
/// connection has a read buffer of up to 32 KiB.
pub const MAX_CONNECTIONS: usize = 10_000;

/// The most connections that wait in the system's backlog: a burst of newcomers, and what Linux allows by default
/// (`net.core.somaxconn`). No more are taken from it when the process closes, so that callers who connect without pause do not
/// delay the end.
pub const MAX_BACKLOG: u32 = 4_096;

/// HTTP/2 streams that wait for their request's body, beside one on each connection: as many as there are requests in flight by
/// default.
pub const MAX_WAITING_STREAMS: usize = 2048;

/// How much the server serves at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections.
    pub connections: usize,
    /// Open HTTP/2 streams over all connections, beside one on each. One more is reset.
    pub streams: usize,
    /// How long an idle connection stays open.
    pub keep_alive: Duration,
    /// Threads, each with its share of the connections.
    pub threads: usize,
}
