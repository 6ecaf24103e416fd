//! The outbox in a PostgreSQL database: for several relays, of which one delivers.
//!
//! `connect` opens connections to the server.

#![allow(dead_code, reason = "the parts of this store are put together by the one that comes last")]

mod connect;
