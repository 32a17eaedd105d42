//! The `tidegate` program.

use std::process::ExitCode;

/// Measured against the system's allocator: see "Decisions" in ARCHITECTURE.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidegate::cli::run()
}
