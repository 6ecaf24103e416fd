//! The outbox: it holds calls on disk from the 202 answer until Segment accepts or refuses them.
//!
//! [`OutboxClients`] makes the clients behind the injected seam: a flush returns when its call is synced. They write to
//! an [`Outbox`], the store, of which [`sqlite`] is one. `delivery` empties the store. A call that Segment refuses
//! becomes a [`DeadLetter`].
//!
//! Invariants: a call and the record of its idempotency key are stored in one transaction; nothing is reported as
//! stored before it is synced; a call leaves the outbox only when it is accepted or becomes a dead letter.

mod backup;
mod calls;
mod client;
mod columns;
mod even_clock;
mod events;
mod fleet;
mod forget;
mod letter_pages;
mod letters;
mod limits;
mod moved;
mod parked_log;
mod parking;
pub mod postgres;
pub mod sqlite;
mod store;
#[cfg(test)]
mod suite;
mod watchers;
mod whole;
mod wishes;

pub use backup::{BackupError, Backups, StoreCopy};
pub use calls::{CallFate, CallReport, Calls, KeptCall};
pub use client::OutboxClients;
pub use events::{Events, KeptEvent};
pub use fleet::{FleetDatabase, FleetDeliverer, FleetMember, FleetReport};
pub use forget::{DeletedRows, ForgetRequests, Forgetting, Forgotten, Person, PersonStore, StillOut};
pub use letters::{DeadLetter, DeadLetters, LetterEvent, LetterFilter, LetterIds, LetterPage, LetterWalk, LetterWhy};
pub use moved::{MoveHead, MoveStep, PAGE_ROWS};
pub use store::{
    Append, Appended, CallId, DeliveryOutcome, KeyRecord, Outbox, OutboxError, OutboxStats, ParkedFilter, ParkedUser,
    ParkedUsers, STORE_RETRY_AFTER, SourceStats, StoredCall,
};
pub use whole::Store;
