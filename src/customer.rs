//! One customer as a caller sends it, and the rules that it must keep.
//!
//! Invariants: a parsed payload was checked as a whole (its JSON first, then every rule of `POST /customers`). `traits`,
//! `context` and `integrations` are the caller's own text and are never rebuilt. A parsed payload borrows from the body.
//! `Debug` shows no value, so that no trait or id gets into a log.
//!
//! Not in here: limits on the size of a body or a call, making a `messageId` or a timestamp, and the JSON that Segment
//! gets.

mod date;
mod error;
mod id;
mod object;
mod payload;
mod scan;
mod several;
mod time;
mod traits;

#[cfg(test)]
mod date_tests;
#[cfg(test)]
mod id_tests;
#[cfg(test)]
mod scan_tests;
#[cfg(test)]
mod several_tests;
#[cfg(test)]
mod tests;

pub use error::{BrokenRule, MAX_BROKEN_RULES, PayloadError};
pub use id::check_user_id;
pub(crate) use id::is_blank;
pub use object::JsonObject;
pub use payload::SegmentIdentifyPayload;
pub use several::{Customer, Customers, MAX_CUSTOMERS, check_json, first_byte};
pub(crate) use time::read_timestamp;
#[cfg(test)]
pub(crate) use traits::reserved_traits;
pub use traits::{Address, UserTraits};
