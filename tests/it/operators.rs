//! Operators: the address of their own (`RELAY_ADMIN_LISTEN`), and the record of what they do.

mod listener;
mod record;
