//! Creating a region, attaching to one, and every reason to refuse.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::offset_of;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::geometry::{Geometry, GeometryError, QueueSpec, SizeClass};
use crate::layout::{
    FORMAT_VERSION, Header, MAGIC, MutexPlace, NameRow, ParticipantRow, REBUILDING, layout_hash,
};
use crate::map::{Access, Map};
use crate::pages::{Lock, Pages, Shortfall};
use crate::pool;
use crate::process;
use crate::shares::Shares;
use crate::sync::{AtomicU64, Ordering};
use crate::words::{Role, RoleEpoch, Seq};

/// Number of a queue in its region.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct QueueId(pub(crate) u8);

impl QueueId {
    /// The queue's place in the geometry, as shipped between nodes of the same geometry.
    pub fn index(self) -> u8 {
        self.0
    }
}

/// Number of an I/O port in its region.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct PortId(pub(crate) u8);

impl PortId {
    /// The port's place in the geometry, as shipped between nodes of the same geometry.
    pub fn index(self) -> u8 {
        self.0
    }
}

/// A mapped region. Clones share the mapping.
#[derive(Clone)]
pub struct Region {
    pub(crate) map: Arc<Map>,
}

impl Region {
    /// Where the region called `name` lies.
    pub fn path_for(name: &str) -> PathBuf {
        PathBuf::from(format!("/dev/shm/hotpair.{name}"))
    }

    /// Builds an empty region at `path` and maps it.
    ///
    /// The file is built under a temporary name, all its memory is reserved, and only then it gets
    /// its name: nobody can attach to a half-built one, and nobody meets SIGBUS later.
    pub fn create(path: &Path, geometry: &Geometry) -> Result<Region, CreateError> {
        Self::create_with(path, geometry, Pages::default())
    }

