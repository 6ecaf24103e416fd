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
//! `connect` opens connections to the server, `schema` makes and migrates the tables. `figures` knows how full the outbox is, by
//! `counts`. `store` puts the parts together, which work on what is `shared`.
//! `connect` opens connections to the server, with `tls`.
//!
//! `deliverer` is the task that delivers, if this relay holds the lease; `commands` is how others speak to it. `cursor` knows where
//! reading stands. To `look` is to read a `page`, and calls in `turns`; `out` knows which are out. `settle` settles them in a
//! `transaction`, in which calls `leave` or are `parked`, and the counts change by `tallies`. `asking` is how a relay asks the
//! deliverer for something, which finds it among the `requests`: `verbs` try parked users again, `forget` deletes a person.
//! `maintain`, `prune` and `vacuum` keep the tables small.

#![allow(dead_code, reason = "the parts of this store are put together by the one that comes last")]

mod append;
mod asking;
mod batch;
mod call_search;
mod commands;
mod connect;
mod counts;
mod cursor;
mod deliverer;
mod events;
mod figures;
mod fleet;
mod forget;
mod forgetting;
mod keys;
mod lease;
mod lease_keeper;
mod leave;
mod letters;
mod look;
mod maintain;
mod moving;
mod operators;
mod out;
mod page;
mod parked;
mod parked_list;
mod prune;
mod queue;
mod replace;
mod replay;
mod requests;
mod rows;
mod schema;
mod server;
mod settle;
mod shared;
mod store;
mod tallies;
#[cfg(test)]
mod test_cluster;
#[cfg(test)]
mod tests;
mod tls;
mod transaction;
mod turns;
mod vacuum;
mod verbs;
mod watch;

pub use store::PostgresOutbox;
pub use moving::MoveTarget;
pub use server::{CONNECTIONS, Server, TableContent, inspect_server, newest_version};
