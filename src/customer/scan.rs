//! A JSON scanner: checks a text in one pass and returns its values one by one, without building a tree.
//!
//! Invariants: it accepts exactly the grammar of RFC 8259, with four rules more: valid UTF-8, at most 128 levels, no lone
//! surrogate, and no name twice in one object (compared unescaped). The scan is linear, except that the names of a large
//! object are sorted. It recurses no deeper than the levels allowed.
//!
//! serde_json unescapes the strings. Numbers are not converted: 1e999 and 19 digits pass as they are.

use std::borrow::Cow;

use super::error::PayloadError;

/// Levels of arrays and objects: more than any real customer has. The limit bounds the recursion of this and later parsers.
const MAX_DEPTH: usize = 128;

/// Up to so many names of one object, comparing each with each is cheaper than sorting them.
const FEW_NAMES: usize = 16;

/// Why a text is not JSON that the relay accepts, with the line and the column (in characters).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct JsonError {
    what: String,
    line: usize,
    column: usize,
}

impl JsonError {
    /// The same error, if the text is one line of a larger one.
    pub(super) fn in_line(self, line: usize) -> Self {
        Self { line, ..self }
    }
}

impl From<JsonError> for PayloadError {
    fn from(JsonError { what, line, column }: JsonError) -> Self {
        Self::InvalidJson { message: format!("{what} at line {line} column {column}") }
    }
}

/// A value that was read.
pub(super) enum Value<'a> {
    Null,
    Boolean,
    Number,
    /// Unescaped.
    String(Cow<'a, str>),
    Array,
    /// The text, from brace to brace.
    Object(&'a str),
}

impl Value<'_> {
    /// The type, for a message that must not contain the value.
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

/// An object that is being read. Its names are on the scanner's stack, from this index on.
pub(super) struct Members {
    first_name: usize,
}

/// Where an object starts.
pub(super) struct ObjectStart {
    at: usize,
    /// The bytes of white space before it.
    space: usize,
}

struct Name<'a> {
    text: Cow<'a, str>,
    at: usize,
}

