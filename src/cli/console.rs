//! Standard error: errors, notes and summaries, and whether they are in colour.

use std::io::{self, IsTerminal, Write};

use bytesize::ByteSize;
use clap::builder::styling::{AnsiColor, Style};
use clap::{Args, ValueEnum};

/// Options of every subcommand.
#[derive(Args)]
pub(crate) struct ConsoleArgs {
    /// Say nothing on standard error but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more on standard error
    #[arg(short, long, global = true)]
    verbose: bool,
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    #[arg(help = "When to use colours; auto is on a terminal, unless NO_COLOR is set")]
    color: ColorWhen,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ColorWhen {
    Auto,
    Always,
    Never,
}

/// What may be said on standard error, and how.
pub(crate) struct Console {
    quiet: bool,
    verbose: bool,
    color: ColorWhen,
}

impl Console {
    pub(crate) fn new(args: &ConsoleArgs) -> Self {
        Console { quiet: args.quiet, verbose: args.verbose, color: args.color }
    }

    /// A failure, on one line.
    pub(crate) fn error(&self, message: &str) {
        let style = self.style(AnsiColor::Red, io::stderr().is_terminal());
        say(&format!("embmap: {style}error:{style:#} {message}"));
    }

    /// Something the user should know though the run goes on.
    pub(crate) fn note(&self, message: &str) {
        if !self.quiet {
            say(&format!("embmap: note: {message}"));
        }
    }

    /// What was done, or what is shown.
    pub(crate) fn summary(&self, message: &str) {
        if !self.quiet {
            say(message);
        }
    }

    /// Something for the curious.
    pub(crate) fn detail(&self, message: &str) {
        if self.verbose {
            say(&format!("embmap: {message}"));
        }
    }

    /// True where a progress bar may be drawn.
    pub(crate) fn draws_progress(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// A bold colour, or nothing where colours are not wanted.
    pub(crate) fn style(&self, color: AnsiColor, terminal: bool) -> Style {
        let wanted = match self.color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => terminal && environment_allows_color(),
        };
        if wanted { color.on_default().bold() } else { Style::new() }
    }
}

fn environment_allows_color() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}

/// A number of bytes for people: `1.5 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

fn say(line: &str) {
    // Where standard error is gone there is nobody left to be told so.
    _ = writeln!(io::stderr().lock(), "{line}");
}
