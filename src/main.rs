//! embmap: rows of embedding tables by id, by token and by text.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
