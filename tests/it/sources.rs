//! Sources: products' own webhooks.

mod senders;
