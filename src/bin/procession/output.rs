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

/// A size as people read it.
pub(crate) fn bytes(size_bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if size_bytes < 1000 {
        return format!("{size_bytes} B");
    }
    let mut size = size_bytes as f64 / 1000.0;
    let mut unit = 0;
    // What would be shown as 1000.0 is 1.0 of the next unit.
    while size >= 999.95 && unit + 1 < units.len() {
        size /= 1000.0;
        unit += 1;
    }
    format!("{size:.1} {}", units[unit])
}

/// A number and a noun, in its plural unless the number is 1.
pub(crate) fn count(number: u64, singular: &str, plural: &str) -> String {
    format!("{} {}", thousands(number), if number == 1 { singular } else { plural })
}

/// Text from a file as it can be shown in a line: what would move the cursor, or worse, is escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() { out.extend(character.escape_default()) } else { out.push(character) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(percent(0.97849, 2), "97.85 %");
        let sizes = [0, 999, 1000, 999_949, 999_950, 1_234_567, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "1.2 MB", "18.4 EB"]);
        assert_eq!([1, 1000].map(|number| count(number, "class", "classes")), ["1 class", "1,000 classes"]);
        assert_eq!(printable("caf\u{e9}\u{1b}[2J\n"), "caf\u{e9}\\u{1b}[2J\\n");
    }
}
