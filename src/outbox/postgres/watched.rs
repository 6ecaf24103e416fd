//! The keys of the calls that callers of this relay watch, by which their outcomes are looked for.

use std::collections::HashMap;

use super::keys::Digest;
use crate::outbox::CallId;

/// The keys of the calls that callers of this relay watch.
#[derive(Default)]
pub(super) struct WatchedKeys {
    pub(super) by_call: HashMap<CallId, Digest>,
    /// Calls that were not looked for yet: one may be settled before its caller is noted.
    pub(super) is_new: bool,
}
