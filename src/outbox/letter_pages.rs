//! A page of dead letters that is read in several steps, of whatever kind the store is.

use super::{LetterFilter, LetterPage};

/// Reads for one page: a second or so, and 50,000 letters.
pub(super) const PAGE_STEPS: usize = 50;

/// Bytes of the letters on one page, which is in memory until it is sent. 1,000 usual letters are a tenth of it, and a letter has
/// about 1 MiB at most: so a page has more than one of the largest, and all pages in progress have some 20 MiB.
pub(super) const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// A page of the newest letters that fit, while it is read.
pub(super) struct LetterPages {
    limit: usize,
    filter: LetterFilter,
    page: LetterPage,
    bytes_left: usize,
    steps_left: usize,
}

/// What a read may find.
pub(super) struct LetterRead {
    pub(super) limit: usize,
    pub(super) bytes: usize,
    pub(super) filter: LetterFilter,
}

impl LetterPages {
    pub(super) fn new(limit: usize, filter: LetterFilter) -> Self {
        let page = LetterPage { letters: Vec::new(), next: None };
        Self { limit, filter, page, bytes_left: PAGE_BYTES, steps_left: PAGE_STEPS }
    }

    /// The next read; `None` when the page is complete.
    pub(super) fn next_read(&mut self) -> Option<LetterRead> {
        self.steps_left = self.steps_left.checked_sub(1)?;
        let limit = self.limit.saturating_sub(self.page.letters.len());
        (self.bytes_left > 0).then(|| LetterRead { limit, bytes: self.bytes_left, filter: self.filter.clone() })
    }

    /// Adds what a read found: letters, and their bytes.
    pub(super) fn add(&mut self, LetterPage { letters, next }: LetterPage, bytes: usize) {
        self.page.letters.extend(letters);
        (self.page.next, self.filter.before) = (next, next);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        if next.is_none() || self.page.letters.len() >= self.limit {
            self.steps_left = 0;
        }
    }

    pub(super) fn into_page(self) -> LetterPage {
        self.page
    }
}
