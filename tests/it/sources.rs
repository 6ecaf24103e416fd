//! Sources: products whose own webhooks are taken.

mod commands;
mod door;
mod products;
mod senders;
mod settings;
mod write_keys;
