//! The binary: hands the command line to [`gateway::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    gateway::cli::run(std::env::args_os(), gateway::app::build)
}
