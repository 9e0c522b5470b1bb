//! Text from files, made fit for a terminal.

use std::fmt::Write;
use std::path::Path;

/// A text with its control characters escaped, so that a name in a hostile file can neither
/// write to the terminal nor break a line.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            // Writing to a string cannot fail.
            _ = write!(shown, "{}", c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A path, in the same way.
pub(crate) fn printable_path(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_nothing_else() {
        assert_eq!(printable("a\u{1b}[31m\r\n\u{9b}"), r"a\u{1b}[31m\r\n\u{9b}");
        assert_eq!(printable("Ġcat \"猫\" \\"), "Ġcat \"猫\" \\");
    }
}
