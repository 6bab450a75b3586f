//! The kind `pcap`: packets out of a capture file, and into one.
//!
//! For tests and for looking at what happened: a file waits, so nothing is lost for want of memory; each process begins at the
//! start of the file, and goes on where it was when its host serves again. What is emitted is written with the time at which
//! it left, behind what is in the file already.

mod file;

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::kind::{PacketSink, PacketSource};
use crate::mmsg::{Datagram, SendError};
use crate::raw::ONE_PLACE;
pub use file::CaptureError;
use file::{CaptureReader, Record, write_header, write_record};

/// Read and written with one system call.
const FILE_BUFFER_BYTES: usize = 1 << 20;
/// What was written is in the file after so long.
const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// How long a file waits when there is no memory.
const WAIT: Duration = Duration::from_millis(1);

/// How quickly a file is replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Speed {
    /// As it was captured.
    #[default]
    Own,
    /// So many packets a second.
    Rate(u32),
    /// As quickly as there is room.
    Max,
}

struct Replay {
    reader: CaptureReader<BufReader<File>>,
    /// Read, and its packet is not.
    next: Option<Record>,
    /// When the first packet since the last beginning was due, and what its time in the file is.
    begun: Option<(Instant, Duration)>,
    /// Packets since then.
    count: u64,
}

pub(crate) struct CapturePort {
    replay: Option<Replay>,
    speed: Speed,
    write: Option<BufWriter<File>>,
    flushed: Instant,
    unflushed: bool,
}

impl CapturePort {
    pub(crate) fn open(
        replay: Option<&Path>,
        write: Option<&Path>,
        speed: Speed,
    ) -> Result<CapturePort, CaptureError> {
        let replay = match replay {
            Some(path) => {
                let file = BufReader::with_capacity(FILE_BUFFER_BYTES, File::open(path)?);
                let reader = CaptureReader::new(file)?;
                Some(Replay { reader, next: None, begun: None, count: 0 })
            }
            None => None,
        };
        let write = write.map(open_to_write).transpose()?;
        Ok(CapturePort { replay, speed, write, flushed: Instant::now(), unflushed: false })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushed = Instant::now();
        if std::mem::take(&mut self.unflushed)
            && let Some(write) = &mut self.write
        {
            write.flush()?;
        }
        Ok(())
    }
}

/// A new file, or one of ours that goes on.
fn open_to_write(path: &Path) -> Result<BufWriter<File>, CaptureError> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    if file.metadata()?.len() == 0 {
        write_header(&mut file)?;
    } else {
        let mut ours = Vec::new();
        write_header(&mut ours)?;
        let mut there = vec![0; ours.len()];
        file.read_exact(&mut there)?;
        if there != ours {
            let found = u32::from_le_bytes([there[0], there[1], there[2], there[3]]);
            return Err(CaptureError::Foreign { found });
        }
    }
    Ok(BufWriter::with_capacity(FILE_BUFFER_BYTES, file))
}

impl Replay {
    /// Until when the next packet has to wait; `None` at the end of the file.
    fn due(&mut self, speed: Speed) -> Result<Option<Duration>, CaptureError> {
        if self.next.is_none() {
            self.next = self.reader.next()?;
        }
        let Some(record) = self.next else { return Ok(None) };
        let (begun, first) = *self.begun.get_or_insert_with(|| (Instant::now(), record.time));
        let after = match speed {
            Speed::Own => record.time.saturating_sub(first),
            Speed::Rate(rate) => {
                Duration::from_secs_f64(self.count as f64 / f64::from(rate.max(1)))
            }
            Speed::Max => return Ok(Some(Duration::ZERO)),
        };
        Ok(Some((begun + after).saturating_duration_since(Instant::now())))
    }
}

impl PacketSource for CapturePort {
    const PUSHES_BACK: bool = false;

    fn receive<'b>(
        &mut self,
        mut buffers: impl Iterator<Item = &'b mut [u8]>,
        into: &mut Vec<Datagram>,
    ) -> io::Result<()> {
        let Some(replay) = &mut self.replay else { return Ok(()) };
        let ended = loop {
            match replay.due(self.speed) {
                Ok(Some(Duration::ZERO)) => {}
                Ok(Some(_)) => return Ok(()),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
            let Some(buffer) = buffers.next() else { return Ok(()) };
            let record = replay.next.take().expect("it is due");
            match replay.reader.read(&record, buffer) {
                Ok(taken) => {
                    replay.count += 1;
                    let truncated = taken < record.kept as usize;
                    let datagram = Datagram::new(record.kept as usize, Some(ONE_PLACE));
                    into.push(Datagram { truncated, ..datagram });
                }
                Err(error) => break Some(error),
            }
        };
        match ended {
            None => tracing::info!(packets = replay.count, "the capture file is at its end"),
            Some(error) => {
                tracing::warn!(%error, packets = replay.count, "the capture file ends early")
            }
        }
        self.replay = None;
        Ok(())
    }

    fn discard(&mut self, _count: usize, _into: &mut Vec<Datagram>) -> io::Result<()> {
        Ok(()) // what there is no room for stays in the file
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn next_due(&self) -> Option<Duration> {
        let replay = self.replay.as_ref()?;
        let (Some(record), Some((begun, first))) = (replay.next, replay.begun) else {
            return Some(WAIT);
        };
        match self.speed {
            Speed::Own => {
                let due = begun + record.time.saturating_sub(first);
                Some(due.saturating_duration_since(Instant::now()))
            }
            Speed::Rate(_) | Speed::Max => Some(WAIT),
        }
    }

    fn lost_before(&mut self) -> Option<u64> {
        // The loop has nothing to do: what was written goes into the file.
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "packets are not written into the capture file");
        }
        None
    }

    fn begin(&mut self) -> io::Result<()> {
        if let Some(replay) = &mut self.replay {
            (replay.begun, replay.count) = (None, 0);
        }
        Ok(())
    }

    fn end(&mut self) {
        let _ = self.lost_before();
    }
}

impl PacketSink for CapturePort {
    const ADDRESSED: bool = false;

    fn send<'p>(
        &mut self,
        packets: impl Iterator<Item = (&'p [u8], SocketAddr)>,
    ) -> Result<usize, SendError> {
        let Some(write) = &mut self.write else { return Err(SendError::Refused("no file")) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut count = 0;
        for (payload, _) in packets {
            match write_record(write, now, payload) {
                Ok(()) => count += 1,
                Err(error) if count == 0 => return Err(error.into()),
                Err(_) => break,
            }
        }
        self.unflushed = true;
        if self.flushed.elapsed() > FLUSH_EVERY {
            self.flush()?;
        }
        Ok(count)
    }
}
