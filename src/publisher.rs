//! The publisher: sends calls from memory to Segment, in batches, at the pace of the rate limit.
//!
//! [`LiveClients`] makes clients whose `flush` returns Segment's own answer to their call. Many clients share one queue and
//! a fixed number of slots, so that a thousand overlapping pairs of `identify` and `flush` need only a few requests.
//!
//! The files in the order of the flow: `live` (one caller's client) -> `dispatch` (a task for each request in flight, and the
//! loop that starts them) -> `schedule` (which calls go when; `answer` is what an answer leads to) over `queue` (the calls by
//! user; `lines` by write key and their `turns`, `pauses`, `memory`; `taken_back` is what leaves unsent), `keys` (the write
//! keys), `trouble` (whose trouble a failure is; the gate) and `pace`; -> `transport` (HTTPS; `tunnel` asks a proxy that refuses,
//! `failure` finds the reason of a failed request) over `connections` (the pool). `completion` tells callers the outcome. All
//! that `schedule` uses is pure, and so are `retry` and `secret_forms`. `way` asks Segment once, for the command `check`, and
//! `certificate` reads what certificate it has.

mod answer;
mod batch;
mod certificate;
mod completion;
mod connections;
mod dispatch;
mod failure;
mod keys;
mod lines;
mod live;
mod memory;
mod pace;
mod pauses;
mod queue;
mod retry;
mod schedule;
mod secret_forms;
mod taken_back;
#[cfg(test)]
mod test_calls;
mod transport;
mod trouble;
mod tunnel;
mod turns;
mod way;

pub use certificate::Certificate;
pub use live::LiveClients;
pub use trouble::FAILURES_OF_AN_OUTAGE;
pub use way::{Answer, NoAnswer, Stage, Tls, ask, lookup};
