//! The trait [`Store`]: a whole store, as the relay puts it together with the rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::backup::Backups;
use super::calls::Calls;
use super::events::Events;
use super::fleet::FleetReport;
use super::forget::{ForgetRequests, Forgetting, PersonStore};
use super::letters::DeadLetters;
use super::store::{Outbox, ParkedUsers, SourceStats};

/// A whole store: everything that a relay does with it.
pub trait Store: Outbox + DeadLetters + Events + ParkedUsers + Calls {
    /// How long the keys of these sources are remembered after their calls were accepted, from now on. A source that is not
    /// among them has 8 days. Before this is said for the first time, no key of a source is forgotten.
    fn set_key_windows(&self, windows: BTreeMap<Arc<str>, Duration>);

    /// What waits of `POST /customers`, and of each source of which anything does, from memory.
    fn source_stats(&self) -> Vec<SourceStats>;

    /// The relays that have this store, from memory. `None`: no other relay can have it.
    fn fleet(&self) -> Option<FleetReport> {
        None
    }

    /// The store's copies, if they are the relay's business.
    fn backups(self: Arc<Self>) -> Option<Arc<dyn Backups>> {
        None
    }

    /// The store's part of forgetting a person, for the process that delivers.
    fn persons(self: Arc<Self>) -> Option<Arc<dyn PersonStore>> {
        None
    }

    /// What other relays ask of the process that delivers, if there may be others.
    fn forget_requests(self: Arc<Self>) -> Option<Arc<dyn ForgetRequests>> {
        None
    }

    /// What asks the process that delivers to forget a person, if that may be another one.
    fn forgetting(self: Arc<Self>) -> Option<Arc<dyn Forgetting>> {
        None
    }
}
