//! LMDB with as many objects: what a get, a change and a put in a transaction of their own cost, and how many bytes.

#![expect(unsafe_code, reason = "LMDB maps a file, and trusts that nobody else changes it")]

use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, PutFlags};

use crate::objects::{VALUE_BYTES, work};
use crate::registry::BenchError;

/// Room for each object, and for the pages that transactions replace.
const BYTES_PER_OBJECT: usize = 1_024;
const SPARE_BYTES: usize = 64 << 20;

/// LMDB's pages are those of the machine.
const PAGE_BYTES: usize = 4_096;

/// Objects of one transaction while they are made.
const BATCH: u32 = 100_000;

/// What fails if it does not.
const OPEN: &str = "make a database of LMDB";
const TURN: &str = "change an object in LMDB";

/// A table of objects. Its directory begins with the name of the bench's own file, and is removed with it.
pub(crate) struct Objects {
    env: Env,
    table: Database<'static, Bytes, Bytes>,
    order: Vec<u32>,
    next: usize,
}

impl Objects {
    /// Objects 0, 1, … with values; [`turn`](Self::turn) takes them in `order`.
    pub(crate) fn create(beside: &Path, order: &[u32]) -> Result<Option<Self>, BenchError> {
        let directory = format!("{}.lmdb", beside.display());
        std::fs::create_dir_all(&directory).map_err(BenchError::setup(OPEN))?;
        let bytes = order.len() * BYTES_PER_OBJECT + SPARE_BYTES;
        let mut options = EnvOpenOptions::new();
        options.map_size(bytes.next_multiple_of(PAGE_BYTES));
        // SAFETY:
        // - flags: none of these lets two writers in at once (that would be NO_LOCK); what they give up is durability, of a file that
        //   nobody reads after this process;
        // - the file: it was made here under a name of our own, is opened once, and nobody else writes to it.
        let env = unsafe {
            options.flags(
                EnvFlags::NO_SYNC
                    | EnvFlags::NO_META_SYNC
                    | EnvFlags::WRITE_MAP
                    | EnvFlags::NO_READ_AHEAD,
            );
            options.open(&directory)
        };
        let env = env.map_err(BenchError::setup(OPEN))?;
        let table = create_table(&env).map_err(BenchError::setup(OPEN))?;
        let objects = Objects { env, table, order: order.to_vec(), next: 0 };
        objects.fill(order.len() as u32).map_err(BenchError::setup(OPEN))?;
        Ok(Some(objects))
    }

    fn fill(&self, objects: u32) -> heed::Result<()> {
        for first in (0..objects).step_by(BATCH as usize) {
            let mut write = self.env.write_txn()?;
            for object in first..objects.min(first.saturating_add(BATCH)) {
                // Keys come in their order, so pages are filled to the end.
                let (key, value) = (object.to_be_bytes(), [1; VALUE_BYTES]);
                self.table.put_with_flags(&mut write, PutFlags::APPEND, &key, &value)?;
            }
            write.commit()?;
        }
        Ok(())
    }

    /// Reads an object, works on it as a claim does, and puts it back.
    #[inline]
    pub(crate) fn turn(&mut self) -> Result<(), BenchError> {
        let object = self.order[self.next];
        self.next = (self.next + 1) % self.order.len();
        let changed = self.change(object).map_err(BenchError::setup(TURN))?;
        if changed { Ok(()) } else { Err(BenchError::setup(TURN)("it is not there")) }
    }

    fn change(&self, object: u32) -> heed::Result<bool> {
        let key = object.to_be_bytes();
        let mut write = self.env.write_txn()?;
        let mut value = [0; VALUE_BYTES];
        match self.table.get(&write, &key)? {
            Some(there) if there.len() == VALUE_BYTES => value.copy_from_slice(there),
            _ => return Ok(false),
        }
        work(&mut value);
        self.table.put(&mut write, &key, &value)?;
        write.commit()?;
        Ok(true)
    }

    /// Bytes of the pages that were ever used, for each object.
    pub(crate) fn bytes_per_object(&self) -> f64 {
        let pages = self.env.info().last_page_number + 1;
        (pages * PAGE_BYTES) as f64 / self.order.len().max(1) as f64
    }
}

fn create_table(env: &Env) -> heed::Result<Database<'static, Bytes, Bytes>> {
    let write = env.write_txn()?;
    let made = env.create_databases_and_commit(write, |opener, write| {
        opener.create_database(write, None).map(CommitOrAbort::<_, ()>::Commit)
    })?;
    Ok(made.unwrap_commit())
}

/// What it is, for a report.
pub(crate) fn name() -> String {
    let heed::LmdbVersion { major, minor, patch, .. } = heed::lmdb_version();
    format!(
        "LMDB {major}.{minor}.{patch} (heed), one write transaction: get, change, put {VALUE_BYTES} B"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn objects_are_changed_and_take_room() {
        let scratch = Scratch::new("lmdb");
        let order = [2, 0, 1];
        let mut objects = Objects::create(&scratch.path, &order).expect("room").expect("built in");
        for _ in 0..order.len() * 2 {
            objects.turn().expect("they are there");
        }
        let read = objects.env.read_txn().expect("a reader");
        let mut values = objects.table.iter(&read).expect("a table").flatten();
        assert!(values.by_ref().all(|(_, value)| value.len() == VALUE_BYTES && value[0] != 1));
        assert!(objects.bytes_per_object() > VALUE_BYTES as f64);
        assert!(name().starts_with("LMDB "), "{}", name());
    }
}
