//! The binary: see [`segment_relay::cli`].

use std::process::ExitCode;

/// The system's allocator takes a sixth more CPU a request (`cargo bench`). Without huge pages (`no_thp`), which would double
/// it, the memory is about the same: 40 MiB with 512 callers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    segment_relay::cli::main()
}
