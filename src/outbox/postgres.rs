//! The outbox in a PostgreSQL database: for several relays, of which one delivers.
//!
//! `connect` opens connections to the server, with `tls`, and `database_error` says why it did not do what was asked. `server` says what a
//! server must be, and `schema` makes and migrates the tables.
//!
//! Every relay stores: the `append` task takes `batch`es of requests from a `queue`, stores their `rows`, and tells by `keys` what became of
//! repeats. `watch` looks for the outcomes that callers wait for, and reads the `figures`, which say by `counts` how full the outbox is.
//!
//! One relay delivers: `lease` says which (pure), and `lease_keeper` is the task that keeps it. The `deliverer` is the task that reads calls
//! and settles them. What it reads is found by `look`, in a `page` after the `cursor` (pure), or in `turns`; `out` knows what it gave out. A
//! `transaction` does what `commands` ask: `settle`, `leave`, `parked`, with the `tallies` of what it changes. `maintain`, `prune` and `vacuum`
//! keep the tables small. What other relays ask of it (`asking`) are rows (`requests`): `parked_verbs`, and `forget_requests`, which go
//! on in `forget_steps`.
//!
//! Operators ask any relay (`operators`): `letters`, `events`, `replay`, `replace`, `call_search`, `parked_list`, `fleet`. `moving` takes over the
//! outbox of one machine. `store` puts the parts together, which work on what is `shared`.

mod append;
mod asking;
mod batch;
mod call_search;
mod commands;
mod connect;
mod counts;
mod cursor;
mod database_error;
mod deliverer;
mod durable_commit;
mod events;
mod figures;
mod fleet;
mod forget_progress;
mod forget_requests;
mod forget_steps;
mod keys;
mod lease;
mod lease_keeper;
mod leave;
mod letters;
mod look;
mod maintain;
mod maintenance_state;
mod moving;
mod operator_connections;
mod operators;
mod out;
mod page;
mod parked;
mod parked_list;
mod parked_verbs;
mod prune;
mod queue;
mod replace;
mod replay;
mod request_progress;
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
mod watch;
mod watched;

pub use moving::MoveTarget;
pub use server::{CONNECTIONS, Server, TableContent, inspect_server, newest_version};
pub use store::{OutageLasts, PostgresOutbox};
