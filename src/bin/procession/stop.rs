//! Why a command ends before its end.

use std::error::Error as StdError;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind as UsageKind;
use procession::{BoxError, Error};

use crate::output::printable;

/// Why a command ends before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Whoever read the output has enough, as in `| head`: nothing is wrong.
    OutputClosed,
    /// The same, when what was asked about had been found wrong: the exit code is all there is left to say.
    FoundAndClosed,
    /// Ctrl-C; with what was done so far.
    Interrupted(String),
    /// An error.
    Failed(BoxError),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Stop {
    /// What to say on standard error: one line, or nothing.
    pub(crate) fn line(&self) -> Option<String> {
        match self {
            Self::OutputClosed | Self::FoundAndClosed => None,
            Self::Interrupted(done) => Some(format!("interrupted {done}")),
            // Files may have any name.
            Self::Failed(error) => Some(format!("error: {}", printable(&chain(&**error)))),
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::OutputClosed => ExitCode::SUCCESS,
            Self::Interrupted(_) => ExitCode::from(130),
            Self::Failed(_) | Self::FoundAndClosed => ExitCode::FAILURE,
        }
    }
}

/// An error and its causes, outermost first, in one line.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let mut texts: Vec<String> = causes.map(|error| one_line(&error.to_string())).collect();
    // Some errors repeat their cause's text in their own.
    texts.dedup_by(|cause, error| error.ends_with(cause.as_str()));
    texts.join(": ")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Answers a command line that is not one: help and version as they are, a mistake as one line.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        UsageKind::DisplayHelp | UsageKind::DisplayVersion | UsageKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        // A closed output is no error.
        let _ = error.print();
    } else {
        // The first paragraph says what is wrong; the usage that follows is what `--help` shows.
        let text = error.to_string();
        let what = text.split("\n\n").next().unwrap_or(&text);
        let _ = writeln!(io::stderr(), "{}", one_line(what));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

#[cfg(test)]
mod tests {
    use procession::ErrorKind;

    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_causes() {
        let error = Error::from(io::Error::other("disk\non fire")).with_file("a b");
        let error = Error::new(ErrorKind::Numeric, "stopped").with_cause(error);
        let stop = Stop::from(error);
        assert_eq!(stop.line().unwrap(), "error: stopped: input/output failed (file a b): disk on fire");
        let error = Error::new(ErrorKind::Argument, "layer 1: too wide").with_cause("too wide");
        assert_eq!(Stop::from(error).line().unwrap(), "error: layer 1: too wide");
        assert_eq!(Stop::OutputClosed.line(), None);
        let error = Error::new(ErrorKind::Format, "bad").with_file("a\u{1b}[2Jb.png");
        assert_eq!(Stop::from(error).line().unwrap(), "error: bad (file a\\u{1b}[2Jb.png)");
    }
}
