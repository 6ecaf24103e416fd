//! Sources: products whose own webhooks are taken.

mod commands;
mod products;
mod senders;
mod settings;
