//! The publisher: sends calls from memory to Segment, in batches, at the pace of the rate limit.
//!
//! [`LiveClients`] makes clients whose `flush` returns Segment's own answer to their call. Many clients share one queue and
//! a fixed number of slots, so that a thousand overlapping pairs of `identify` and `flush` need only a few requests.
//!
//! The files in the order of the flow: `live` (one caller's client) -> `dispatch` (starts batches; `dispatch_state` holds
//! the `queue`, the `slots` and the `gate`) -> `send` (sends a batch until it is settled; `apply` decides what an answer
//! leads to, `attempt` is a batch with its history) -> `transport` (HTTPS; `tunnel` asks a proxy that refuses, `failure` finds
//! the reason of a failed request) over `connections` (the pool). `completion` tells callers the outcome. `batch`, `retry`
//! and `secret_forms` are pure.

mod apply;
mod attempt;
mod batch;
mod completion;
mod connections;
mod dispatch;
mod dispatch_state;
mod failure;
mod gate;
mod live;
mod queue;
mod retry;
mod secret_forms;
mod send;
mod slots;
#[cfg(test)]
mod test_calls;
mod transport;
mod tunnel;

pub use live::LiveClients;
pub use transport::check_connectivity;
