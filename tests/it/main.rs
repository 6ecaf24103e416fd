//! Integration tests against the built binary: what a caller, an operator and Segment see, and nothing else.

#[path = "../harness.rs"]
mod harness;

mod bodies;
mod commands;
mod gate;
mod lifecycle;
mod logs;
mod oracle;
mod order;
mod outcomes;
mod refusals;
mod relaying;
mod statuses;
mod tidy;
mod truth;
mod wire;
