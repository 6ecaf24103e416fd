//! A scheme and its secrets, compiled: it cannot be half-configured.

use super::scheme::Scheme;

/// Verifies senders.
pub struct Verifier(#[expect(dead_code)] Scheme);
