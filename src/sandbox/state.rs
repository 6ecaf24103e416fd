//! The state that all connections of a sandbox share. No lock in it is held across an await.

use std::hash::RandomState;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::events::EventLimits;
use super::faults::Faults;
use super::history::History;

/// Faults to come and requests that were.
pub struct SandboxState {
    faults: Mutex<Faults>,
    history: Mutex<History>,
    /// Hashes message ids. Outside the lock of the history, so that hashing does not hold that lock.
    pub hasher: RandomState,
}

impl SandboxState {
    /// No faults, an empty history.
    pub fn new() -> Self {
        Self {
            faults: Mutex::new(Faults::default()),
            history: Mutex::new(History::new(EventLimits::default())),
            hasher: RandomState::new(),
        }
    }

    /// Locks the faults.
    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the history.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