/// A position in a JSON text. Everything before it was checked.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// The bytes of white space so far.
    space: usize,
    /// The names of all open objects, the innermost object's last.
    names: Vec<Name<'a>>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(body: &'a [u8]) -> Result<Self, JsonError> {
        match std::str::from_utf8(body) {
            Ok(text) => Ok(Self::from_text(text)),
            Err(error) => Err(error_at(body, error.valid_up_to(), "invalid UTF-8")),
        }
    }

    pub(super) fn from_text(text: &'a str) -> Self {
        // A usual customer has no more names open at once, so the stack is allocated once.
        Self { text, at: 0, depth: 0, space: 0, names: Vec::with_capacity(FEW_NAMES) }
    }

    /// Reads one whole value. Only a string is decoded.
    pub(super) fn value(&mut self) -> Result<Value<'a>, JsonError> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'"') => self.string().map(Value::String),
            Some(b'[') => self.array(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true", Value::Boolean),
            Some(b'f') => self.literal("false", Value::Boolean),
            Some(b'n') => self.literal("null", Value::Null),
            _ => Err(self.expected("a JSON value")),
        }
    }

    /// Enters the next value if it is an object, and returns the object and its start, for
    /// [`object_since`](Self::object_since). `next_name` and `value` then read each member, until `next_name` returns `None`.
    pub(super) fn enter_object(&mut self) -> Result<Option<(Members, ObjectStart)>, JsonError> {
        self.skip_space();
        let start = ObjectStart { at: self.at, space: self.space };
        if self.peek() != Some(b'{') {
            return Ok(None);
        }
        self.descend()?;
        Ok(Some((Members { first_name: self.names.len() }, start)))
    }

    fn object(&mut self) -> Result<Value<'a>, JsonError> {
        let start = self.at;
        self.descend()?;
        let members = Members { first_name: self.names.len() };
        while self.next_name(&members)?.is_some() {
            self.value()?;
        }
        Ok(Value::Object(self.since(start)))
    }

    /// Reads the unescaped name of the object's next member, up to its value.
    pub(super) fn next_name(&mut self, members: &Members) -> Result<Option<Cow<'a, str>>, JsonError> {
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

    /// The text from an object's start to the current position, and its bytes of white space between tokens.
    pub(super) fn object_since(&self, start: ObjectStart) -> (&'a str, usize) {
        (self.since(start.at), self.space - start.space)
    }

    /// The text from a position to the current one.
    pub(super) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// Checks that only white space follows.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        self.skip_space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error_here("unexpected text after the JSON value")),
        }
    }

    fn array(&mut self) -> Result<Value<'a>, JsonError> {
        self.descend()?;
        let mut is_first = true;
        while self.next_element(&mut is_first)? {
            self.value()?;
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(Value::Array)
    }

    /// Enters the next value, which must be an array. It counts as no level, so that each of its elements may have as many as a
    /// text of its own.
    pub(super) fn enter_outer_array(&mut self) -> Result<(), JsonError> {
        self.skip_space();
        if !self.skip_one(b"[") {
            return Err(self.expected("'['"));
        }
        Ok(())
    }

    /// Goes to the array's next element, or leaves the array if there is none.
    pub(super) fn next_element(&mut self, is_first: &mut bool) -> Result<bool, JsonError> {
        self.skip_space();
        let was_first = std::mem::take(is_first);
        if self.skip_one(b"]") {
            return Ok(false);
        }
        if !was_first && !self.skip_one(b",") {
            return Err(self.expected("',' or ']'"));
        }
        self.skip_space();
        Ok(true)
    }

    /// Where the next character is, for [`since`](Self::since).
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let start = self.at;
        let mut is_escaped = false;
        self.at += 1;
        loop {
            self.skip_plain();
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    is_escaped = true;
                    // The escaped character may be a quote. serde_json checks below that the escape is valid.
                    self.at += 2;
                }
                Some(_) => return Err(self.error_here("a control character in a string must be escaped")),
                None => return Err(self.expected("'\"' at the end of a string")),
            }
        }
        self.at += 1;
        if is_escaped {
            return serde_json::from_str(self.since(start)).map(Cow::Owned).map_err(|error| {
                // serde_json counts the bytes that it read. The string has no line break.
                let at = start + error.column().saturating_sub(1);
                error_at(self.text.as_bytes(), at, "a string's escape is unknown, incomplete or half a surrogate pair")
            });
        }
        Ok(Cow::Borrowed(self.text.get(start + 1..self.at - 1).unwrap_or_default()))
    }

    fn number(&mut self) -> Result<Value<'a>, JsonError> {
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

    fn digits(&mut self) -> Result<(), JsonError> {
        if !self.skip_one(b"0123456789") {
            return Err(self.expected("a digit"));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn literal(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, JsonError> {
        if !self.text.get(self.at..).unwrap_or_default().starts_with(word) {
            return Err(self.expected("a JSON value"));
        }
        self.at += word.len();
        Ok(value)
    }

    /// Checks that no name is there twice. It runs when an object is complete, so a large object costs one sort.
    fn check_names(&mut self, first_name: usize) -> Result<(), JsonError> {
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
            Some(at) => Err(error_at(self.text.as_bytes(), at, "this name is there twice in one object")),
        }
    }

    fn descend(&mut self) -> Result<(), JsonError> {
        if self.depth == MAX_DEPTH {
            return Err(self.error_here("arrays and objects are nested deeper than 128 levels"));
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

    /// Skips the characters that need no escape in a string.
    fn skip_plain(&mut self) {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..=0x1F));
        self.at += plain.unwrap_or(rest.len());
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
            self.space += 1;
        }
    }

    #[cold]
    fn expected(&self, what: &str) -> JsonError {
        match self.peek() {
            None => self.error_here(&format!("the text ends where {what} was expected")),
            Some(0xEF) if self.at == 0 && self.text.starts_with('\u{FEFF}') => {
                self.error_here("a byte order mark is not part of JSON")
            }
            Some(_) => self.error_here(&format!("expected {what}")),
        }
    }

    #[cold]
    fn error_here(&self, what: &str) -> JsonError {
        error_at(self.text.as_bytes(), self.at, what)
    }
}

/// An error at this byte. Lines and columns count from 1, columns in characters.
#[cold]
fn error_at(text: &[u8], at: usize, what: &str) -> JsonError {
    let before = text.get(..at).unwrap_or(text);
    let last_line = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    // Counts the first byte of each character.
    let column = 1 + last_line.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
    JsonError { what: what.to_owned(), line, column }
}
