//! The binary: hands the command line to [`gateway::cli`].

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Most of what a request does is to allocate.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    gateway::cli::run(std::env::args_os(), gateway::app::build)
}
