//! Fuzz targets as proptest properties: inputs are the files of a corpus, then mutations of them.
//!
//! The targets are in files named `fuzz.rs` beside the code that they test. The corpus of a target is the folder
//! `tests/corpora/TARGET` with one input a file, all made for this project. An input that once failed belongs there.
//!
//! Every run mutates anew; proptest shrinks a failing input and prints it. `PROPTEST_CASES` sets the number of mutations:
//!
//! ```sh
//! PROPTEST_CASES=1000000 cargo test --lib fuzz
//! ```

pub(crate) mod json;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner, contextualize_config};
use regex_syntax::hir::{Class, HirKind};

/// The characters of one class of a regular expression.
pub(crate) fn characters(class: &str) -> BTreeSet<char> {
    let class = regex_syntax::parse(class).expect("a regular expression").into_kind();
    let HirKind::Class(Class::Unicode(class)) = class else { panic!("a class") };
    class.iter().flat_map(|range| range.start()..=range.end()).collect()
}

/// The characters that name nobody, by another copy of Unicode's tables than the program's.
pub(crate) fn invisible() -> &'static BTreeSet<char> {
    static INVISIBLE: LazyLock<BTreeSet<char>> =
        LazyLock::new(|| characters(r"[\p{White_Space}\p{Cc}\p{Default_Ignorable_Code_Point}]"));
    &INVISIBLE
}

/// Mutations per target if `PROPTEST_CASES` is not set. All targets together take a few seconds.
const CASES: u32 = 2_000;

/// An input, shown as text where it is ASCII.
#[derive(Clone)]
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// Holds `property` for the corpus of `target` and for mutations of it. `tokens` have a meaning in the target's inputs.
///
/// # Panics
/// At the first input for which `property` panics.
pub(crate) fn hold(target: &str, tokens: &'static [&'static str], property: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpora").join(target);
    let files = folder.read_dir().expect("a corpus").map(|entry| entry.expect("a file").path());
    let corpus: Vec<Vec<u8>> = files.map(|file| std::fs::read(file).expect("a file")).collect();
    // A test may not write files beside the sources.
    let config = contextualize_config(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let hold = |Input(input)| {
        property(&input);
        Ok(())
    };
    for input in corpus.clone() {
        let held = TestRunner::new(config.clone()).run_one(Just(Input(input)), hold);
        held.unwrap_or_else(|failure| panic!("{target}, in the corpus: {failure}"));
    }
    let held = TestRunner::new(config).run(&mutations(corpus, tokens), hold);
    held.unwrap_or_else(|failure| panic!("{target}: {failure}"));
}

/// Files of the corpus with up to five changes, and now and then arbitrary bytes.
fn mutations(corpus: Vec<Vec<u8>>, tokens: &'static [&'static str]) -> impl Strategy<Value = Input> {
    let change = (any::<Index>(), removed(), inserted(corpus.clone(), tokens));
    let mutated = (select(corpus), vec(change, 0..6)).prop_map(|(mut input, changes)| {
        for (place, count, inserted) in changes {
            let from = place.index(input.len() + 1);
            let to = from.saturating_add(count).min(input.len());
            let inserted = inserted.unwrap_or_else(|| input[from..to].repeat(2));
            input.splice(from..to, inserted);
        }
        Input(input)
    });
    prop_oneof![12 => mutated, 1 => vec(any::<u8>(), 0..64).prop_map(Input)]
}

/// The number of bytes that a change removes: none, a few, a piece, or the rest of the input.
fn removed() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(0), 6 => 0..12_usize, 4 => 1..200_usize, 1 => Just(usize::MAX)]
}

/// What a change inserts: bytes, a token, a piece of the corpus, nothing, or (`None`) the removed bytes twice.
fn inserted(corpus: Vec<Vec<u8>>, tokens: &'static [&'static str]) -> impl Strategy<Value = Option<Vec<u8>>> {
    let token = select(tokens).prop_map(|token| token.as_bytes().to_vec());
    let piece = (select(corpus), any::<Index>(), 1..60_usize).prop_map(|(file, from, count)| {
        let rest = &file[from.index(file.len() + 1)..];
        rest[..count.min(rest.len())].to_vec()
    });
    prop_oneof![
        3 => vec(any::<u8>(), 0..4).prop_map(Some),
        4 => token.prop_map(Some),
        2 => piece.prop_map(Some),
        2 => Just(Some(Vec::new())),
        2 => Just(None),
    ]
}
