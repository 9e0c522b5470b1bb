//! `embmap completions`: completion scripts.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::failure::Finding;
use super::output::Output;
use super::{Cli, Outcome};

const EXAMPLES: &str = "\
Examples:
  embmap completions bash > ~/.local/share/bash-completion/completions/embmap
  embmap completions zsh > ~/.zfunc/_embmap
  embmap completions fish > ~/.config/fish/completions/embmap.fish";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> Outcome {
    // Into memory first: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "embmap", &mut script);
    let mut out = Output::stdout();
    out.write_all(&script)?;
    out.finish()?;
    Ok(Finding::Sound)
}
