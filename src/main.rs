//! The binary: see [`segment_relay::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    segment_relay::cli::main()
}
