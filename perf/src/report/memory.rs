//! How much memory something takes.

use std::fmt;

use serde::Serialize;

use super::{Short, VERSION, hundredths, short};
use crate::peers;

/// Bytes of the region file for each object, against the bytes of its value.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryReport {
    v: u32,
    bench: &'static str,
    #[serde(skip)]
    question: &'static str,
    unit: &'static str,
    #[serde(serialize_with = "short")]
    bytes_per_object: f64,
    limit: ByteLimit,
    #[serde(serialize_with = "hundredths")]
    ratio: f64,
    /// Left out where it is not built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<MemoryPeer>,
}

/// Another program with the same objects.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryPeer {
    what: String,
    #[serde(serialize_with = "short")]
    bytes_per_object: f64,
    #[serde(serialize_with = "hundredths")]
    ratio: f64,
}

/// The bytes that nobody can do without.
#[derive(Clone, Debug, Serialize)]
struct ByteLimit {
    what: &'static str,
    bytes: u64,
}

impl MemoryReport {
    pub(crate) fn new(
        bench: &'static str,
        question: &'static str,
        region_bytes: u64,
        objects: u64,
        value_bytes: u64,
    ) -> Self {
        let bytes_per_object = region_bytes as f64 / objects.max(1) as f64;
        MemoryReport {
            v: VERSION,
            bench,
            question,
            unit: "bytes",
            bytes_per_object,
            limit: ByteLimit { what: "value size", bytes: value_bytes },
            ratio: bytes_per_object / value_bytes.max(1) as f64,
            peer: None,
        }
    }

    /// Adds what another program needs for an object.
    pub(crate) fn with_peer(mut self, peer: Option<(String, f64)>) -> Self {
        self.peer = peer.map(|(what, bytes_per_object)| {
            let ratio = self.bytes_per_object / bytes_per_object.max(1.0);
            MemoryPeer { what, bytes_per_object, ratio }
        });
        self
    }
}

impl fmt::Display for MemoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.bench, self.question)?;
        writeln!(f, "  {} bytes per object", Short(self.bytes_per_object))?;
        write!(
            f,
            "  limit: {}, {} bytes; ratio {:.2}",
            self.limit.what, self.limit.bytes, self.ratio
        )?;
        if let Some(MemoryPeer { what, bytes_per_object, ratio }) = &self.peer {
            write!(f, "\n  peer: {what}, {} bytes; ratio {ratio:.2}", Short(*bytes_per_object))?;
            if let Some(how) = peers::how(what) {
                write!(f, "\n        {how}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_report_has_the_documented_form() {
        let report = MemoryReport::new("memory", "how many", 400_064, 1_000, 256);
        assert_eq!(
            serde_json::to_string(&report).expect("plain data"),
            r#"{"v":1,"bench":"memory","unit":"bytes","bytes_per_object":400.1,"limit":{"what":"value size","bytes":256},"ratio":1.56}"#
        );
        assert!(report.to_string().contains("400 bytes per object"), "{report}");
        let report = report.with_peer(Some(("LMDB".to_owned(), 800.0)));
        let json = serde_json::to_value(&report).expect("plain data");
        assert_eq!(json["peer"]["ratio"], 0.5);
    }
}
