//! The outbox in a PostgreSQL database: for several relays, of which one delivers.
//!
//! `connect` opens connections to the server, `schema` makes and migrates the tables. `figures` knows how full the outbox is, by
//! `counts`. `store` puts the parts together, which work on what is `shared`.
//! `connect` opens connections to the server. `cursor` knows where reading stands.
//! `connect` opens connections to the server, with `tls`.

#![allow(dead_code, reason = "the parts of this store are put together by the one that comes last")]

mod append;
mod batch;
mod connect;
mod counts;
mod cursor;
mod figures;
mod keys;
mod queue;
mod rows;
mod schema;
mod shared;
mod store;
#[cfg(test)]
mod test_cluster;
mod tests;
mod tls;
mod watch;

pub use store::PostgresOutbox;
