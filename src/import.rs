//! Back-fill: sends the customers of files, one a line (NDJSON), straight to Segment or into a running relay.
//!
//! `job` is one file: it takes `lines` from a thread that reads, checks each as `POST /customers` does, and keeps those that
//! are not settled. `journal` says on disk up to which line all are settled, `refused` has the lines that were not taken.
//! `straight` sends through the publisher, `relay` to a running relay, which `sender` signs for. `progress` tells how far it is, by the
//! numbers of `counts`.

mod counts;
mod job;
mod journal;
mod lines;
mod progress;
mod refused;
mod relay;
mod sender;
mod straight;

pub use counts::Counts;
pub use job::{Job, JobSettings};
pub use progress::Progress;
pub use relay::RelayTarget;
pub use sender::Sender;
pub use straight::send as send_straight;
