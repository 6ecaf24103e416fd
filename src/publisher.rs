//! The publisher: calls in memory become requests to Segment, at the pace of the rate limit.
//!
//! [`LiveClients`] is the injected seam's direct side: a client whose `flush` returns Segment's own answer to its call.
//! Many clients share one queue and a fixed number of slots, so that a thousand overlapping pairs of `identify` and
//! `flush` travel in a few requests.
//!
//! The flow below: `live` (the handle) -> `dispatch` (who goes when, over `queue`, `slots` and `gate`) ->
//! `send` (the life of one batch, with `apply` and `part`) -> `transport` (HTTPS). `batch` and `retry` are pure.

mod apply;
mod batch;
mod dispatch;
mod gate;
mod live;
mod part;
mod queue;
mod reach;
mod retry;
mod send;
mod slots;
#[cfg(test)]
mod test_calls;
mod ticket;
mod transport;

pub use live::LiveClients;
pub use reach::reach;
