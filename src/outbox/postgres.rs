//! The outbox in a PostgreSQL database: for several relays, of which one delivers.
//!
//! `connect` opens connections to the server, with `tls`. `schema` makes and migrates the tables. `queue` and `batch` collect calls to store,
//! `append` stores them, and `keys` tells of those that were stored before; `watch` waits for their outcomes. `figures` knows how full the
//! outbox is, by `counts`. `cursor` knows where reading stands. `store` puts the parts together, which work on what is `shared`.
//! `connect` opens connections to the server, with `tls`, and `schema` makes and migrates the tables. The `append` task takes `batch`es
//! of requests from a `queue`, stores their `rows`, and tells by `keys` what became of repeats. `watch` looks for the outcomes that
//! callers wait for, and reads the `figures`, which say by `counts` how full the outbox is. `cursor` knows where reading stands.
//! `store` puts the parts together, which work on what is `shared`.
//! `connect` opens connections to the server, with `tls`. `server` says whether it is safe, `schema` makes and migrates the tables.
//! `moving` takes over the outbox of an SQLite file.

#![allow(dead_code, reason = "the parts of this store are put together by the one that comes last")]

mod append;
mod batch;
mod connect;
mod counts;
mod cursor;
mod figures;
mod keys;
mod lease;
mod lease_keeper;
mod moving;
mod queue;
mod rows;
mod schema;
mod server;
mod shared;
mod store;
#[cfg(test)]
mod test_cluster;
#[cfg(test)]
mod tests;
mod tls;
mod watch;

pub use store::PostgresOutbox;
pub use moving::MoveTarget;
pub use server::{CONNECTIONS, Server, TableContent, inspect_server, newest_version};
