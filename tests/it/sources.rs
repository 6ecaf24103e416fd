//! Sources: products' own webhooks.

mod commands;
mod products;
mod senders;
