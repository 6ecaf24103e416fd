//! What a declaration of a setting holds.

/// A setting as people read it.
#[derive(Clone, Copy, Debug)]
pub struct Declaration {
    /// The name of the environment variable.
    pub name: &'static str,
    pub default: DefaultValue,
    /// One sentence.
    pub meaning: &'static str,
}

/// What holds if the variable is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// The setting must be set.
    Required,
    /// The value, as it would be written in the environment.
    Value(&'static str),
    /// The setting may be missing.
    Unset,
}

/// A setting whose value becomes a `T`.
pub(super) struct Setting<T: 'static> {
    pub(super) declaration: Declaration,
    /// Reads the text of the variable. The error says what is wrong with it, without the variable's name and without a
    /// secret.
    pub(super) check: fn(&str) -> Result<T, String>,
}
