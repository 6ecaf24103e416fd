//! The format of SQLite's pages, as far as it says which bytes belong to nothing: <https://sqlite.org/fileformat2.html>, of which the
//! comments name the sections.
//!
//! SQLite leaves the bytes of deleted rows where they were: in pages that are free, between the cells of a page, and behind the end of
//! a row in its last overflow page. What is found here is cleared by `scrub`. A page that is not as the format says is an error, and
//! nothing of it is changed.

/// The bytes of the file's header on page 1, before its b-tree (section 1.3).
const FILE_HEADER: usize = 100;

/// The first four bytes of an overflow page: the number of the next one (section 1.6).
const OVERFLOW_HEADER: usize = 4;

/// A cell takes four bytes at least, so that a freeblock fits into its place.
const MIN_CELL: usize = 4;

/// A page is not as the format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

type Result<T> = std::result::Result<T, Malformed>;

/// Where the rest of a cell is that does not fit into its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OverflowChain {
    pub(super) first_page: u32,
    pub(super) bytes: usize,
}

/// The bytes of a freelist's trunk page (section 1.5): the next trunk, 0 at the end, and the free pages that it lists.
pub(super) fn trunk(page: &[u8]) -> Result<(u32, Vec<u32>)> {
    let count = read_u32(page, 4)? as usize;
    // SQLite lists that many at most.
    if count > page.len() / 4 - 2 {
        return Err(Malformed);
    }
    let leaves = (0..count).map(|index| read_u32(page, 8 + 4 * index)).collect::<Result<_>>()?;
    Ok((read_u32(page, 0)?, leaves))
}

/// The first trunk of the freelist, 0 if no page is free, by the file's header on page 1 (section 1.3).
///
/// # Errors
/// If bytes are reserved at the end of each page, or some pages are pointer maps: another program made such a file.
pub(super) fn first_trunk(first_page: &[u8]) -> Result<u32> {
    let (reserved, largest_root) = (*first_page.get(20).ok_or(Malformed)?, read_u32(first_page, 52)?);
    if reserved != 0 || largest_root != 0 {
        return Err(Malformed);
    }
    read_u32(first_page, 32)
}

/// The number of the next overflow page, 0 on the last one.
pub(super) fn next_overflow(page: &[u8]) -> Result<u32> {
    read_u32(page, 0)
}

/// Bytes of a row on an overflow page that is not the last one.
pub(super) fn overflow_room(page_size: usize) -> usize {
    page_size.saturating_sub(OVERFLOW_HEADER)
}

/// Whether a page that is not free is a b-tree's, rather than an overflow page. The first byte of an overflow page belongs to the next
/// page's number, so it is 0 in files of fewer than 2^24 pages.
pub(super) fn is_btree(number: u32, page: &[u8]) -> bool {
    number == 1 || matches!(page.first(), Some(2 | 5 | 10 | 13))
}

/// Clears what a trunk page does not use.
pub(super) fn clear_trunk(page: &mut [u8]) -> Result<()> {
    let (_, leaves) = trunk(page)?;
    page.get_mut(8 + 4 * leaves.len()..).ok_or(Malformed)?.fill(0);
    Ok(())
}

/// Clears what is behind the last `bytes` of a row on its last overflow page.
pub(super) fn clear_tail(page: &mut [u8], bytes: usize) -> Result<()> {
    page.get_mut(OVERFLOW_HEADER + bytes..).ok_or(Malformed)?.fill(0);
    Ok(())
}

/// Clears what belongs to no cell of a b-tree page (section 1.6). Returns where its cells continue.
pub(super) fn clear_btree(number: u32, page: &mut [u8]) -> Result<Vec<OverflowChain>> {
    let header = if number == 1 { FILE_HEADER } else { 0 };
    let kind = Kind::of(*page.get(header).ok_or(Malformed)?)?;
    let cells = usize::from(read_u16(page, header + 3)?);
    let pointers = header + kind.header_bytes();
    let mut used = Used::new(page.len());
    used.mark(0, pointers + 2 * cells)?;
    let mut chains = Vec::new();
    for index in 0..cells {
        let at = usize::from(read_u16(page, pointers + 2 * index)?);
        let (bytes, chain) = kind.cell(page, at)?;
        used.mark(at, bytes)?;
        chains.extend(chain);
    }
    // Freeblocks are in the order of their places.
    let (mut at, mut last) = (usize::from(read_u16(page, header + 1)?), 0);
    while at != 0 {
        if at <= last {
            return Err(Malformed);
        }
        used.mark(at, MIN_CELL)?;
        (last, at) = (at, usize::from(read_u16(page, at)?));
    }
    used.clear_rest(page);
    Ok(chains)
}

/// The kinds of b-tree pages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    IndexInterior,
    TableInterior,
    IndexLeaf,
    TableLeaf,
}

impl Kind {
    fn of(byte: u8) -> Result<Self> {
        match byte {
            2 => Ok(Self::IndexInterior),
            5 => Ok(Self::TableInterior),
            10 => Ok(Self::IndexLeaf),
            13 => Ok(Self::TableLeaf),
            _ => Err(Malformed),
        }
    }

    fn header_bytes(self) -> usize {
        match self {
            Self::IndexInterior | Self::TableInterior => 12,
            Self::IndexLeaf | Self::TableLeaf => 8,
        }
    }

