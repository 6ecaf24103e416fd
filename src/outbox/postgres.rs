//! The outbox in a PostgreSQL database: for several relays, of which one delivers.
//!
//! `connect` opens connections to the server, `schema` makes and migrates the tables. `figures` knows how full the outbox is, by
//! `counts`. `store` puts the parts together, which work on what is `shared`.

#![allow(dead_code, reason = "the parts of this store are put together by the one that comes last")]

mod connect;
mod counts;
mod figures;
mod schema;
mod shared;
mod store;

pub use store::PostgresOutbox;
