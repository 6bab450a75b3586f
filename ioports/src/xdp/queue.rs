//! A socket for the frames of one queue of an interface, and the memory that they lie in.
//!
//! ```text
//!   memory:  │ 2,048 frames to receive into │ 512 to send from │
//!   kernel ─► rx ─► copied into a block ─► fill ─► kernel
//!   packet copied in ─► tx ─► kernel ─► completion ─► free
//! ```

#![expect(unsafe_code, reason = "AF_XDP: options and an address that no crate of ours names")]

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{getsockopt, sockopt};

use super::ring::{Mapping, Ring};

/// Frames that the kernel may put in before they are read. A burst.
const RECEIVED: u32 = 2048;
/// Frames that may be under way out.
const SENT: u32 = 512;
/// Bytes that the kernel keeps before each frame that it puts in.
const BEFORE: usize = 256;
/// What a frame's place may be, at most and at least.
const PLACE_BYTES: [usize; 2] = [2048, 4096];

/// The longest frame that can come in.
pub(super) const FRAME_BYTES_MAX: usize = PLACE_BYTES[1] - BEFORE;

/// Turns of the kernel for what waits to be sent: each takes up to 32 frames.
const PUSHES_MAX: u32 = 2 * SENT / 32;

/// What the kernel has dropped since the socket was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drops {
    pub(super) rx_full: u64,
    pub(super) fill_empty: u64,
    pub(super) other: u64,
}

/// A frame that has come, until it is given back.
pub(super) struct Frame(libc::xdp_desc);

pub(super) struct Queue {
    socket: OwnedFd,
    rx: Ring<libc::xdp_desc>,
    fill: Ring<u64>,
    tx: Ring<libc::xdp_desc>,
    completion: Ring<u64>,
    /// Places of frames to send.
    free: Vec<u64>,
    frames: Mapping,
    place_bytes: usize,
}