    /// The length of the cell at this place, and where it continues.
    fn cell(self, page: &[u8], at: usize) -> Result<(usize, Option<OverflowChain>)> {
        let child = match self {
            Self::IndexInterior | Self::TableInterior => 4,
            Self::IndexLeaf | Self::TableLeaf => 0,
        };
        let (first, mut length) = read_varint(page, at + child)?;
        length += child;
        if self == Self::TableInterior {
            // The first number is the row's id, and there is no more.
            return Ok((length.max(MIN_CELL), None));
        }
        if self == Self::TableLeaf {
            length += read_varint(page, at + length)?.1;
        }
        let payload = usize::try_from(first).map_err(|_| Malformed)?;
        let local = self.local_bytes(payload, page.len());
        length += local;
        if local == payload {
            return Ok((length.max(MIN_CELL), None));
        }
        let first_page = read_u32(page, at + length)?;
        Ok((length + 4, Some(OverflowChain { first_page, bytes: payload - local })))
    }

    /// Bytes of a payload that are in the cell itself.
    fn local_bytes(self, payload: usize, page_size: usize) -> usize {
        let most = match self {
            Self::TableLeaf => page_size - 35,
            _ => (page_size - 12) * 64 / 255 - 23,
        };
        if payload <= most {
            return payload;
        }
        let least = (page_size - 12) * 32 / 255 - 23;
        let kept = least + (payload - least) % (page_size - 4);
        if kept <= most { kept } else { least }
    }
}

/// Which bytes of a page belong to something.
struct Used(Vec<bool>);

impl Used {
    fn new(bytes: usize) -> Self {
        Self(vec![false; bytes])
    }

    /// # Errors
    /// If a byte is not on the page, or belongs to something already.
    fn mark(&mut self, at: usize, bytes: usize) -> Result<()> {
        let range = self.0.get_mut(at..at.saturating_add(bytes)).ok_or(Malformed)?;
        if range.contains(&true) {
            return Err(Malformed);
        }
        range.fill(true);
        Ok(())
    }

    fn clear_rest(&self, page: &mut [u8]) {
        for (byte, is_used) in page.iter_mut().zip(&self.0) {
            if !is_used {
                *byte = 0;
            }
        }
    }
}

fn read_u16(page: &[u8], at: usize) -> Result<u16> {
    let bytes = page.get(at..at.saturating_add(2)).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u16::from_be_bytes).ok_or(Malformed)
}

fn read_u32(page: &[u8], at: usize) -> Result<u32> {
    let bytes = page.get(at..at.saturating_add(4)).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u32::from_be_bytes).ok_or(Malformed)
}

/// A number of one to nine bytes, and how many it has.
fn read_varint(page: &[u8], at: usize) -> Result<(u64, usize)> {
    let mut value = 0;
    for index in 0..9 {
        let byte = *page.get(at + index).ok_or(Malformed)?;
        if index == 8 {
            return Ok((value << 8 | u64::from(byte), 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Ok((value, index + 1));
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::{Malformed, clear_btree, clear_tail, clear_trunk, first_trunk};

    /// A leaf of a table with two rows, a freeblock of eight bytes, and a fragment of three.
    fn leaf() -> Vec<u8> {
        let mut page = vec![b'x'; 512];
        page[..8].copy_from_slice(&[13, 1, 0xe8, 0, 2, 1, 0xe4, 3]);
        page[8..12].copy_from_slice(&[1, 0xf3, 1, 0xe4]);
        // A row of two bytes, which takes four; the freeblock; the fragment; a row of eleven bytes.
        page[0x1e4..0x1e8].copy_from_slice(&[2, 7, b'a', b'b']);
        page[0x1e8..0x1ec].copy_from_slice(&[0, 0, 0, 8]);
        page[0x1f3..0x1f5].copy_from_slice(&[11, 8]);
        page
    }

    #[test]
    fn the_gap_and_freeblocks_and_fragments_of_a_page_are_cleared_and_its_cells_are_not() {
        let (old, mut page) = (leaf(), leaf());
        assert_eq!(clear_btree(2, &mut page), Ok(Vec::new()));
        for (range, is_kept) in [
            (0..12, true),
            (12..0x1e4, false),
            (0x1e4..0x1ec, true),
            (0x1ec..0x1f0, false),
            (0x1f0..0x1f3, false),
            (0x1f3..0x200, true),
        ] {
            let expected = if is_kept { old[range.clone()].to_vec() } else { vec![0; range.len()] };
            assert_eq!(page[range.clone()], expected, "{range:x?}");
        }
    }

    #[test]
    fn a_page_that_is_not_as_the_format_says_is_not_changed() {
        // The kind, a freeblock and a cell outside of the page, cells beyond its end and over one another, a length beyond it.
        for (at, byte) in [(0, 7), (1, 0xff), (8, 0xff), (3, 0xff), (10, 1), (11, 0xf3), (0x1f3, 0x7f), (0x1e8, 1)] {
            let mut page = leaf();
            page[at] = byte;
            let before = page.clone();
            if clear_btree(2, &mut page).is_err() {
                assert!(page == before, "{at:x}");
            } else {
                assert_eq!(at, 10, "{at:x}");
            }
        }
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut page = leaf();
            (0..random.usize(1..6)).for_each(|_| page[random.usize(..512)] = random.u8(..));
            let before = page.clone();
            assert!(clear_btree(2, &mut page).is_ok() || page == before);
            let _ = (clear_trunk(&mut page), clear_tail(&mut page, random.usize(..600)), first_trunk(&page));
        }
        assert_eq!(clear_btree(2, &mut []), Err(Malformed));
    }
}
