//! Lines from a pipe, as they come.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Longest line that is kept; a longer one is a fault of its writer and is cut.
const LINE_BYTES_MAX: usize = 1 << 20;

/// The reading end of a pipe of lines.
#[derive(Debug)]
pub(crate) struct Lines {
    pipe: File,
    rest: Vec<u8>,
    closed: bool,
}

impl Lines {
    /// Takes the pipe over and makes reading it non-blocking.
    pub(crate) fn new(pipe: OwnedFd) -> std::io::Result<Lines> {
        let flags = OFlag::from_bits_truncate(fcntl(&pipe, FcntlArg::F_GETFL)?);
        fcntl(&pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Lines { pipe: pipe.into(), rest: Vec::new(), closed: false })
    }

    /// Whether the writers are gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// All complete lines that are there.
    pub(crate) fn read(&mut self) -> Vec<String> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => {
                    self.closed = true;
                    break;
                }
                Ok(count) => self.rest.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.closed = true;
                    break;
                }
            }
            if self.rest.len() > LINE_BYTES_MAX {
                break;
            }
        }
        let mut lines = Vec::new();
        while let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
            lines.push(String::from_utf8_lossy(&self.rest[..end]).into_owned());
            self.rest.drain(..=end);
        }
        if self.rest.len() > LINE_BYTES_MAX {
            self.rest.clear();
        }
        lines
    }
}

impl AsFd for Lines {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    #[test]
    fn lines_come_whole_and_in_order() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut writer = File::from(OwnedFd::from(writer));
        let mut lines = Lines::new(reader.into()).expect("a pipe can be made non-blocking");
        assert!(lines.read().is_empty());
        writer.write_all(b"one\ntw").expect("written");
        assert_eq!(lines.read(), ["one"]);
        writer.write_all(b"o\nthree\n").expect("written");
        assert_eq!(lines.read(), ["two", "three"]);
        assert!(!lines.is_closed());
        drop(writer);
        // A program that another test starts at this moment has the writer too, until it is another program.
        let mut end = [PollFd::new(lines.as_fd(), PollFlags::POLLIN)];
        poll(&mut end, PollTimeout::from(60_000_u16)).expect("no signal comes");
        assert!(lines.read().is_empty());
        assert!(lines.is_closed());
    }
}
