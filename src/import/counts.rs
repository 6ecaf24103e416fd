//! How many lines of a file were sent, and how many were not.

/// Lines with a customer, by what became of them.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    pub accepted: u64,
    pub stored: u64,
    pub refused: u64,
    pub gave_up: u64,
    /// Lines that the journal says are settled.
    pub done_before: u64,
    /// Lines that an earlier run of the same job refused or gave up.
    pub refused_before: u64,
}
