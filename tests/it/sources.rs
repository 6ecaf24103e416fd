//! Sources: products whose own webhooks are taken.

mod commands;
mod door;
mod preview;
mod products;
mod senders;
mod settings;
mod write_keys;
