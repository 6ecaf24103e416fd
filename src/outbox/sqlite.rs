//! The outbox in an SQLite file: for one relay on one machine.
//!
//! One thread owns the writing connection (`writer`). It takes groups of commands (`command`), executes each group in
//! one `transaction` (`calls`, `group`, `parked`, `parked_verbs`, `dead_letters`, `events`, `shares`, `source_counts`,
//! `prune`, `expire`, `forget`), and answers after the sync. Between two groups it gives delivery the calls that are `next`: those
//! behind the cursor (`reading`), and in `turns` those that are kept apart. `memory` knows which calls are out, and by
//! `sources` what waits of each source. A second thread copies the write-ahead log back into the file (`checkpoint`).
//! Operators read over a connection of their own (`read`, `letters`, `call_search`). `file`, `header` and `schema` open the file or
//! explain why they cannot. `inspect` reads it, and looks at its disk, for another process. `watch` notices that a file is lost, and `lost`
//! says what comes then. `moving` reads the file of a stopped relay for another store. `backup` copies the file. `scrub` clears the bytes
//! of deleted rows with `page_format` and `changed_pages`. `store` puts the parts together.
//!
//! Promise: an answer means that the commit was synced (`synchronous=FULL`, read back at the start). It rests on the
//! meaning of fsync: the bytes survive a power cut. A failed sync ends the process. The next start copies the whole log
//! into the file, with new writes and new syncs, before it adds anything.
//!
//! It works neither on two machines nor over a network file system.

mod backup;
mod call_search;
mod calls;
mod changed_pages;
mod checkpoint;
mod command;
mod copy_lost;
mod dead_letters;
mod events;
mod expire;
mod file;
mod forget;
mod group;
mod header;
mod inspect;
mod letters;
mod lost;
mod memory;
mod moving;
mod next;
mod page_format;
mod parked;
mod parked_verbs;
mod prune;
mod read;
mod reading;
mod reserve;
mod schema;
mod scrub;
mod shares;
mod source_counts;
mod sources;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod trace;
mod transaction;
mod turns;
mod watch;
mod writer;

pub use file::check_file;
pub(crate) use file::{beside, sync_directory_of};
pub(crate) use header::file_length;
pub use inspect::{Disk, DiskKind, FileContent, StoredOfSource, inspect_disk, inspect_file};
pub use moving::MoveSource;
pub use schema::NEWEST_VERSION;
pub use store::SqliteOutbox;
