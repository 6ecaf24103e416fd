//! The state that all connections of a sandbox share. No lock in it is held across an await.

use std::hash::RandomState;

use parking_lot::Mutex;

use super::faults::Faults;
use super::history::History;

/// The present faults, and the history of requests.
#[derive(Default)]
pub struct SandboxState {
    pub faults: Mutex<Faults>,
    pub history: Mutex<History>,
    /// Hashes message ids. Outside the lock of the history, so that hashing does not hold that lock.
    pub hasher: RandomState,
}
