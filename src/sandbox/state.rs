//! The state that all connections of a sandbox share. No lock in it is held across an await.

use std::hash::RandomState;

use parking_lot::Mutex;

use super::faults::Faults;
use super::history::History;

/// The present faults, and the history of requests.
#[derive(Default)]
pub(super) struct SandboxState {
    pub(super) faults: Mutex<Faults>,
    pub(super) history: Mutex<History>,
    /// Hashes message ids. Outside the lock of the history, so that hashing does not hold that lock.
    pub(super) hasher: RandomState,
}
