//! What a node has that its new primary does not have: written to a file before it is overwritten.
//!
//! A primary that was superseded may have committed more than its back-up got. Nobody outside was told of it, but
//! people may want to know. One JSON object a line: first what this is about, then an object or a packet each.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use hotpair_shm::{ObjectImage, Region, Seq, SlotImage, monotonic_ns};
use serde_json::{Value, json};

use super::events::EventSink;
use super::table::region_seq;
use crate::protocol;

/// A file is ended at this size, and says so.
const BYTES_MAX: u64 = 64 << 20;
/// So many files are kept, the newest.
const FILES_MAX: usize = 16;
/// So many keys are named in the event.
const NAMED_MAX: usize = 20;

/// What was written.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) path: PathBuf,
    /// Slots that were changed, ended objects included, and packets that were never released.
    pub(super) slots: u64,
    pub(super) packets: u64,
    /// Keys of the first of them, as text.
    pub(super) keys: Vec<String>,
    /// Some did not fit.
    pub(super) truncated: bool,
}

/// Where a node keeps them.
#[derive(Debug)]
pub(super) struct Divergences {
    pub(super) directory: PathBuf,
    /// As in the node's certificate.
    pub(super) member: String,
}

impl Divergences {
    /// Writes down what goes, and says so. A disk that takes nothing does not hold up the pair.
    pub(super) fn save(&self, region: &Region, since: Option<protocol::Seq>, events: &EventSink) {
        let from = since.map(region_seq);
        let fields = match save(region, &self.member, from, &self.directory) {
            Ok(None) => return,
            Ok(Some(saved)) => {
                tracing::warn!(
                    path = %saved.path.display(), slots = saved.slots, packets = saved.packets,
                    "this node had changes that its new primary does not have: they are saved"
                );
                json!({
                    "file": saved.path, "slots": saved.slots, "packets": saved.packets,
                    "keys": saved.keys, "truncated": saved.truncated,
                })
            }
            Err(error) => {
                tracing::error!(%error, directory = %self.directory.display(), "divergent changes cannot be saved");
                json!({ "error": error.to_string(), "directory": self.directory })
            }
        };
        events.write(monotonic_ns(), "diverged", fields);
    }
}

/// Writes down everything in `region` that was changed after `since`; `None` if nothing was.
pub(super) fn save(
    region: &Region,
    member: &str,
    since: Option<Seq>,
    directory: &Path,
) -> io::Result<Option<Saved>> {
    let since = since.unwrap_or(Seq::from_bits(0));
    let slots = region.changed_since(since);
    let packets: Vec<_> =
        region.packets().into_iter().filter(|packet| packet.seq > since).collect();
    if slots.is_empty() && packets.is_empty() {
        return Ok(None);
    }
    fs::create_dir_all(directory)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let path = directory.join(format!("{member}-{:013}.jsonl", now.as_millis()));
    let mut out = BufWriter::new(File::create_new(&path)?);
    let mut line = |value: &Value| -> io::Result<u64> {
        let text = format!("{value}\n");
        out.write_all(text.as_bytes())?;
        Ok(text.len() as u64)
    };
    let mut bytes = line(&json!({
        "v": 1, "node": member, "since": since.to_string(),
        "end": region.commit_seq().to_string(), "slots": slots.len(), "packets": packets.len(),
        "unix_ms": now.as_millis() as u64,
    }))?;
    let (mut keys, mut truncated) = (Vec::new(), false);
    for &slot in &slots {
        if bytes > BYTES_MAX {
            truncated = true;
            break;
        }
        bytes += line(&match region.image(slot) {
            Ok(Some(SlotImage::Object(object))) => {
                if keys.len() < NAMED_MAX && !object.key.is_empty() {
                    keys.push(String::from_utf8_lossy(&object.key).into_owned());
                }
                object_line(region, &object)
            }
            Ok(Some(SlotImage::Free { incarnation, seq })) => json!({
                "slot": slot, "incarnation": incarnation, "seq": seq.to_string(), "ended": true,
            }),
            Ok(None) => continue,
            Err(error) => json!({ "slot": slot, "damaged": error.to_string() }),
        })?;
    }
    for packet in &packets {
        if bytes > BYTES_MAX {
            truncated = true;
            break;
        }
        bytes += line(&json!({
            "packet": packet.seq.to_string(), "ordinal": packet.ordinal,
            "port": region.geometry().ports.get(usize::from(packet.port)),
            "to": format!("{:?}", packet.endpoint), "payload": hex(&packet.payload),
        }))?;
    }
    if truncated {
        line(&json!({ "truncated": true, "bytes_max": BYTES_MAX }))?;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    prune(directory, member)?;
    let (slots, packets) = (slots.len() as u64, packets.len() as u64);
    Ok(Some(Saved { path, slots, packets, keys, truncated }))
}

fn object_line(region: &Region, object: &ObjectImage) -> Value {
    let queue = region.geometry().queues.get(usize::from(object.queue.index()));
    json!({
        "slot": object.slot, "incarnation": object.incarnation, "seq": object.seq.to_string(),
        "queue": queue.map(|queue| &queue.name), "key": hex(&object.key),
        "key_text": std::str::from_utf8(&object.key).ok(), "value": hex(&object.value),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Removes all but the newest files of this node: a pair that changes roles for years must not fill a disk.
fn prune(directory: &Path, member: &str) -> io::Result<()> {
    let mut files: Vec<_> = fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            name.is_some_and(|name| name.starts_with(member) && name.ends_with(".jsonl"))
        })
        .collect();
    // Their names sort by time.
    files.sort_unstable();
    let spare = files.len().saturating_sub(FILES_MAX);
    files[..spare].iter().try_for_each(fs::remove_file)
}
