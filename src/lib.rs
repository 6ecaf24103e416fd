//! segment-relay takes customers from webhooks, passes them to Segment's Identify API, and answers with the truth about
//! what happened. The modules stand in the order in which a customer passes through them; `ARCHITECTURE.md` walks one
//! through the house.

pub mod api;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod server;

pub mod customer;
pub mod integration;
pub mod outbox;

pub mod delivery;
pub mod segment;

pub mod metrics;
pub mod publisher;
pub mod supervisor;
pub mod telemetry;

pub mod sandbox;

#[cfg(test)]
mod fuzz;
