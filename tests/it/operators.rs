//! Operators: the address of their own (`RELAY_ADMIN_LISTEN`), what they ask about calls, the events of the status, what they do
//! about parked users, and the record of all of it.

mod calls;
mod events;
mod listener;
mod parked;
mod record;
