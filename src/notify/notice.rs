//! What is told, and how it is written: `docs/notify.md` has an example of each kind.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

/// At most one notice of a kind in this time.
const PAUSE: Duration = Duration::from_secs(10 * 60);

/// The same for dead letters, which may come one after the other for days.
const DEAD_LETTER_PAUSE: Duration = Duration::from_secs(60 * 60);

/// The kinds of notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    OutageBegun,
    OutageOver,
    FirstDeadLetter,
    UserParked,
    OutboxHalfFull,
    MapWorkerRestarted,
}

/// What wakes somebody: counts and reasons. Nothing in it was written by a sender or by Segment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum Notice {
    OutageBegun {
        since: String,
        /// The code of the error that callers get.
        code: &'static str,
        /// Why the last request to Segment failed, and the status of its answer, if there was one.
        reason: Option<&'static str>,
        status: Option<u16>,
        /// Stored calls that are not settled, if there is an outbox.
        waiting: Option<u64>,
    },
    OutageOver {
        since: String,
        until: String,
        seconds: u64,
        waiting: Option<u64>,
    },
    /// How many since the last notice of this kind or the start, by why; and how many there are.
    FirstDeadLetter {
        refused: u64,
        gave_up: u64,
        unmapped: u64,
        kept: u64,
    },
    UserParked {
        users: u64,
        calls: u64,
    },
    OutboxHalfFull {
        bytes: u64,
        max_bytes: u64,
        waiting: u64,
        dead_letters: u64,
    },
    /// How many since the last notice of this kind or the start, by why.
    MapWorkerRestarted {
        time: u64,
        memory: u64,
        crash: u64,
    },
}

/// A notice as it is sent.
#[derive(Serialize)]
struct Payload<'a> {
    r#type: &'static str,
    timestamp: String,
    data: &'a Notice,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::OutageBegun => "outage.begun",
            Self::OutageOver => "outage.over",
            Self::FirstDeadLetter => "dead_letter.first",
            Self::UserParked => "user.parked",
            Self::OutboxHalfFull => "outbox.half_full",
            Self::MapWorkerRestarted => "map_worker.restarted",
        }
    }

    pub(super) fn pause(self) -> Duration {
        if self == Self::FirstDeadLetter { DEAD_LETTER_PAUSE } else { PAUSE }
    }
}

impl Notice {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::OutageBegun { .. } => Kind::OutageBegun,
            Self::OutageOver { .. } => Kind::OutageOver,
            Self::FirstDeadLetter { .. } => Kind::FirstDeadLetter,
            Self::UserParked { .. } => Kind::UserParked,
            Self::OutboxHalfFull { .. } => Kind::OutboxHalfFull,
            Self::MapWorkerRestarted { .. } => Kind::MapWorkerRestarted,
        }
    }

    /// The JSON that is sent.
    ///
    /// # Errors
    /// If it cannot be written: a fault of this file.
    pub(super) fn to_json(&self, time: Timestamp) -> serde_json::Result<Vec<u8>> {
        let (r#type, timestamp) = (self.kind().as_str(), rfc3339(time));
        serde_json::to_vec(&Payload { r#type, timestamp, data: self })
    }
}

/// In UTC, with milliseconds.
pub(super) fn rfc3339(time: Timestamp) -> String {
    format!("{time:.3}")
}