impl Queue {
    /// Opens one for the frames, of up to `frame_bytes`, of queue `number` of the interface with this index.
    pub(super) fn open(index: u32, number: u32, frame_bytes: usize) -> io::Result<Queue> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no memory is involved.
        let descriptor = unsafe { libc::socket(libc::AF_XDP, kind, 0) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let place_bytes =
            if frame_bytes + BEFORE <= PLACE_BYTES[0] { PLACE_BYTES[0] } else { PLACE_BYTES[1] };
        let bytes = (RECEIVED + SENT) as usize * place_bytes;
        let frames = Mapping::own(NonZeroUsize::new(bytes).expect("there are frames"))?;
        let region = libc::xdp_umem_reg {
            addr: frames.at::<u8>(0).as_ptr() as u64,
            len: bytes as u64,
            chunk_size: place_bytes as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        set(&socket, libc::XDP_UMEM_REG, &region)?;
        set(&socket, libc::XDP_UMEM_FILL_RING, &RECEIVED)?;
        set(&socket, libc::XDP_UMEM_COMPLETION_RING, &SENT)?;
        set(&socket, libc::XDP_RX_RING, &RECEIVED)?;
        set(&socket, libc::XDP_TX_RING, &SENT)?;
        let places: libc::xdp_mmap_offsets = get(&socket, libc::XDP_MMAP_OFFSETS)?;
        let descriptor = socket.as_fd();
        let mut fill =
            Ring::map(descriptor, libc::XDP_UMEM_PGOFF_FILL_RING as i64, places.fr, RECEIVED)?;
        let completion =
            Ring::map(descriptor, libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64, places.cr, SENT)?;
        let rx = Ring::map(descriptor, libc::XDP_PGOFF_RX_RING, places.rx, RECEIVED)?;
        let tx = Ring::map(descriptor, libc::XDP_PGOFF_TX_RING, places.tx, SENT)?;
        let address = |number: u32| u64::from(number) * place_bytes as u64;
        for number in 0..RECEIVED {
            fill.push(address(number));
        }
        fill.show();
        bind(&socket, index, number)?;
        let free = (RECEIVED..RECEIVED + SENT).map(address).collect();
        Ok(Queue { socket, rx, fill, tx, completion, free, frames, place_bytes })
    }

    /// The next frame that has come. It is to be given back.
    pub(super) fn next(&mut self) -> Option<Frame> {
        self.rx.pop().map(Frame)
    }

    /// The bytes of a frame of this queue.
    pub(super) fn bytes(&self, frame: &Frame) -> &[u8] {
        let (at, len) = (frame.0.addr as usize, frame.0.len as usize);
        let inside = at.checked_add(len).is_some_and(|end| end <= self.frames.bytes());
        assert!(inside, "the kernel put {len} bytes at {at} of {}", self.frames.bytes());
        // SAFETY:
        // - inside the mapping: just checked;
        // - nobody writes there: from `next` to `give_back`, which takes the frame away from whoever reads it, its place is in no
        //   ring that the kernel reads, and `take` writes only to places of frames to send.
        unsafe { std::slice::from_raw_parts(self.frames.at::<u8>(at).as_ptr(), len) }
    }

    /// The place of the frame is for another one.
    pub(super) fn give_back(&mut self, frame: Frame) {
        let place_bytes = self.place_bytes as u64;
        let pushed = self.fill.push(frame.0.addr / place_bytes * place_bytes);
        debug_assert!(pushed, "as many places as entries");
    }

    /// The kernel may use again what was given back.
    pub(super) fn rest(&mut self) {
        self.rx.give_back();
        self.fill.show();
        if self.fill.is_asleep() {
            // SAFETY: no buffer is given. It fails when there is nothing to do, which is nobody's concern.
            unsafe {
                let flags = libc::MSG_DONTWAIT;
                let (none, no_len) = (std::ptr::null_mut(), std::ptr::null_mut());
                libc::recvfrom(self.socket.as_raw_fd(), none, 0, flags, none.cast(), no_len);
            }
        }
    }

    /// Bytes of the longest frame that can be sent.
    pub(super) fn frame_bytes_max(&self) -> usize {
        self.place_bytes
    }

    /// Takes a copy of `frame` to be sent by [`push`](Self::push); false if there is no room now.
    pub(super) fn take(&mut self, frame: &[u8]) -> bool {
        assert!(frame.len() <= self.place_bytes, "a frame of {} bytes", frame.len());
        if self.free.is_empty() {
            while let Some(place) = self.completion.pop() {
                self.free.push(place);
            }
            self.completion.give_back();
        }
        let Some(place) = self.free.pop() else { return false };
        let to = self.frames.at::<u8>(place as usize).as_ptr();
        // SAFETY: a place is inside the mapping and as long as the longest frame (checked above); a free one is ours alone.
        unsafe { std::ptr::copy_nonoverlapping(frame.as_ptr(), to, frame.len()) };
        let frame = libc::xdp_desc { addr: place, len: frame.len() as u32, options: 0 };
        let pushed = self.tx.push(frame);
        debug_assert!(pushed, "as many places as entries");
        true
    }

    /// Whether something was taken that has not left.
    pub(super) fn is_sending(&self) -> bool {
        self.tx.unconsumed() > 0
    }

    /// Has the kernel send what was taken, as far as it has room.
    pub(super) fn push(&mut self) -> io::Result<()> {
        self.tx.show();
        for _ in 0..PUSHES_MAX {
            let before = self.tx.unconsumed();
            if before == 0 || !self.tx.is_asleep() {
                return Ok(());
            }
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: neither a buffer nor an address is given.
            let sent = unsafe {
                libc::sendto(
                    self.socket.as_raw_fd(),
                    std::ptr::null(),
                    0,
                    flags,
                    std::ptr::null(),
                    0,
                )
            };
            if sent < 0 && self.tx.unconsumed() == before {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    pub(super) fn drops(&self) -> Drops {
        get::<libc::xdp_statistics>(&self.socket, libc::XDP_STATISTICS)
            .map(|seen| Drops {
                rx_full: seen.rx_ring_full,
                fill_empty: seen.rx_fill_ring_empty_descs,
                // The kernel counts a frame that it has no place for in both.
                other: seen.rx_dropped.saturating_sub(seen.rx_fill_ring_empty_descs)
                    + seen.rx_invalid_descs,
            })
            .unwrap_or_default()
    }

    /// What has become of the socket, such as that its interface is gone.
    pub(super) fn trouble(&self) -> Option<io::Error> {
        let code = getsockopt(&self.socket, sockopt::SocketError).ok()?;
        (code != 0).then(|| io::Error::from_raw_os_error(code))
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How much a frame of the interface may carry behind its header.
pub(super) fn mtu(interface: &str) -> io::Result<usize> {
    // SAFETY: `ifreq` is made of integers, and of pointers that may be null, for which all zero bytes are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero. A longer name is no interface's.
    let places = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..places].iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: the kernel reads the name of `request`, writes a number into its other half, and keeps no pointer to it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just written this member.
    Ok(usize::try_from(unsafe { request.ifr_ifru.ifru_mtu }).unwrap_or(0))
}

fn bind(socket: &OwnedFd, index: u32, number: u32) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: index,
        sxdp_queue_id: number,
        sxdp_shared_umem_fd: 0,
    };
    // SAFETY: the kernel reads as many bytes of `address` as it has, and keeps no pointer to it.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_xdp>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `value`. Of the memory for frames it keeps the pages, not the address.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn get<T>(socket: &OwnedFd, option: libc::c_int) -> io::Result<T> {
    // SAFETY: both types that are asked for are made of integers, for which all zero bytes are a value.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `value`, which is that long, and the length that it used.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            option,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
