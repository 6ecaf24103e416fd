//! jq, as jaq has it: compiles a filter and runs it. Only a worker calls this, because a filter may do anything to its process.
//!
//! A filter reaches nothing but its event: what reads the environment, the clock, the time zone of the machine or other files, and
//! what ends the process or writes to its output, is left out.

use std::fmt::{self, Write};

use jaq_core::data::{DataT, HasLut};
use jaq_core::load::parse::Def;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::native::{Filter as Native, Fun, bome, run, v};
use jaq_core::{Compiler, Ctx, Error, Filter, Lut, RunPtr, ValR, Vars};
use jaq_json::write::Pp;
use jaq_json::{Val, read, write};
use jaq_std::ValT;
use jiff::Timestamp;

use super::frame::{MAX_OUTPUTS, OutputFrame};

/// How much of an error is kept. Errors quote values, which may be of any size.
const MAX_REASON: usize = 160;

/// How much of the filter's text an error quotes.
const MAX_QUOTE: usize = 40;

/// Native functions that are left out.
const LEFT_OUT: [&str; 7] = ["debug_empty", "env", "halt", "localtime", "now", "stderr_empty", "strflocaltime"];

/// Definitions that use them.
const LEFT_OUT_DEFINITIONS: [&str; 4] = ["debug", "halt", "halt_error", "stderr"];

/// What jaq lacks and filters of webhooks often need.
const DEFINITIONS: &str = r#"
def IN(s): any(s == .; .);
def IN(source; s): any(source == s; .);
def INDEX(stream; f): reduce stream as $row ({}; .[$row | f | tostring] = $row);
def INDEX(f): INDEX(.[]; f);
def toarray: if isarray then . else [.] end;
def trimstr($x): ltrimstr($x) | rtrimstr($x);
def drop_nulls: with_entries(select(.value != null));
"#;

/// What a filter is run on, besides the body.
pub(super) struct Head<'a> {
    pub(super) headers: Vec<(&'a [u8], &'a [u8])>,
    pub(super) received_at: i64,
}

/// The types that filters work on.
struct Jq;

impl DataT for Jq {
    type V<'a> = Val;
    type Data<'a> = Run<'a>;
}

/// What native functions can reach.
#[derive(Clone, Copy)]
struct Run<'a> {
    lut: &'a Lut<Jq>,
    head: &'a Head<'a>,
}

impl<'a> HasLut<'a, Jq> for Run<'a> {
    fn lut(&self) -> &'a Lut<Jq> {
        self.lut
    }
}

/// Why a filter made no outputs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Failed(String),
    TooMany,
}

/// A compiled filter.
pub(super) struct Program(Filter<Jq>);

impl Program {
    /// Compiles a filter.
    ///
    /// # Errors
    /// What is wrong with it, each with its place.
    pub(super) fn compile(text: &str) -> Result<Self, Vec<String>> {
        let arena = Arena::default();
        let modules = Loader::new(definitions())
            .load(&arena, File { code: text, path: () })
            .map_err(|errors| all_load_problems(text, &errors))?;
        // A file of data would be read by the caller.
        load::import(&modules, |_| Err(String::new())).map_err(|errors| all_load_problems(text, &errors))?;
        let compiled = Compiler::default().with_funs(natives()).compile(modules);
        compiled.map(Self).map_err(|errors| {
            let undefined = errors.iter().flat_map(|(_, errors)| errors);
            undefined.map(|(name, what)| undefined_problem(text, name, what)).collect()
        })
    }

    /// Runs the filter on an event, and puts the outputs into `frame`.
    ///
    /// # Errors
    /// If the filter fails, or makes more than [`MAX_OUTPUTS`] outputs.
    pub(super) fn run(&self, head: &Head<'_>, body: &[u8], frame: &mut OutputFrame) -> Result<(), Failure> {
        let body = read::parse_single(body).map_err(|error| Failure::Failed(cut(&error)))?;
        let context = Ctx::<Jq>::new(Run { lut: &self.0.lut, head }, Vars::new([]));
        for (count, output) in self.0.id.run((context, body)).enumerate() {
            // `unwrap_valr` would end the process where a filter halts.
            let output = output.map_err(|exception| match exception.get_err() {
                Ok(error) => Failure::Failed(cut(&error)),
                Err(_) => Failure::Failed("the filter ended without a value".to_owned()),
            })?;
            if count >= MAX_OUTPUTS {
                return Err(Failure::TooMany);
            }
            if !frame.add(|to| write::write(to, &Pp::default(), 0, &output)) {
                return Err(Failure::Failed("the filter made more than 1 MiB of customers".to_owned()));
            }
        }
        Ok(())
    }
}

fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    let own = load::parse(DEFINITIONS, |parser| parser.defs()).unwrap_or_default();
    let all = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs()).chain(own);
    all.filter(|definition| !LEFT_OUT_DEFINITIONS.contains(&definition.name))
}

fn natives() -> impl Iterator<Item = Fun<Jq>> {
    let header: RunPtr<Jq> = |mut cv| bome(header(cv.0.data().head, cv.0.pop_var()));
    let received_at: RunPtr<Jq> = |cv| bome(received_at(cv.0.data().head.received_at));
    let own: [Native<RunPtr<Jq>>; 2] = [("header", v(1), header), ("received_at", v(0), received_at)];
    let all = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    all.filter(|(name, ..)| !LEFT_OUT.contains(name)).chain(own.into_iter().map(run::<Jq>))
}

/// The first header of a name, or null. What of it is no UTF-8 is replaced.
fn header(head: &Head<'_>, name: Val) -> ValR<Val> {
    let Some(wanted) = name.as_utf8_bytes() else { return Err(Error::typ(name, "string")) };
    let value = head.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value);
    Ok(value.map_or(Val::Null, |value| Val::from(String::from_utf8_lossy(value).into_owned())))
}

fn received_at(milliseconds: i64) -> ValR<Val> {
    let time = Timestamp::from_millisecond(milliseconds).map_err(Error::str)?;
    Ok(Val::from(time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()))
}

/// The beginning of a text. A value may be small in memory and have no end as text, so no more of it is made.
fn cut(text: &impl fmt::Display) -> String {
    struct Cut(String, usize);
    impl Write for Cut {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for character in text.chars() {
                self.1 = self.1.checked_sub(1).ok_or(fmt::Error)?;
                self.0.push(character);
            }
            Ok(())
        }
    }
    let mut cut = Cut(String::new(), MAX_REASON);
    // It fails when there is enough.
    let _ = write!(cut, "{text}");
    cut.0
}

/// Where in a filter's text one of its parts stands, in characters.
fn place(text: &str, part: &str) -> String {
    let offset = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize);
    let Some(before) = offset.and_then(|offset| text.get(..offset)) else { return String::new() };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
    format!(" at line {line}, column {column}")
}

fn all_load_problems(text: &str, errors: &load::Errors<&str, ()>) -> Vec<String> {
    errors.iter().flat_map(|(_, error)| load_problems(text, error)).collect()
}

fn load_problems(text: &str, error: &load::Error<&str>) -> Vec<String> {
    match error {
        load::Error::Io(imports) => imports.iter().map(|(path, _)| import_problem(text, path)).collect(),
        load::Error::Lex(errors) => {
            let problem = |(expected, found): &load::lex::Error<&str>| syntax_problem(text, expected.as_str(), found);
            errors.iter().map(problem).collect()
        }
        load::Error::Parse(errors) => {
            let problem = |(expected, found): &load::parse::Error<&str>| syntax_problem(text, expected.as_str(), found);
            errors.iter().map(problem).collect()
        }
    }
}

fn syntax_problem(text: &str, expected: &str, found: &str) -> String {
    let mut quoted: String = found.lines().next().unwrap_or_default().chars().take(MAX_QUOTE).collect();
    if quoted.len() < found.len() {
        quoted.push('…');
    }
    let got = if found.is_empty() { "the end".to_owned() } else { format!("\"{quoted}\"") };
    format!("expected {expected}, got {got}{}", place(text, found))
}

fn import_problem(text: &str, path: &str) -> String {
    format!("a filter cannot import{}", place(text, path))
}

fn undefined_problem(text: &str, name: &str, what: &jaq_core::compile::Undefined) -> String {
    let arity = match what {
        jaq_core::compile::Undefined::Filter(arity) if *arity > 0 => format!("/{arity}"),
        _ => String::new(),
    };
    format!("undefined {} \"{name}{arity}\"{}", what.as_str(), place(text, name))
}

#[cfg(test)]
mod tests;
