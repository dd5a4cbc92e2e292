//! Standard output: lines for people, or JSON Lines.

use std::fmt;
use std::io::{self, BufWriter, StdoutLock, Write};

use procession::Error;
use serde::Serialize;

use crate::stop::Stop;

/// Standard output, locked and buffered.
pub(crate) struct Output {
    writer: BufWriter<StdoutLock<'static>>,
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { writer: BufWriter::with_capacity(1 << 16, io::stdout().lock()), json }
    }

    /// Whether lines are to be JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Writes a line, whatever the format.
    pub(crate) fn line(&mut self, line: fmt::Arguments<'_>) -> Result<(), Stop> {
        writeln!(self.writer, "{line}").map_err(stopped)
    }

    /// Writes a line for people; nothing if lines are to be JSON.
    pub(crate) fn text(&mut self, line: fmt::Arguments<'_>) -> Result<(), Stop> {
        if self.json { Ok(()) } else { self.line(line) }
    }

    /// Writes a line of JSON; nothing if lines are for people.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Stop> {
        if !self.json {
            return Ok(());
        }
        serde_json::to_writer(&mut self.writer, value).map_err(|error| stopped(error.into()))?;
        self.writer.write_all(b"\n").map_err(stopped)
    }

    /// Shows what was written so far.
    pub(crate) fn flush(&mut self) -> Result<(), Stop> {
        self.writer.flush().map_err(stopped)
    }
}

fn stopped(error: io::Error) -> Stop {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Stop::OutputClosed,
        _ => Error::from(error).with_file("standard output").into(),
    }
}

/// A number with a comma between groups of three digits.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A fraction as per cent, with so many digits after the point.
pub(crate) fn percent(fraction: f64, digits: usize) -> String {
    format!("{:.digits$} %", 100.0 * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(percent(0.97849, 2), "97.85 %");
    }
}
