//! Several customers in one text: a JSON array, or one a line (NDJSON).
//!
//! Each text is read in one pass. Each customer has the rules and the levels of a text of its own.

use super::error::{BrokenRules, MAX_BROKEN_RULES, PayloadError};
use super::payload::{SegmentIdentifyPayload, read_fields, read_text};
use super::scan::Scanner;

/// The most customers of one request.
pub const MAX_CUSTOMERS: usize = 1_000;

/// Broken rules that are reported in all. Beyond, each customer has its first one only. Without the limit the answer to a
/// body of 1 MiB could have 7 MiB.
const MAX_BROKEN_RULES_IN_ALL: usize = 1_000;

/// The customers of one text.
pub struct Customers<'a> {
    /// The first [`MAX_CUSTOMERS`], in the order of the text.
    pub read: Vec<Customer<'a>>,
    /// How many there are.
    pub count: usize,
}

/// One customer among several.
pub struct Customer<'a> {
    /// The text of this customer alone, without white space around it.
    pub text: &'a [u8],
    pub payload: Result<SegmentIdentifyPayload<'a>, PayloadError>,
}

impl<'a> Customers<'a> {
    /// Reads a JSON array of customers.
    ///
    /// # Errors
    /// [`PayloadError::InvalidJson`] if the text as a whole is not a JSON array that the relay accepts.
    pub fn from_array(text: &'a [u8]) -> Result<Self, PayloadError> {
        let mut scanner = Scanner::new(text)?;
        scanner.enter_outer_array()?;
        let mut customers = Self { read: Vec::new(), count: 0 };
        let (mut is_first, mut rules_left) = (true, MAX_BROKEN_RULES_IN_ALL);
        while scanner.next_element(&mut is_first)? {
            customers.count += 1;
            if customers.count > MAX_CUSTOMERS {
                scanner.value()?;
                continue;
            }
            let start = scanner.position();
            let mut broken = BrokenRules::at_most(rules_left.min(MAX_BROKEN_RULES));
            let payload = read_fields(&mut scanner, &mut broken)?;
            rules_left = rules_left.saturating_sub(broken.len());
            let text = scanner.since(start).as_bytes();
            let payload = payload.map(|payload| SegmentIdentifyPayload { body: Some(text), ..payload });
            customers.read.push(Customer { text, payload: broken.finish(payload) });
        }
        scanner.end()?;
        Ok(customers)
    }

    /// Reads one customer of each line. Lines of white space alone do not count. A line that is not JSON is the trouble of its
    /// own customer.
    pub fn from_lines(text: &'a [u8]) -> Self {
        let mut customers = Self { read: Vec::new(), count: 0 };
        let mut rules_left = MAX_BROKEN_RULES_IN_ALL;
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let text = trim_space(line);
            if text.is_empty() {
                continue;
            }
            customers.count += 1;
            if customers.count > MAX_CUSTOMERS {
                continue;
            }
            let mut broken = BrokenRules::at_most(rules_left.min(MAX_BROKEN_RULES));
            let read = read_text(text, &mut broken);
            rules_left = rules_left.saturating_sub(broken.len());
            let payload = read.map_err(|error| error.in_line(index + 1).into()).and_then(|read| broken.finish(read));
            customers.read.push(Customer { text, payload });
        }
        customers
    }
}

/// The first byte of a JSON text that is no white space.
pub fn first_byte(text: &[u8]) -> Option<u8> {
    text.iter().copied().find(|byte| !is_space(*byte))
}

/// Checks that a text is one JSON value that the relay accepts: RFC 8259, at most 128 levels, no name twice in one object and no
/// lone surrogate.
///
/// # Errors
/// [`PayloadError::InvalidJson`], with the place.
pub fn check_json(text: &[u8]) -> Result<(), PayloadError> {
    let mut scanner = Scanner::new(text)?;
    scanner.value()?;
    Ok(scanner.end()?)
}

fn trim_space(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_space(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_space(*last)
    {
        text = rest;
    }
    text
}

/// White space of JSON.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}
