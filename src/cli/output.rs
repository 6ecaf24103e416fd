//! The output of commands for people and scripts.

use std::fmt::Display;
use std::io::{self, Write};

/// Prints a line. `println!` would panic if the reader of the output, such as `head`, has left.
pub(super) fn print(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}
