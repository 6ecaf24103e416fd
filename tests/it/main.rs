//! Integration tests against the built binary: what a caller, an operator and Segment see, and nothing else.

#[path = "../harness.rs"]
mod harness;

mod answers;
mod auth;
mod backlog;
mod bodies;
mod callers;
mod commands;
mod connections;
mod crash;
mod cross_site;
mod dead_letters;
mod disk;
mod documented_settings;
mod examples;
mod gate;
mod hostile;
mod idempotency;
mod ledger;
mod lifecycle;
mod line;
mod logs;
mod metrics;
mod openapi;
mod operators;
mod oracle;
mod order;
mod outage;
mod outcomes;
mod pooled;
mod prefer;
mod refusals;
mod refused_keys;
mod relaying;
mod schema;
mod secret_files;
mod secrets;
mod signals;
mod statuses;
mod stopping;
mod sync;
mod tidy;
mod truth;
mod way_out;
mod wire;
