//! What a person gets to read when a command fails: what failed, why, and what to do next.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

use crate::exit::Exit;

/// A failed command: three lines for a person and a code for the shell.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    what: String,
    cause: Option<String>,
    help: Option<String>,
}

/// What every command returns: how it ended, or why it failed.
pub(crate) type Outcome = Result<Exit, Failure>;

impl Failure {
    /// A failure with exit code 1 until [`exit`](Self::exit) says otherwise.
    pub(crate) fn new(what: impl Into<String>) -> Failure {
        Failure { exit: Exit::Failed, what: what.into(), cause: None, help: None }
    }

    /// The cause in words.
    pub(crate) fn because(mut self, cause: impl Into<String>) -> Failure {
        self.cause = Some(cause.into());
        self
    }

    /// The cause as an error: its whole chain in one line, since each layer says only its part.
    pub(crate) fn caused_by(self, error: &dyn Error) -> Failure {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(error) = next {
            let layer = error.to_string();
            // Some errors of the standard library repeat their source.
            if !text.ends_with(&layer) {
                text.push_str(": ");
                text.push_str(&layer);
            }
            next = error.source();
        }
        self.because(text)
    }

    /// The next step, only where it is known.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Failure {
        self.help = Some(help.into());
        self
    }

    /// Sets the exit code.
    pub(crate) fn exit(mut self, exit: Exit) -> Failure {
        self.exit = exit;
        self
    }

    /// The exit code.
    pub(crate) fn code(&self) -> Exit {
        self.exit
    }

    /// Writes the failure to stderr. A stderr that is gone is nobody's problem any more.
    pub(crate) fn print(&self) {
        let _ = write!(io::stderr().lock(), "{self}");
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.what)?;
        if let Some(cause) = &self.cause {
            writeln!(f, "cause: {}", cause.trim_end().replace('\n', "\n       "))?;
        }
        if let Some(help) = &self.help {
            writeln!(f, " help: {help}")?;
        }
        Ok(())
    }
}

/// Prints data. A reader that went away (`| head`) had what it wanted: that is success.
pub(crate) fn print_data(text: &str) -> Result<(), Failure> {
    print_while_read(text).map(drop)
}

/// The same for who would go on without an end: false when nobody reads any more.
pub(crate) fn print_while_read(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new("cannot write to stdout").caused_by(&error)),
    }
}

/// Prints a value as one line of JSON.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print_data(&format!("{value}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_as_what_why_and_next_step() {
        let failure = Failure::new("cannot attach to region demo")
            .because("it has format 3, this build reads 4")
            .help("stop its users")
            .exit(Exit::Refused);
        assert_eq!(
            failure.to_string(),
            "error: cannot attach to region demo\n\
             cause: it has format 3, this build reads 4\n help: stop its users\n"
        );
        assert_eq!(failure.code().code(), 5);
    }

    #[test]
    fn several_lines_of_cause_stay_under_their_label() {
        let failure = Failure::new("bad file").because("line 1\n  ^");
        assert_eq!(failure.to_string(), "error: bad file\ncause: line 1\n         ^\n");
    }
}