    /// The same, with memory of another kind. What of it cannot be had: [`shortfalls`](Self::shortfalls).
    ///
    /// # Errors
    /// Also if the memory must be locked and cannot be.
    pub fn create_with(
        path: &Path,
        geometry: &Geometry,
        pages: Pages,
    ) -> Result<Region, CreateError> {
        let bytes = geometry.region_bytes().map_err(CreateError::Geometry)?;
        let os = |action| move |source| CreateError::Os { action, path: path.into(), source };
        if path.exists() {
            return Err(CreateError::Exists { path: path.into() });
        }
        let directory = path.parent().unwrap_or(Path::new("/"));
        let have = available_bytes(directory).map_err(os("ask for the free space of"))?;
        if have < bytes {
            return Err(CreateError::Space { path: directory.into(), need: bytes, have });
        }
        let temporary = Temporary::beside(path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&temporary.0)
            .map_err(os("create"))?;
        // tmpfs lies about `ftruncate`: the first touch of a page that is not there kills.
        nix::fcntl::posix_fallocate(file.as_fd(), 0, bytes as i64).map_err(
            |errno| match errno {
                nix::Error::ENOSPC => {
                    CreateError::Space { path: directory.into(), need: bytes, have }
                }
                other => os("reserve memory for")(other.into()),
            },
        )?;
        let access = Access::Work(pages);
        let map = Map::new(&file, path, geometry.clone(), access).map_err(os("map"))?;
        if let Some((need, limit)) = unlocked(&map, pages) {
            return Err(CreateError::Lock { path: path.into(), need, limit });
        }
        write_header(&map, bytes).map_err(os("describe"))?;
        pool::fill(&map);
        // ORDER magic/1 Release, pairs with magic/2: who sees the magic sees the header.
        map.header().magic.store(MAGIC, Ordering::Release);
        // Fails if somebody else built a region of this name meanwhile; `rename` would replace it.
        fs::hard_link(&temporary.0, path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => CreateError::Exists { path: path.into() },
            _ => os("name")(source),
        })?;
        Ok(Region { map: Arc::new(map) })
    }

    /// Maps an existing region for work.
    pub fn attach(path: &Path) -> Result<Region, AttachError> {
        Self::attach_with(path, Pages::default())
    }

    /// The same, with memory of another kind. What of it cannot be had: [`shortfalls`](Self::shortfalls).
    ///
    /// # Errors
    /// Also if the memory must be locked and cannot be.
    pub fn attach_with(path: &Path, pages: Pages) -> Result<Region, AttachError> {
        Self::open(path, Access::Work(pages), 0)
    }

    /// Maps a region whose hints may be half-built.
    pub(crate) fn attach_to_rebuild(path: &Path) -> Result<Region, AttachError> {
        Self::open(path, Access::Work(Pages::default()), REBUILDING)
    }

    /// Maps an existing region for looking only: works when every process of it is dead.
    pub fn observe(path: &Path) -> Result<Region, AttachError> {
        Self::open(path, Access::Look, REBUILDING)
    }

    /// `tolerated`: bits of [`Header::incompatible`] that do not matter to the caller.
    fn open(path: &Path, access: Access, tolerated: u32) -> Result<Region, AttachError> {
        let writable = access != Access::Look;
        let os = |action| move |source| AttachError::Os { action, path: path.into(), source };
        let file =
            OpenOptions::new().read(true).write(writable).open(path).map_err(
                |source| match source.kind() {
                    io::ErrorKind::NotFound => AttachError::Missing { path: path.into() },
                    _ => os("open")(source),
                },
            )?;
        let actual = file.metadata().map_err(os("measure"))?.len();
        let facts = read_header(path, &file, actual, tolerated)?;
        let map = Map::new(&file, path, facts.geometry, access).map_err(os("map"))?;
        if let Access::Work(pages) = access {
            if let Some((need, limit)) = unlocked(&map, pages) {
                return Err(AttachError::Lock { path: path.into(), need, limit });
            }
            let ours = process::pid_namespace().map_err(os("read the pid namespace for"))?;
            let theirs = map.header().pid_namespace.load(Ordering::Relaxed);
            if ours != theirs {
                return Err(AttachError::PidNamespace { path: path.into(), ours, theirs });
            }
        }
        Ok(Region { map: Arc::new(map) })
    }

    /// What was asked of this mapping's memory and could not be had.
    pub fn shortfalls(&self) -> &[Shortfall] {
        self.map.missing()
    }

    /// Bytes of this mapping that the processor translates in steps of 2 MiB.
    pub fn huge_bytes(&self) -> io::Result<u64> {
        self.map.mapping().huge_bytes()
    }

    /// Removes the file. Processes that have it mapped keep their mapping until they let go of it.
    pub fn remove(path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Whether `path` still leads to this very region, and not to nothing or to a successor.
    pub fn is_current(&self) -> bool {
        match Region::observe(self.path()) {
            Ok(there) => there.hash_seed() == self.hash_seed(),
            Err(_) => false,
        }
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        self.map.path()
    }

    /// What it was built for.
    pub fn geometry(&self) -> &Geometry {
        self.map.geometry()
    }

    /// The name behind `/dev/shm/hotpair.`, or the whole file name.
    pub fn name(&self) -> String {
        let file = self.path().file_name().unwrap_or_default().to_string_lossy();
        file.strip_prefix("hotpair.").unwrap_or(&file).to_owned()
    }

    /// The queue called `name`.
    pub fn queue(&self, name: &str) -> Option<QueueId> {
        let at = self.geometry().queues.iter().position(|queue| queue.name == name)?;
        Some(QueueId(at as u8))
    }

    /// The queue at a place that came from the other node or from the region.
    pub fn queue_at(&self, index: u8) -> Option<QueueId> {
        (usize::from(index) < self.geometry().queues.len()).then_some(QueueId(index))
    }

    /// The port called `name`.
    pub fn port(&self, name: &str) -> Option<PortId> {
        let at = self.geometry().ports.iter().position(|port| port == name)?;
        Some(PortId(at as u8))
    }

    /// The port at a place that came from the other node or from the region.
    pub fn port_at(&self, index: u8) -> Option<PortId> {
        (usize::from(index) < self.geometry().ports.len()).then_some(PortId(index))
    }

    /// A number drawn whenever the region is (made) empty: a rebooted, empty back-up has another one.
    pub fn incarnation(&self) -> u64 {
        self.header().incarnation.word.load(Ordering::SeqCst)
    }

    /// The role that this region has at present.
    #[inline]
    pub fn role(&self) -> RoleEpoch {
        // ORDER role/2 SeqCst, pairs with role/1.
        RoleEpoch(self.header().role.word.load(Ordering::SeqCst))
    }

    /// Up to where the outside may know.
    #[inline]
    pub fn released(&self) -> Seq {
        // ORDER released/2 SeqCst, pairs with released/1: ports sleep over this word (bell/5).
        Seq::from_bits(self.header().released.word.load(Ordering::SeqCst))
    }

    /// The last position that was drawn.
    pub fn commit_seq(&self) -> Seq {
        Seq::from_bits(self.header().commit_seq.word.load(Ordering::SeqCst))
    }

    /// Up to where commits have been copied out of the entries.
    #[inline]
    pub fn gathered(&self) -> Seq {
        // ORDER gathered/2 Acquire, pairs with gathered/1: reuse happens after the copy.
        Seq::from_bits(self.header().gathered.word.load(Ordering::Acquire))
    }

    /// Whether the header still describes the region that was mapped.
    pub(crate) fn describes_itself(&self) -> bool {
        let header = self.header();
        header.magic.load(Ordering::Acquire) == MAGIC
            && header.format_version.load(Ordering::Relaxed) == FORMAT_VERSION
            && header.layout_hash.load(Ordering::Relaxed) == layout_hash()
            && header.region_bytes.load(Ordering::Relaxed) == self.map.layout().region_bytes
            && check_counts(header).is_ok()
            && read_geometry(header) == *self.geometry()
    }

    /// Where the C library keeps its mutexes, in bytes of the file. It trusts what stands there, so tests
    /// that damage a region spare them.
    #[doc(hidden)]
    pub fn mutex_places(&self) -> Vec<std::ops::Range<u64>> {
        let seat = |seat: u64| {
            let row = self.map.layout().participants + seat * size_of::<ParticipantRow>() as u64;
            row + offset_of!(ParticipantRow, lock) as u64
        };
        let seats = (0..u64::from(self.geometry().participants)).map(seat);
        let places = seats.chain([offset_of!(Header, reap_lock) as u64]);
        places.map(|at| at..at + size_of::<MutexPlace>() as u64).collect()
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        self.map.header()
    }

    pub(crate) fn hash_seed(&self) -> u64 {
        self.header().hash_seed.load(Ordering::Relaxed)
    }

    pub(crate) fn inode(&self) -> u64 {
        fs::metadata(self.path()).map_or(0, |facts| facts.ino())
    }
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Region").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// A file that disappears again unless it was renamed.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(path: &Path) -> Temporary {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}.new", std::process::id()));
        let temporary = Temporary(path.with_file_name(name));
        // Left by a process of the same pid that was killed right here.
        let _ = fs::remove_file(&temporary.0);
        temporary
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What had to be locked and could not be, and how much may be.
fn unlocked(map: &Map, pages: Pages) -> Option<(u64, u64)> {
    map.missing().iter().find_map(|missing| match *missing {
        Shortfall::Lock { need, limit, .. } if pages.lock == Lock::Require => Some((need, limit)),
        _ => None,
    })
}

