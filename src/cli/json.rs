//! JSON objects that keep the order of their keys.

use std::fmt;
use std::io::Write;

use serde_json::Value;

use super::Outcome;
use super::failure::Finding;
use super::output::Output;

/// An object for scripts; its keys are printed in the order they were given.
pub(crate) struct Object(Vec<(&'static str, Value)>);

impl Object {
    pub(crate) fn new() -> Self {
        Object(Vec::new())
    }

    pub(crate) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((key, value.into()));
        self
    }

    /// Prints the object on one line.
    pub(crate) fn print(&self) -> Outcome {
        let mut out = Output::stdout();
        self.write(&mut out)?;
        out.finish()?;
        Ok(Finding::Sound)
    }

    /// Writes the object as one line.
    pub(crate) fn write(&self, out: &mut impl Write) -> anyhow::Result<()> {
        for (index, (key, value)) in self.0.iter().enumerate() {
            write!(out, "{}{}:", if index == 0 { '{' } else { ',' }, Value::from(*key))?;
            serde_json::to_writer(&mut *out, value)?;
        }
        writeln!(out, "{}", if self.0.is_empty() { "{}" } else { "}" })?;
        Ok(())
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        _ = fmt::Write::write_fmt(&mut digits, format_args!("{byte:02x}"));
    }
    digits
}
