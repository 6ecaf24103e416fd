//! How the header of a signature is written: `sha256={signature}`, `t={timestamp},v1={signature}`.
//!
//! The header is cut into parts. Each part that begins as the format says is a signature or the time; others, such as `v0=`,
//! are of other versions and are passed over.

use super::template::{Part, parse};

/// A format, compiled.
pub(super) struct Format {
    /// The bytes at which the header is cut. None: the header is one part.
    cut_at: Vec<u8>,
    /// What a signature stands between. The first that fits counts.
    signature: Vec<Around>,
    /// What the time stands between, if it is in this header.
    time: Option<Around>,
}

/// The text around a placeholder.
struct Around {
    before: Vec<u8>,
    after: Vec<u8>,
}

/// A part of a header.
pub(super) enum Found<'h> {
    Signature(&'h [u8]),
    Time(&'h [u8]),
}

impl Format {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn compile(template: &str) -> Result<Self, Vec<String>> {
        let parts = parse(template).map_err(|problem| vec![problem.to_owned()])?;
        let mut problems = Vec::new();
        let count = |name| parts.iter().filter(|part| **part == Part::Placeholder(name)).count();
        if count("signature") != 1 {
            problems.push("{signature} must be there once".to_owned());
        }
        if count("timestamp") > 1 {
            problems.push("{timestamp} may be there once".to_owned());
        }
        problems.extend(parts.iter().filter_map(|part| match part {
            Part::Placeholder("signature" | "timestamp") | Part::Literal(_) => None,
            Part::Placeholder(name) => {
                Some(format!("{{{name}}} is unknown; there are {{signature}} and {{timestamp}}"))
            }
        }));
        if !problems.is_empty() {
            return Err(problems);
        }
        if count("timestamp") == 0 {
            return Ok(Self::without_time(template, &parts));
        }
        Self::with_time(&parts).map_err(|problem| vec![problem.to_owned()])
    }

    fn without_time(template: &str, parts: &[Part<'_>]) -> Self {
        let cut_at = b" ,".iter().copied().filter(|byte| !template.as_bytes().contains(byte)).collect();
        let [before, after] = around(parts, "signature");
        Self { cut_at, signature: vec![Around::new(before, after)], time: None }
    }

    fn with_time(parts: &[Part<'_>]) -> Result<Self, &'static str> {
        let [signature, time] = ["signature", "timestamp"].map(|name| around(parts, name));
        let is_time_first = parts
            .iter()
            .find(|part| matches!(part, Part::Placeholder(_)))
            .is_some_and(|first| *first == Part::Placeholder("timestamp"));
        let ([first, between], last) = if is_time_first { (time, signature[1]) } else { (signature, time[1]) };
        let cut = between.matches([',', ';']).next().unwrap_or(" ");
        let is_only_there = between.matches(cut).count() == 1 && !first.contains(cut) && !last.contains(cut);
        if !is_only_there {
            return Err(
                "one comma, semicolon or space must stand between {timestamp} and {signature}, and nowhere else",
            );
        }
        let (end_of_first, start_of_last) = between.split_once(cut).unwrap_or_default();
        let [first, last] = [Around::new(first, end_of_first), Around::new(start_of_last, last)];
        let is_distinct = !first.before.starts_with(&last.before) && !last.before.starts_with(&first.before);
        if !is_distinct {
            return Err(
                "{timestamp} and {signature} must each have a name in front, as in t={timestamp},v1={signature}",
            );
        }
        let (time, signature) = if is_time_first { (first, last) } else { (last, first) };
        Ok(Self { cut_at: cut.as_bytes().to_vec(), signature: vec![signature], time: Some(time) })
    }

    /// Signatures with spaces between, each behind `prefix`.
    pub(super) fn list(prefix: &str) -> Self {
        Self { cut_at: vec![b' '], signature: vec![Around::new(prefix, "")], time: None }
    }

    /// The whole header is one signature. `prefix` may be in front.
    pub(super) fn whole(prefix: &str) -> Self {
        let signature = vec![Around::new(prefix, ""), Around::new("", "")];
        Self { cut_at: Vec::new(), signature, time: None }
    }

    pub(super) fn has_time(&self) -> bool {
        self.time.is_some()
    }

    /// Whether a header may hold several signatures.
    pub(super) fn is_list(&self) -> bool {
        !self.cut_at.is_empty()
    }

    /// The parts of a header's value, in order.
    pub(super) fn read<'a>(&'a self, value: &'a [u8]) -> impl Iterator<Item = Found<'a>> {
        value.split(|byte| self.cut_at.contains(byte)).filter_map(|part| {
            let part = if self.is_list() { trim_spaces(part) } else { part };
            if let Some(time) = self.time.as_ref().and_then(|around| around.strip(part)) {
                return Some(Found::Time(time));
            }
            self.signature.iter().find_map(|around| around.strip(part)).map(Found::Signature)
        })
    }
}

impl Around {
    fn new(before: &str, after: &str) -> Self {
        Self { before: before.trim_start().as_bytes().to_vec(), after: after.trim_end().as_bytes().to_vec() }
    }

    fn strip<'h>(&self, part: &'h [u8]) -> Option<&'h [u8]> {
        part.strip_prefix(&self.before[..])?.strip_suffix(&self.after[..])
    }
}

/// The literals directly before and after a placeholder.
fn around<'a>(parts: &[Part<'a>], name: &str) -> [&'a str; 2] {
    let at = parts.iter().position(|part| *part == Part::Placeholder(name)).unwrap_or_default();
    let literal = |at: Option<usize>| match at.and_then(|at| parts.get(at)) {
        Some(Part::Literal(text)) => *text,
        _ => "",
    };
    [literal(at.checked_sub(1)), literal(Some(at + 1))]
}

fn trim_spaces(mut part: &[u8]) -> &[u8] {
    while let Some(rest) = part.strip_prefix(b" ").or_else(|| part.strip_suffix(b" ")) {
        part = rest;
    }
    part
}
