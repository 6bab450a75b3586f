//! A cable that can be cut: a byte that one end sends comes to the other only while it is whole.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How soon a copier finds out that it has been cut, or is not needed any more.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Leads to a server, until it is cut. Then neither end is told anything.
pub(crate) struct Cable {
    pub(crate) at: SocketAddr,
    cut: Arc<AtomicBool>,
    gone: Arc<AtomicBool>,
}

impl Cable {
    /// From `at` to `to`.
    pub(crate) fn lay(at: SocketAddr, to: SocketAddr) -> Cable {
        let listener = TcpListener::bind(at).expect("a free address");
        let (cut, gone) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let state = (cut.clone(), gone.clone());
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if state.1.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(far) = TcpStream::connect(to) else { continue };
                for (from, into) in [(&near, &far), (&far, &near)] {
                    let (from, into) = (from.try_clone(), into.try_clone());
                    let (from, into) = (from.expect("a descriptor"), into.expect("a descriptor"));
                    let state = state.clone();
                    thread::spawn(move || copy(from, into, &state.0, &state.1));
                }
            }
        });
        Cable { at, cut, gone }
    }

    /// From now on nothing comes through.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
        // What a copier has just read may still pass.
        thread::sleep(2 * LOOK_EVERY);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.at); // the listener's thread looks
    }
}

fn copy(mut from: TcpStream, mut into: TcpStream, cut: &AtomicBool, gone: &AtomicBool) {
    let mut bytes = vec![0; 64 << 10];
    from.set_read_timeout(Some(LOOK_EVERY)).expect("a socket option");
    while !gone.load(Ordering::Relaxed) {
        if cut.load(Ordering::Relaxed) {
            thread::sleep(LOOK_EVERY);
            continue;
        }
        match from.read(&mut bytes) {
            Ok(0) => return,
            Ok(count) if into.write_all(&bytes[..count]).is_err() => return,
            Err(error) if !is_late(&error) => return,
            _ => {}
        }
    }
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}
