//! Checks JSON in one pass, without building a tree, and hands out what is asked for as it goes by.
//!
//! Invariants: exactly the grammar of RFC 8259, plus four rules of our own: valid UTF-8, at most 128 levels, no lone
//! surrogate, no name twice in one object (compared unescaped). The scan is linear but for sorting the names of a large
//! object; it recurses no deeper than the levels allowed.
//!
//! It unescapes nothing itself (serde_json does) and gives no number a value: 1e999 and 19 digits pass as they are.

use std::borrow::Cow;

use super::PayloadError;

/// Levels of arrays and objects. Deeper than any real customer; it bounds our recursion, and other readers'.
const MAX_DEPTH: usize = 128;

/// Names of one object that are compared each with each: up to here cheaper than sorting them.
const FEW_NAMES: usize = 16;

/// Why a text is not JSON we take: what, and at which line and column (in characters).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault(String);

impl From<Fault> for PayloadError {
    fn from(Fault(message): Fault) -> Self {
        Self::InvalidJson { message }
    }
}

/// A value that has gone by.
pub(super) enum Value<'a> {
    Null,
    Boolean,
    Number,
    /// Unescaped.
    String(Cow<'a, str>),
    Array,
    /// Its text, from brace to brace.
    Object(&'a str),
}

impl Value<'_> {
    /// What it is, for a message; never what is in it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::String(_) => "a string",
            Self::Array => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// An object that is being walked through; its names lie on the scanner's stack from here on.
pub(super) struct Members {
    first_name: usize,
}

struct Name<'a> {
    text: Cow<'a, str>,
    at: usize,
}

