//! The program in the kernel that hands the frames of an interface to sockets, and the word that switches it.
//!
//! ```text
//!   word = 0:  every frame goes its usual way, to this host
//!   word = 1:  every frame goes to the socket of its queue; where there is none, its usual way
//! ```
//!
//! It is a dozen instructions, loaded and attached by system calls: no compiler, no library, no file. What attaches it is a
//! descriptor (`bpf_link`), so the kernel takes it off when the process that has it ends, however it does. The word lies in a
//! map that this process has mapped: switching it needs no system call, which a confined port would not be allowed.

#![expect(unsafe_code, reason = "bpf(2) has no safe spelling here")]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::Attach;
use super::ring::Mapping;

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE: libc::c_int = 2;
const PROGRAM_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;

const MAP_ARRAY: u32 = 2;
const MAP_XSK: u32 = 17;
const MAP_CAN_BE_MAPPED: u32 = 1 << 10;
const PROGRAM_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const BY_KERNEL: u32 = 1 << 1;
const BY_DRIVER: u32 = 1 << 2;

/// What becomes of a frame that the program passes.
const PASS: i32 = 2;

const LICENSE: &std::ffi::CStr = c"Apache-2.0 OR MIT";

/// Holds every frame of an interface away from it, or lets all in.
pub(super) struct Program {
    switch: Mapping,
    sockets: OwnedFd,
    link: Option<OwnedFd>,
    program: OwnedFd,
}

impl Program {
    /// Loads it, for up to `queues` sockets. Nothing is attached yet.
    pub(super) fn load(queues: u32) -> io::Result<Program> {
        let switch = create_map(MAP_ARRAY, 1, MAP_CAN_BE_MAPPED)?;
        let sockets = create_map(MAP_XSK, queues, 0)?;
        let code = code(switch.as_fd(), sockets.as_fd());
        let program = load(&code)?;
        let page = NonZeroUsize::new(4096).expect("a page has bytes");
        let switch = Mapping::of(switch.as_fd(), 0, page)?;
        Ok(Program { switch, sockets, link: None, program })
    }

    /// The frames of queue `number` are for `socket`.
    pub(super) fn direct(&self, number: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let value = socket.as_raw_fd() as u32;
        let update = Update {
            map: self.sockets.as_raw_fd() as u32,
            _pad: 0,
            key: (&raw const number) as u64,
            value: (&raw const value) as u64,
            flags: 0,
        };
        // SAFETY: key and value are four bytes each, as the map was made, and outlive the call.
        unsafe { bpf(MAP_UPDATE, &update) }.map(drop)
    }

    /// Puts it before the interface with this index; true if its driver runs it.
    pub(super) fn attach(&mut self, index: u32, attach: Attach) -> io::Result<bool> {
        let by = |flags| -> io::Result<OwnedFd> {
            let program = self.program.as_raw_fd() as u32;
            let link = Link { program, interface: index, kind: ATTACH_XDP, flags };
            // SAFETY: no memory beyond `link` is involved; the kernel returns a descriptor.
            unsafe { bpf_descriptor(LINK_CREATE, &link) }
        };
        let (link, by_driver) = match attach {
            Attach::Driver => (by(BY_DRIVER)?, true),
            Attach::Generic => (by(BY_KERNEL)?, false),
            Attach::Any => match by(BY_DRIVER) {
                Ok(link) => (link, true),
                // Whoever is there already is in the way of either.
                Err(error) if is_final(&error) => return Err(error),
                Err(_) => (by(BY_KERNEL)?, false),
            },
        };
        self.link = Some(link);
        Ok(by_driver)
    }

    /// Frames come in from now on.
    pub(super) fn let_in(&self) {
        self.switch.word(0).store(1, Ordering::Release);
    }

    /// Frames go their usual way from now on.
    pub(super) fn keep_out(&self) {
        self.switch.word(0).store(0, Ordering::Release);
    }
}

fn is_final(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST | libc::EPERM | libc::ENODEV))
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    /// The source above, the destination below, four bits each.
    registers: u8,
    offset: i16,
    value: i32,
}

/// Loads an address or a number of 64 bits; the second half is an instruction of its own.
const LOAD_WIDE: u8 = 0x18;
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_VALUE: u8 = 0xb7;
const JUMP_IF_EQUAL: u8 = 0x15;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// The number is a map's descriptor: its address is meant.
const OF_MAP: u8 = 1;
/// The same: the address of its first value is meant.
const OF_VALUE: u8 = 2;

/// `bpf_redirect_map`.
const REDIRECT: i32 = 51;
/// Where `struct xdp_md` has the number of the queue.
const QUEUE_AT: i16 = 16;

fn code(switch: BorrowedFd<'_>, sockets: BorrowedFd<'_>) -> [Instruction; 13] {
    let one = |code, to: u8, from: u8, offset, value| Instruction {
        code,
        registers: from << 4 | to,
        offset,
        value,
    };
    let rest = one(0, 0, 0, 0, 0);
    [
        one(MOVE, 6, 1, 0, 0), // r6 = the frame
        one(LOAD_WIDE, 1, OF_VALUE, 0, switch.as_raw_fd()),
        rest,
        one(LOAD_WORD, 1, 1, 0, 0),     // r1 = the word
        one(JUMP_IF_EQUAL, 1, 0, 6, 0), // if it is zero: to the last two
        one(LOAD_WORD, 2, 6, QUEUE_AT, 0),
        one(LOAD_WIDE, 1, OF_MAP, 0, sockets.as_raw_fd()),
        rest,
        one(MOVE_VALUE, 3, 0, 0, PASS), // where there is no socket
        one(CALL, 0, 0, 0, REDIRECT),
        one(EXIT, 0, 0, 0, 0),
        one(MOVE_VALUE, 0, 0, 0, PASS),
        one(EXIT, 0, 0, 0, 0),
    ]
}

#[repr(C)]
struct NewMap {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
struct Update {
    map: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct NewProgram {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
}

#[repr(C)]
struct Link {
    program: u32,
    interface: u32,
    kind: u32,
    flags: u32,
}

fn create_map(kind: u32, entries: u32, flags: u32) -> io::Result<OwnedFd> {
    let map = NewMap { kind, key_bytes: 4, value_bytes: 4, entries, flags };
    // SAFETY: no memory beyond `map` is involved; the kernel returns a descriptor.
    unsafe { bpf_descriptor(MAP_CREATE, &map) }
}

fn load(code: &[Instruction]) -> io::Result<OwnedFd> {
    let program = NewProgram {
        kind: PROGRAM_XDP,
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: 0,
        log_bytes: 0,
        log: 0,
    };
    // SAFETY: instructions and license outlive the call and have the lengths that are given, or end with zero; the kernel returns
    // a descriptor.
    unsafe { bpf_descriptor(PROGRAM_LOAD, &program) }
}

/// # Safety
/// `command` takes an `A`, what that points to is alive, and the result is a new descriptor.
unsafe fn bpf_descriptor<A>(command: libc::c_int, argument: &A) -> io::Result<OwnedFd> {
    // SAFETY: the caller's.
    let number = unsafe { bpf(command, argument)? };
    // SAFETY: the kernel has just made this descriptor for us, which closes on exec; nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// # Safety
/// `command` takes an `A`, and what that points to is alive.
unsafe fn bpf<A>(command: libc::c_int, argument: &A) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads as many bytes as `A` has, takes all others for zero, and keeps no pointer; the rest is the caller's.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(argument), size_of::<A>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}
