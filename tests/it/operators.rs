//! Operators: the address of their own (`RELAY_ADMIN_LISTEN`), what they ask about calls, what they do about parked users, and the record of all of it.

mod calls;
mod listener;
mod parked;
mod record;
