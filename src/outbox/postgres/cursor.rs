//! Where reading stands: the snapshot of the last page. Pure.
//!
//! The id of a call is made of the transaction that stored it: `((base + xid) << 16) + place`. So the calls of a transaction are one
//! range of ids, and a snapshot says of each range one of three things. The transaction has ended: its calls were in the page. It
//! is in progress: its range is looked at again. It has not begun as far as the snapshot sees: its range is above all that was
//! read. Nothing else needs to be remembered, neither gaps nor rollbacks.

use crate::outbox::CallId;

/// Bits of an id that hold the place of a call in its transaction.
const PLACE_BITS: u32 = 16;

/// What a snapshot says: `xmin:xmax:xip,xip...`, with the base added to each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// No transaction from here on was seen to begin.
    next: i64,
    /// Those below `next` that had not ended.
    in_progress: Vec<i64>,
}

/// A range of ids that may get, or still has, calls that were not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: CallId,
    last: CallId,
}

/// Where reading stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// No call with a greater id was read.
    tail: CallId,
    /// Ranges up to it that are looked at again.
    ranges: Vec<Range>,
    /// Every call with an id up to this one that the last page could see was read.
    read_to: CallId,
}

impl Snapshot {
    /// Reads the text of a `pg_snapshot`. `None` if it is none.
    pub(super) fn parse(text: &str, base: i64) -> Option<Self> {
        let mut parts = text.split(':');
        let (_, next, in_progress) = (parts.next()?, parts.next()?, parts.next()?);
        let number =
            |text: &str| text.parse::<i64>().ok()?.checked_add(base).filter(|n| *n < CallId::MAX >> PLACE_BITS);
        let in_progress = in_progress.split(',').filter(|text| !text.is_empty()).map(number).collect::<Option<_>>()?;
        Some(Self { next: number(next)?, in_progress })
    }
}

impl Range {
    fn of(transaction: i64) -> Self {
        let first = transaction << PLACE_BITS;
        Self { first, last: first | ((1 << PLACE_BITS) - 1) }
    }
}

impl Cursor {
    /// Calls with greater ids are read.
    pub(super) fn tail(&self) -> CallId {
        self.tail
    }

    /// The first and the last ids of the ranges that are read, too.
    pub(super) fn ranges(&self) -> (Vec<CallId>, Vec<CallId>) {
        self.ranges.iter().map(|range| (range.first, range.last)).unzip()
    }

    /// No later page holds a call with an id up to this one that was stored before a call of the pages so far.
    pub(super) fn read_to(&self) -> CallId {
        self.read_to
    }

    /// Notes a page, which was read under this snapshot and in the order of ids. `last` is its last id. `is_cut`: there may be more
    /// after that one.
    pub(super) fn advance(&mut self, snapshot: &Snapshot, last: Option<CallId>, is_cut: bool) {
        let read_to = match last {
            Some(last) if is_cut => last,
            _ => self.tail.max(last.unwrap_or(0)).max((snapshot.next << PLACE_BITS) - 1),
        };
        let is_open = |range: &Range| snapshot.in_progress.contains(&(range.first >> PLACE_BITS));
        self.ranges.retain_mut(|range| {
            if range.last <= read_to {
                // What was visible of it was read.
                return is_open(range);
            }
            range.first = range.first.max(read_to.saturating_add(1));
            true
        });
        for open in snapshot.in_progress.iter().map(|open| Range::of(*open)) {
            // No call of this transaction was visible, so the last one that was is not inside of the range.
            if open.first > self.tail && open.last <= read_to {
                self.ranges.push(open);
            }
        }
        self.tail = self.tail.max(read_to);
        self.read_to = read_to;
    }
}

#[cfg(test)]
mod tests;