/// A place in a JSON text. All before it was checked.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// The names of all objects that are open, innermost last.
    names: Vec<Name<'a>>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(body: &'a [u8]) -> Result<Self, Fault> {
        match std::str::from_utf8(body) {
            Ok(text) => Ok(Self::of(text)),
            Err(error) => Err(fault(body, error.valid_up_to(), "invalid UTF-8")),
        }
    }

    pub(super) fn of(text: &'a str) -> Self {
        // As many names as a usual customer has open at once, so that the stack is allocated once.
        Self { text, at: 0, depth: 0, names: Vec::with_capacity(FEW_NAMES) }
    }

    /// Reads one whole value. It is decoded only if it is a string.
    pub(super) fn value(&mut self) -> Result<Value<'a>, Fault> {
        if let Some((members, start)) = self.enter_object()? {
            while self.next_name(&members)?.is_some() {
                self.value()?;
            }
            return Ok(Value::Object(self.since(start)));
        }
        match self.peek() {
            Some(b'"') => self.string().map(Value::String),
            Some(b'[') => self.array(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true", Value::Boolean),
            Some(b'f') => self.literal("false", Value::Boolean),
            Some(b'n') => self.literal("null", Value::Null),
            _ => Err(self.expected("a JSON value")),
        }
    }

    /// Enters the next value if it is an object. The second part is for [`since`](Self::since), the object's own start.
    /// Each member is then read by `next_name` and `value`, until there is no name any more.
    pub(super) fn enter_object(&mut self) -> Result<Option<(Members, usize)>, Fault> {
        self.skip_space();
        let start = self.at;
        if self.peek() != Some(b'{') {
            return Ok(None);
        }
        self.descend()?;
        Ok(Some((Members { first_name: self.names.len() }, start)))
    }

    /// The name of the object's next member, unescaped; the scanner then stands before its value.
    pub(super) fn next_name(&mut self, members: &Members) -> Result<Option<Cow<'a, str>>, Fault> {
        let is_first = self.names.len() == members.first_name;
        self.skip_space();
        match self.peek() {
            Some(b'}') => {
                self.leave();
                return self.check_names(members.first_name).map(|()| None);
            }
            Some(b',') if !is_first => {
                self.at += 1;
                self.skip_space();
            }
            Some(b'"') if is_first => {}
            _ if is_first => return Err(self.expected("a name in double quotes or '}'")),
            _ => return Err(self.expected("',' or '}'")),
        }
        if self.peek() != Some(b'"') {
            return Err(self.expected("a name in double quotes"));
        }
        let at = self.at;
        let text = self.string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.expected("':'"));
        }
        self.at += 1;
        self.names.push(Name { text: text.clone(), at });
        Ok(Some(text))
    }

    /// The text between an object's start and here.
    pub(super) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        self.skip_space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.fault("unexpected text after the JSON value")),
        }
    }

    fn array(&mut self) -> Result<Value<'a>, Fault> {
        self.descend()?;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.leave();
            return Ok(Value::Array);
        }
        loop {
            self.value()?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break self.leave(),
                _ => return Err(self.expected("',' or ']'")),
            }
        }
        Ok(Value::Array)
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        let start = self.at;
        let mut is_escaped = false;
        self.at += 1;
        loop {
            self.skip_plain();
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    is_escaped = true;
                    // What is escaped may be a quote. Whether it may be escaped is serde_json's to say.
                    self.at += 2;
                }
                Some(_) => return Err(self.fault("a control character in a string must be escaped")),
                None => return Err(self.expected("'\"' at the end of a string")),
            }
        }
        self.at += 1;
        if is_escaped {
            return serde_json::from_str(self.since(start)).map(Cow::Owned).map_err(|error| {
                // serde_json counts the bytes it read; there is no line break in here.
                let at = start + error.column().saturating_sub(1);
                fault(self.text.as_bytes(), at, "a string's escape is unknown, incomplete or half a surrogate pair")
            });
        }
        Ok(Cow::Borrowed(self.text.get(start + 1..self.at - 1).unwrap_or_default()))
    }

    fn number(&mut self) -> Result<Value<'a>, Fault> {
        self.skip_one(b"-");
        if !self.skip_one(b"0") {
            self.digits()?;
        }
        if self.skip_one(b".") {
            self.digits()?;
        }
        if self.skip_one(b"eE") {
            self.skip_one(b"+-");
            self.digits()?;
        }
        Ok(Value::Number)
    }

    fn digits(&mut self) -> Result<(), Fault> {
        if !self.skip_one(b"0123456789") {
            return Err(self.expected("a digit"));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn literal(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, Fault> {
        if !self.text.get(self.at..).unwrap_or_default().starts_with(word) {
            return Err(self.expected("a JSON value"));
        }
        self.at += word.len();
        Ok(value)
    }

    /// No name may be there twice. Called once an object is complete, so a large one costs one sort.
    fn check_names(&mut self, first_name: usize) -> Result<(), Fault> {
        let names = self.names.get_mut(first_name..).unwrap_or_default();
        let repeated = if names.len() <= FEW_NAMES {
            let mut numbered = names.iter().enumerate();
            let is_repeated = |index, name: &Name<'_>| names.iter().take(index).any(|other| other.text == name.text);
            numbered.find(|(index, name)| is_repeated(*index, name)).map(|(_, name)| name.at)
        } else {
            names.sort_unstable_by(|a, b| a.text.cmp(&b.text).then(a.at.cmp(&b.at)));
            let pairs = names.iter().zip(names.iter().skip(1));
            pairs.filter(|(name, next)| name.text == next.text).map(|(_, next)| next.at).min()
        };
        self.names.truncate(first_name);
        match repeated {
            None => Ok(()),
            Some(at) => Err(fault(self.text.as_bytes(), at, "this name is there twice in one object")),
        }
    }

    fn descend(&mut self) -> Result<(), Fault> {
        if self.depth == MAX_DEPTH {
            return Err(self.fault("arrays and objects are nested deeper than 128 levels"));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.at += 1;
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_one(&mut self, any_of: &[u8]) -> bool {
        let found = self.peek().is_some_and(|byte| any_of.contains(&byte));
        self.at += usize::from(found);
        found
    }

    /// Skips what may stand in a string as it is.
    fn skip_plain(&mut self) {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..=0x1F));
        self.at += plain.unwrap_or(rest.len());
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    #[cold]
    fn expected(&self, what: &str) -> Fault {
        match self.peek() {
            None => self.fault(&format!("the text ends where {what} was expected")),
            Some(0xEF) if self.at == 0 && self.text.starts_with('\u{FEFF}') => {
                self.fault("a byte order mark is not part of JSON")
            }
            Some(_) => self.fault(&format!("expected {what}")),
        }
    }

    #[cold]
    fn fault(&self, what: &str) -> Fault {
        fault(self.text.as_bytes(), self.at, what)
    }
}

/// A fault at this byte. Lines and columns count from 1, columns in characters.
#[cold]
fn fault(text: &[u8], at: usize, what: &str) -> Fault {
    let before = text.get(..at).unwrap_or(text);
    let last_line = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    // A character is counted by its first byte.
    let column = 1 + last_line.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
    Fault(format!("{what} at line {line} column {column}"))
}
