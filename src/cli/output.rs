//! What commands say to people and scripts: text, and an exit code.

use std::fmt::Display;
use std::io::{self, Write};

/// The exit code of wrong settings. clap has the same for wrong arguments.
pub(super) const EXIT_USAGE: u8 = 2;

/// Prints a line. `println!` would panic if the reader of the output, such as `head`, has left.
pub(super) fn print(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}
