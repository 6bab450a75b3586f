//! A port with a classifier in C: from a packet to the object that it is for.

#![expect(unsafe_code, reason = "names that C finds, and pointers from it")]

use std::ffi::{c_char, c_int, c_void};
use std::net::SocketAddr;

use hotpair_ioports::{Classified, Counters, PortConfig, RunError, SocketSource, Stop, run};
use hotpair_shm::{KEY_BYTES_MAX, Region};

use crate::address::hotpair_address;
use crate::errno;
use crate::failure::Failure;
use crate::handle::{contained, give, text};

/// Longest key of an object, in bytes.
pub const HOTPAIR_KEY_BYTES_MAX: usize = 128;

const _: () = assert!(HOTPAIR_KEY_BYTES_MAX == KEY_BYTES_MAX);

/// A key that a classifier writes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hotpair_packet_key {
    /// 1 to HOTPAIR_KEY_BYTES_MAX.
    pub length: usize,
    /// The key.
    pub bytes: [u8; HOTPAIR_KEY_BYTES_MAX],
}

/// Names the object that a packet is for. 1: the one that bears `key`, which was written; a key that cannot be one is a counted
/// drop. 0: an object of its own. Negative: nobody's, counted and dropped. Packets hold whatever somebody sent.
pub type hotpair_classifier = Option<
    unsafe extern "C" fn(
        packet: *const u8,
        length: usize,
        source: *const hotpair_address,
        key: *mut hotpair_packet_key,
        context: *mut c_void,
    ) -> c_int,
>;

/// A port that was opened; any thread may stop it, one runs it.
pub struct hotpair_port {
    space: String,
    config: PortConfig,
    counters: Counters,
    stop: Stop,
}

/// Opens the port called `port` of the region `space`: packets that come by `socket` (`IP:PORT`, `holder:PATH#NAME` or `fd:NUMBER`) are
/// messages to objects of `queue`, and what commits emit leaves by it.
///
/// # Safety
/// The texts end with a zero byte, `opened` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_port_open(
    space: *const c_char,
    port: *const c_char,
    queue: *const c_char,
    socket: *const c_char,
    opened: *mut *mut hotpair_port,
) -> c_int {
    contained(|| {
        if opened.is_null() {
            return Err(Failure::new(errno::EINVAL, "there is no place for the port"));
        }
        // SAFETY: the caller's promise.
        let (space, port) = unsafe { (text(space, "the space")?, text(port, "the port")?) };
        // SAFETY: the same.
        let (queue, socket) = unsafe { (text(queue, "the queue")?, text(socket, "the socket")?) };
        let socket: SocketSource =
            socket.parse().map_err(|error| Failure::new(errno::EINVAL, format!("{error}")))?;
        let config = PortConfig::new(port, queue, socket);
        let stop = Stop::new().map_err(|error| Failure::new(errno::EIO, error.to_string()))?;
        let counters = Counters::default();
        let made = hotpair_port { space: space.to_owned(), config, counters, stop };
        // SAFETY: the same.
        unsafe { give(opened, Box::into_raw(Box::new(made))) };
        Ok(0)
    })
}

/// Serves until the port is stopped. `classify` is called on this thread.
///
/// # Safety
/// `port` is one that was opened and is not closed; `classify` may be called with `context`. It must not leave by an exception or a jump.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_port_run(
    port: *const hotpair_port,
    classify: hotpair_classifier,
    context: *mut c_void,
) -> c_int {
    contained(|| {
        // SAFETY: the caller's promise; a port's fields do not change, or are made for several threads.
        let port = unsafe { port.as_ref() };
        let port = port.ok_or_else(|| Failure::new(errno::EINVAL, "the port is NULL"))?;
        let classify =
            classify.ok_or_else(|| Failure::new(errno::EINVAL, "the classifier is NULL"))?;
        let mut classifier = |packet: &[u8], source: SocketAddr| {
            let source = hotpair_address::from(Some(source));
            let mut key = hotpair_packet_key { length: 0, bytes: [0; HOTPAIR_KEY_BYTES_MAX] };
            // SAFETY:
            // - the caller's promise of the function; packet, source and key live until it returns.
            let said = unsafe {
                classify(packet.as_ptr(), packet.len(), &raw const source, &raw mut key, context)
            };
            match said {
                1 => match key.bytes.get(..key.length) {
                    Some(bytes) => Classified::key(bytes),
                    None => Classified::Drop("key too long"),
                },
                0 => Classified::Keyless,
                _ => Classified::Drop("refused by the classifier"),
            }
        };
        let path = Region::path_for(&port.space);
        let ended = run(&path, &port.config, &mut classifier, &port.counters, &port.stop);
        ended.map(|()| 0).map_err(|error| Failure::new(errno::EIO, words(&error)))
    })
}

fn words(error: &RunError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Asks a port to stop. Any thread may call this.
///
/// # Safety
/// `port` is one that was opened and is not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_port_stop(port: *const hotpair_port) -> c_int {
    contained(|| {
        // SAFETY: the caller's promise.
        let port = unsafe { port.as_ref() };
        port.ok_or_else(|| Failure::new(errno::EINVAL, "the port is NULL"))?.stop.stop();
        Ok(0)
    })
}

/// Frees a port that nobody runs any more.
///
/// # Safety
/// `port` is NULL, or one that was opened, which nobody runs and nobody uses afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_port_close(port: *mut hotpair_port) -> c_int {
    contained(|| {
        if !port.is_null() {
            // SAFETY: from a box, and the caller's promise.
            drop(unsafe { Box::from_raw(port) });
        }
        Ok(0)
    })
}
