//! Fuzzing on stable Rust: a target's property is held against its corpus, then against inputs near it, for a while.
//!
//! The targets live beside what they try, in files named `fuzz.rs`. A corpus is the folder `tests/corpora/TARGET`, one input
//! a file, all made for this project; what once broke a target belongs into it. Inputs near it are its files with bytes and
//! pieces replaced, removed, doubled, flipped and put in from elsewhere, and now and then arbitrary bytes. They are others
//! each time; one that fails is made as small as it goes and printed.
//!
//! A target takes [`SECONDS`] of the test command. For longer, and to see how many inputs were tried:
//!
//! ```sh
//! FUZZ_SECONDS=600 cargo test --lib fuzz -- --nocapture
//! ```
//!
//! It is not guided by coverage, which stable Rust does not offer without more tools.

pub(crate) mod json;

use std::fmt;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

/// How long a target is tried in the test command: thousands of inputs, and all targets together well under a minute.
const SECONDS: u64 = 3;

/// An input, shown as text where it is text.
#[derive(Clone)]
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// One change of an input, at a place.
#[derive(Clone, Debug)]
enum Edit {
    /// Removes so many bytes and puts these there.
    Replace(usize, Vec<u8>),
    /// Puts so many bytes there once more.
    Double(usize),
    Flip(u8),
    /// Ends the input there.
    Cut,
    /// Puts a piece of the corpus there, which begins at this place of this file.
    Splice(Index, Index, usize),
}

/// Holds `property` against the files of `tests/corpora/target`, then against inputs near them. `tokens` are pieces that mean
/// something to what is tried.
///
/// # Panics
/// At the first input against which `property` panics.
pub(crate) fn hold(target: &str, tokens: &'static [&'static str], property: impl Fn(&[u8])) {
    let corpus = corpus(target);
    for (file, input) in &corpus {
        let held = catch_unwind(AssertUnwindSafe(|| property(input)));
        assert!(held.is_ok(), "{target}: {file} breaks it");
    }
    let near = near(corpus.into_iter().map(|(_, input)| input).collect(), tokens);
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut runner = TestRunner::default();
    let mut tried = 0_u64;
    while Instant::now() < end {
        let case = near.new_tree(&mut runner).expect("an input");
        let result = runner.run_one(case, |Input(input)| {
            property(&input);
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{target}: {failure}"));
        tried += 1;
    }
    println!("{target}: {tried} inputs tried");
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpora").join(target);
    let paths = fs::read_dir(folder).expect("a corpus").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = paths.map(|path| (path.display().to_string(), fs::read(&path).expect("a file"))).collect();
    files.sort();
    assert!(!files.is_empty(), "the corpus of {target} is empty");
    files
}

fn near(corpus: Vec<Vec<u8>>, tokens: &'static [&'static str]) -> impl Strategy<Value = Input> {
    let corpus: Arc<[Vec<u8>]> = corpus.into();
    let edits = vec((any::<Index>(), edit(tokens)), 0..6);
    let edited = (any::<Index>(), edits).prop_map(move |(file, edits)| {
        let mut input = file.get(&corpus).clone();
        edits.iter().for_each(|(place, edit)| edit.apply(place, &mut input, &corpus));
        Input(input)
    });
    prop_oneof![12 => edited, 1 => vec(any::<u8>(), 0..64).prop_map(Input)]
}

fn edit(tokens: &'static [&'static str]) -> impl Strategy<Value = Edit> {
    let few = || vec(any::<u8>(), 0..4);
    let token = select(tokens).prop_map(|token| token.as_bytes().to_vec());
    prop_oneof![
        3 => (0..4_usize, few()).prop_map(|(count, bytes)| Edit::Replace(count, bytes)),
        2 => (1..40_usize).prop_map(|count| Edit::Replace(count, Vec::new())),
        4 => (prop_oneof![Just(0), 0..12_usize], token).prop_map(|(count, token)| Edit::Replace(count, token)),
        2 => (1..200_usize).prop_map(Edit::Double),
        1 => (0..8_u8).prop_map(Edit::Flip),
        1 => Just(Edit::Cut),
        2 => (any::<Index>(), any::<Index>(), 1..60_usize)
            .prop_map(|(file, from, count)| Edit::Splice(file, from, count)),
    ]
}

impl Edit {
    fn apply(&self, place: &Index, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = place.index(input.len() + 1);
        let up_to = |count: usize, length: usize| (at + count).min(length);
        match self {
            Self::Replace(count, bytes) => drop(input.splice(at..up_to(*count, input.len()), bytes.iter().copied())),
            Self::Double(count) => {
                let piece = input[at..up_to(*count, input.len())].to_vec();
                drop(input.splice(at..at, piece));
            }
            Self::Flip(bit) => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit),
            Self::Cut => input.truncate(at),
            Self::Splice(file, from, count) => {
                let other = file.get(corpus);
                let from = from.index(other.len() + 1);
                let piece = other[from..].iter().take(*count).copied();
                drop(input.splice(at..at, piece));
            }
        }
    }
}