fn available_bytes(directory: &Path) -> io::Result<u64> {
    let facts = nix::sys::statvfs::statvfs(directory)?;
    Ok(facts.blocks_available() * facts.fragment_size())
}

/// A random number that is not zero.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u64::from_ne_bytes(bytes) | 1)
}

fn write_header(map: &Map, bytes: u64) -> io::Result<()> {
    let (header, geometry) = (map.header(), map.geometry());
    let relaxed = Ordering::Relaxed;
    header.format_version.store(FORMAT_VERSION, relaxed);
    header.layout_hash.store(layout_hash(), relaxed);
    header.region_bytes.store(bytes, relaxed);
    for (word, value) in header.boot_id.iter().zip(process::boot_id()?) {
        word.store(value, relaxed);
    }
    header.pid_namespace.store(process::pid_namespace()?, relaxed);
    header.hash_seed.store(random()?, relaxed);
    header.slots.store(geometry.slots, relaxed);
    header.participants.store(geometry.participants.into(), relaxed);
    header.tx_entries.store(geometry.tx_entries, relaxed);
    header.max_attempts.store(geometry.max_attempts.into(), relaxed);
    header.inbox_limit.store(geometry.inbox_limit.into(), relaxed);
    header.ingest_percent.store(geometry.shares.ingest_percent.into(), relaxed);
    header.magazine.store(geometry.shares.magazine.into(), relaxed);
    header.class_count.store(geometry.classes.len() as u32, relaxed);
    header.queue_count.store(geometry.queues.len() as u32, relaxed);
    header.port_count.store(geometry.ports.len() as u32, relaxed);
    for (row, class) in header.classes.iter().zip(&geometry.classes) {
        row.payload_bytes.store(class.payload_bytes, relaxed);
        row.count.store(class.count, relaxed);
    }
    for (row, queue) in header.queues.iter().zip(&geometry.queues) {
        store_name(&row.name, &queue.name);
        row.lanes.store(queue.lanes.into(), relaxed);
    }
    for (row, port) in header.ports.iter().zip(&geometry.ports) {
        store_name(&row.name, port);
    }
    header.incarnation.word.store(random()?, relaxed);
    header.role.word.store(RoleEpoch::new(Role::Empty, 0, 1).0, relaxed);
    header.reap_lock.initialise()
}

