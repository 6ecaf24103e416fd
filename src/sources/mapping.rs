//! Makes customers of events, in processes of their own (`segment-relay map-worker`).
//!
//! No filter runs in the relay's process. A worker has one event at a time, so what a filter does to its process is the trouble of
//! that event. Whether an output is a valid customer is decided elsewhere (`event`).

mod frame;
mod jq;
mod pool;
mod process;
mod queue;
pub mod worker;

use std::fmt;

use bytes::Bytes;

pub use pool::{MAPPING_FDS, Mapper};

/// A jq filter of an operator's.
#[derive(Debug, PartialEq, Eq)]
pub struct Filter {
    /// Where it stands, for messages: `stripe.jq`, or `sources.toml: shopify.map`.
    pub place: String,
    pub text: String,
}

/// What a filter is given.
#[derive(Clone)]
pub struct Event {
    /// In lower case. `header("x-name")` reads the first of a name.
    pub headers: Vec<(String, Vec<u8>)>,
    /// JSON that passed the relay's own scan.
    pub body: Bytes,
    /// In milliseconds since 1970. `received_at` is its RFC 3339 text, in UTC, with milliseconds.
    pub received_at: i64,
}

/// Why a filter made no customers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapError {
    /// The filter failed. In its own words, which may quote the event, cut to 160 characters: never for the log.
    Failed(String),
    TimedOut,
    OutOfMemory,
    /// The worker died for another reason, twice.
    Crashed,
    /// More than 1,000 outputs.
    TooMany,
    /// Too many events of this source wait. The event was not tried.
    Overloaded,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => f.write_str(reason),
            Self::TimedOut => f.write_str("the filter took longer than 1 s"),
            Self::OutOfMemory => f.write_str("the filter needed more than 64 MiB of memory"),
            Self::Crashed => f.write_str("the filter crashed its process"),
            Self::TooMany => f.write_str("the filter made more than 1,000 customers"),
            Self::Overloaded => f.write_str("too many events of this source wait for its filter"),
        }
    }
}
