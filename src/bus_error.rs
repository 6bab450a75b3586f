//! What a process says before it dies of a file that was cut under it.
//!
//! A region is measured when it is mapped, and all its memory is reserved when it is made. Who cuts the
//! file afterwards (`truncate`, a file system that ran dry under a copy) takes pages out of the mapping,
//! and touching one is a SIGBUS that nobody can continue from. So the process dies of it all the same,
//! but not without a word: the handler names the file and hands the signal on.

#![expect(unsafe_code, reason = "a signal handler, and what may be called in one")]

use std::io;

/// Has a SIGBUS say which file it came from. Without it, the shell merely says "Bus error".
pub(crate) fn explain() {
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_bus_error;
    // SAFETY: a zeroed `sigaction` is a valid one (empty mask, no flags); the handler has the signature that
    // SA_SIGINFO asks for and calls nothing that is not safe in a handler. SA_RESETHAND puts the default
    // back before it runs, so returning from it repeats the access and ends the process.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
    }
}

extern "C" fn on_bus_error(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid `siginfo_t` to a handler with SA_SIGINFO, and SIGBUS fills the address.
    let address = unsafe { (*info).si_addr() } as u64;
    say(b"error: a mapped file was cut while it was in use\n");
    let mut path = [0; 256];
    let found = MapsFile::open().and_then(|maps| maps.path_at(address, &mut path));
    if let Some(len) = found {
        say(b"cause: ");
        say(&path[..len]);
        say(b" is shorter than when it was mapped\n");
    }
    say(b" help: stop its processes, then remove it: `hotpair region list`, `hotpair region remove --force`\n");
}

/// Writes to stderr with nothing but a system call.
fn say(text: &[u8]) {
    // SAFETY: the bytes are borrowed for the call. If stderr is gone, there is nobody to tell.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

/// `/proc/self/maps`, read without allocating.
struct MapsFile(i32);

impl MapsFile {
    fn open() -> Option<MapsFile> {
        // SAFETY: a constant path with its terminating zero.
        let file = unsafe { libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY) };
        (file >= 0).then_some(MapsFile(file))
    }

    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the buffer is borrowed for the call and as long as is said.
        let count = unsafe { libc::read(self.0, into.as_mut_ptr().cast(), into.len()) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    /// Copies the path of the mapping that holds `address`; its length.
    fn path_at(&self, address: u64, path: &mut [u8; 256]) -> Option<usize> {
        let mut line = Line::new(address, path);
        let mut buffer = [0; 1024];
        loop {
            let count = self.read(&mut buffer).ok()?;
            if count == 0 {
                return None;
            }
            for &byte in &buffer[..count] {
                if let Some(len) = line.feed(byte) {
                    return Some(len);
                }
            }
        }
    }
}

/// One line of the file at a time, byte by byte: `start-end rights offset device inode path`.
struct Line<'p> {
    address: u64,
    path: &'p mut [u8; 256],
    /// Bounds of the mapping; the second number is being read once the first is complete.
    bounds: [u64; 2],
    field: u32,
    len: usize,
}

impl<'p> Line<'p> {
    fn new(address: u64, path: &'p mut [u8; 256]) -> Self {
        Self { address, path, bounds: [0; 2], field: 0, len: 0 }
    }

    /// The length of the path, at the end of the line that names it.
    fn feed(&mut self, byte: u8) -> Option<usize> {
        match byte {
            b'\n' => {
                let here = (self.bounds[0]..self.bounds[1]).contains(&self.address);
                if here && self.len > 0 {
                    return Some(self.len);
                }
                (self.bounds, self.field, self.len) = ([0; 2], 0, 0);
            }
            b'-' if self.field == 0 => self.field = 1,
            b' ' if self.field == 1 => self.field = 2,
            _ if self.field < 2 => {
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                let bound = &mut self.bounds[self.field as usize];
                *bound = *bound << 4 | u64::from(digit);
            }
            // The first slash begins the path: nothing before it contains one.
            _ if (byte == b'/' || self.len > 0) && self.len < self.path.len() => {
                self.path[self.len] = byte;
                self.len += 1;
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_an_address_gives_its_path() {
        let text = b"00400000-00500000 r-xp 00000000 08:01 12 /usr/bin/hotpair\n\
            7f00-7f80 rw-s 00000000 00:19 34                         /dev/shm/hotpair.a b (deleted)\n\
            7f80-7f90 rw-p 00000000 00:00 0\n";
        let path_of = |address| {
            let mut path = [0; 256];
            let mut line = Line::new(address, &mut path);
            let len = text.iter().find_map(|&byte| line.feed(byte))?;
            Some(String::from_utf8_lossy(&path[..len]).into_owned())
        };
        assert_eq!(path_of(0x40_0000).as_deref(), Some("/usr/bin/hotpair"));
        assert_eq!(path_of(0x7f7f).as_deref(), Some("/dev/shm/hotpair.a b (deleted)"));
        assert_eq!(path_of(0x7f80), None);
        assert_eq!(path_of(0x10), None);
    }
}