pub(crate) fn store_name(words: &[AtomicU64; 4], name: &str) {
    let mut bytes = [0; 32];
    let len = name.len().min(31);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    for (word, part) in words.iter().zip(bytes.chunks_exact(8)) {
        let part = part.try_into().expect("chunks of eight bytes");
        word.store(u64::from_le_bytes(part), Ordering::Relaxed);
    }
}

pub(crate) fn load_name(words: &[AtomicU64; 4]) -> String {
    let bytes: Vec<u8> =
        words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
    let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

pub(crate) struct HeaderFacts {
    geometry: Geometry,
}

/// Believes nothing: each claim of the header is compared before the next one is used.
pub(crate) fn read_header(
    path: &Path,
    file: &File,
    actual: u64,
    tolerated: u32,
) -> Result<HeaderFacts, AttachError> {
    let path_buf = || path.to_path_buf();
    if actual < 4096 {
        return Err(AttachError::NotARegion { path: path_buf() });
    }
    let page = HeaderPage::read(file).map_err(|source| AttachError::Os {
        action: "read",
        path: path_buf(),
        source,
    })?;
    let header = page.header();
    let relaxed = Ordering::Relaxed;
    // ORDER magic/2 Acquire, pairs with magic/1.
    match header.magic.load(Ordering::Acquire) {
        MAGIC => {}
        0 if header.format_version.load(relaxed) != 0 => {
            return Err(AttachError::HalfBuilt { path: path_buf() });
        }
        _ => return Err(AttachError::NotARegion { path: path_buf() }),
    }
    let found = header.format_version.load(relaxed);
    if found != FORMAT_VERSION {
        return Err(AttachError::Format { path: path_buf(), found, supported: FORMAT_VERSION });
    }
    let found = header.layout_hash.load(relaxed);
    if found != layout_hash() {
        return Err(AttachError::Build { path: path_buf(), found, ours: layout_hash() });
    }
    let features = header.incompatible.load(relaxed) & !tolerated;
    if features & REBUILDING != 0 {
        return Err(AttachError::HalfRebuilt { path: path_buf() });
    }
    let unknown = features & !REBUILDING;
    if unknown != 0 {
        return Err(AttachError::Features { path: path_buf(), unknown });
    }
    let claimed = header.region_bytes.load(relaxed);
    if claimed != actual {
        return Err(AttachError::Length { path: path_buf(), actual, claimed });
    }
    let boot = process::boot_id().map_err(|source| AttachError::Os {
        action: "read the boot id for",
        path: path_buf(),
        source,
    })?;
    if header.boot_id.iter().map(|word| word.load(relaxed)).ne(boot) {
        return Err(AttachError::OtherBoot { path: path_buf() });
    }
    let geometry = read_geometry(header);
    check_counts(header).map_err(|source| AttachError::Geometry { path: path_buf(), source })?;
    let wanted = geometry
        .region_bytes()
        .map_err(|source| AttachError::Geometry { path: path_buf(), source })?;
    if wanted != actual {
        return Err(AttachError::Length { path: path_buf(), actual, claimed: wanted });
    }
    Ok(HeaderFacts { geometry })
}

/// Refuses what [`read_geometry`] would cut off.
fn check_counts(header: &Header) -> Result<(), GeometryError> {
    let lanes = header.queues.iter().map(|row| ("lanes of a queue", &row.lanes, 8));
    let counts = [
        ("size classes", &header.class_count, Geometry::CLASSES_MAX as u32),
        ("queues", &header.queue_count, Geometry::QUEUES_MAX as u32),
        ("ports", &header.port_count, Geometry::PORTS_MAX as u32),
        ("participants", &header.participants, Geometry::PARTICIPANTS_MAX.into()),
        ("max_attempts", &header.max_attempts, u16::MAX.into()),
        ("inbox_limit", &header.inbox_limit, u16::MAX.into()),
        ("ingest_percent", &header.ingest_percent, 100),
        ("magazine", &header.magazine, Shares::MAGAZINE_MAX.into()),
    ];
    for (what, count, most) in counts.into_iter().chain(lanes) {
        let value = count.load(Ordering::Relaxed);
        if value > most {
            let (value, most) = (value.into(), most.into());
            return Err(GeometryError::Range { what, value, least: 0, most });
        }
    }
    Ok(())
}

fn read_geometry(header: &Header) -> Geometry {
    let relaxed = Ordering::Relaxed;
    let rows =
        |count: &crate::sync::AtomicU32, most: usize| (count.load(relaxed) as usize).min(most);
    let names = |row: &NameRow| load_name(&row.name);
    Geometry {
        slots: header.slots.load(relaxed),
        classes: header.classes[..rows(&header.class_count, Geometry::CLASSES_MAX)]
            .iter()
            .map(|row| SizeClass {
                payload_bytes: row.payload_bytes.load(relaxed),
                count: row.count.load(relaxed),
            })
            .collect(),
        queues: header.queues[..rows(&header.queue_count, Geometry::QUEUES_MAX)]
            .iter()
            .map(|row| QueueSpec { name: names(row), lanes: row.lanes.load(relaxed) as u8 })
            .collect(),
        ports: header.ports[..rows(&header.port_count, Geometry::PORTS_MAX)]
            .iter()
            .map(names)
            .collect(),
        participants: header.participants.load(relaxed) as u16,
        tx_entries: header.tx_entries.load(relaxed),
        max_attempts: header.max_attempts.load(relaxed) as u16,
        inbox_limit: header.inbox_limit.load(relaxed) as u16,
        shares: Shares {
            ingest_percent: header.ingest_percent.load(relaxed) as u8,
            magazine: header.magazine.load(relaxed) as u16,
        },
    }
}

/// A private copy of a file's first page, so that the checks see one state of it.
struct HeaderPage(Box<Aligned>);

#[repr(align(64))]
struct Aligned([AtomicU64; 512]);

impl HeaderPage {
    fn read(file: &File) -> io::Result<Self> {
        use std::os::unix::fs::FileExt;
        let mut bytes = [0; 4096];
        file.read_exact_at(&mut bytes, 0)?;
        let mut words = bytes.chunks_exact(8).map(|chunk| {
            AtomicU64::new(u64::from_ne_bytes(chunk.try_into().expect("chunks of eight bytes")))
        });
        let words = std::array::from_fn(|_| words.next().expect("512 chunks in a page"));
        Ok(Self(Box::new(Aligned(words))))
    }

    fn header(&self) -> &Header {
        crate::map::header_of(&self.0.0)
    }
}

/// Why a region could not be created. Nothing was left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The geometry cannot be.
    #[error("there can be no such region")]
    Geometry(#[source] GeometryError),
    /// Somebody was first.
    #[error("{} exists already", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// All memory is reserved at once, so that a service never finds out later.
    #[error("{} has {have} bytes free, the region needs {need}", .path.display())]
    Space {
        /// The file system.
        path: PathBuf,
        /// Bytes of the region.
        need: u64,
        /// Bytes available.
        have: u64,
    },
    /// Its memory must not be swapped out, and cannot be kept from it.
    #[error("cannot lock the {need} bytes of {} in memory, RLIMIT_MEMLOCK allows {limit}", .path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Bytes of the region.
        need: u64,
        /// Bytes that this process may lock.
        limit: u64,
    },
    /// The system refused.
    #[error("cannot {action} {}", .path.display())]
    Os {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a region could not be attached. Every variant names the path and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// No such file.
    #[error("no region at {}", .path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file, but not one of ours.
    #[error("{} is not a region", .path.display())]
    NotARegion {
        /// The file.
        path: PathBuf,
    },
    /// Its creator died before it was complete.
    #[error("{} was never completed", .path.display())]
    HalfBuilt {
        /// The file.
        path: PathBuf,
    },
    /// Written by a build with another format.
    #[error("{} has format {found}, this build reads {supported}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// The same format, but types of other sizes.
    #[error("{} was written by a build of layout {found:016x}, this build has {ours:016x}", .path.display())]
    Build {
        /// The file.
        path: PathBuf,
        /// Its fingerprint.
        found: u64,
        /// Ours.
        ours: u64,
    },
    /// Uses something this build does not know.
    #[error("{} needs features {unknown:#x} that this build does not know", .path.display())]
    Features {
        /// The file.
        path: PathBuf,
        /// The unknown bits.
        unknown: u32,
    },
    /// Its hints are being rebuilt, or whoever did it was killed half-way.
    #[error("{} is being rebuilt, or its rebuild was interrupted", .path.display())]
    HalfRebuilt {
        /// The file.
        path: PathBuf,
    },
    /// The file was cut or extended after creation.
    #[error("{} is {actual} bytes, its header says {claimed}", .path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes there are.
        actual: u64,
        /// Bytes there should be.
        claimed: u64,
    },
    /// The header describes a region that cannot be.
    #[error("{} describes an impossible region", .path.display())]
    Geometry {
        /// The file.
        path: PathBuf,
        /// What is impossible.
        source: GeometryError,
    },
    /// The machine was restarted since: process ids in it mean nothing now.
    #[error("{} was made before this boot of the machine", .path.display())]
    OtherBoot {
        /// The file.
        path: PathBuf,
    },
    /// Its memory must not be swapped out, and cannot be kept from it.
    #[error("cannot lock the {need} bytes of {} in memory, RLIMIT_MEMLOCK allows {limit}", .path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Bytes of the region.
        need: u64,
        /// Bytes that this process may lock.
        limit: u64,
    },
    /// Process ids of another namespace cannot be told dead or alive.
    #[error("{} belongs to pid namespace {theirs}, this process is in {ours}", .path.display())]
    PidNamespace {
        /// The file.
        path: PathBuf,
        /// Namespace of this process.
        ours: u64,
        /// Namespace of the creator.
        theirs: u64,
    },
    /// The system refused.
    #[error("cannot {action} {}", .path.display())]
    Os {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
