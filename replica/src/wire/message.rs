//! The messages that are not batches or chunks, and the way from a frame to a message.
#![allow(missing_docs, reason = "rkyv derives public twins of the private bodies")]

use rkyv::rancor::Error as RkyvError;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use super::batch::BatchFrame;
use super::chunk::ChunkFrame;
use super::frame::{self, HEADER_BYTES, Kind, SharedFrame};
use super::hand_over::{HandOver, HandOverBody};
use super::{DATAGRAM_BYTES_MAX, WireError};
use crate::protocol::{NodeId, Seq, View};

/// Epochs whose beginnings a node tells; older ones need a full transfer anyway.
const EPOCH_STARTS_MAX: usize = 32;

/// Slots in one [`Changed`].
pub const CHANGED_MAX: usize = 1 << 16;

/// Where an epoch began: the first thing two histories are compared by.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: u16,
    /// Raw seq of the last commit of older epochs that its primary held.
    pub base: u64,
    /// Incarnation of that primary's region.
    pub leader: u64,
}

/// What a node is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Standing {
    /// It has not found out yet.
    Starting = 1,
    /// It may release output.
    Primary = 2,
    /// A primary ships to it, or did until the connection broke.
    Backup = 3,
    /// It has no part in the view and asks for all state.
    Joining = 4,
}

impl Standing {
    fn from_byte(standing: u8) -> Result<Standing, WireError> {
        Ok(match standing {
            1 => Standing::Starting,
            2 => Standing::Primary,
            3 => Standing::Backup,
            4 => Standing::Joining,
            _ => {
                let found = standing.into();
                return Err(WireError::Value { what: "a standing", found, max: 4 });
            }
        })
    }
}

/// Who a node is and where it stands. First message of each side, and again whenever it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Versions that the sender speaks.
    pub version_min: u16,
    /// Versions that the sender speaks.
    pub version_max: u16,
    /// Number of the pair.
    pub cluster: u64,
    /// The sender.
    pub node: NodeId,
    /// Hash of its geometry.
    pub geometry_hash: u64,
    /// Incarnation of its region.
    pub incarnation: u64,
    /// What it is.
    pub standing: Standing,
    /// The newest view that it knows to be confirmed.
    pub view: Option<View>,
    /// The epoch in which it is primary or back-up.
    pub epoch: u16,
    /// Number of the transfer by which it became back-up; the primary's own count.
    pub transfer: u64,
    /// The last table of that epoch that it received, all before it included.
    pub table_no: u64,
    /// The last commit that its state contains, as far as it knows.
    pub applied: Seq,
    /// Where the epochs of its history began, oldest first.
    pub epoch_starts: Vec<EpochStart>,
    /// How long an ack to it keeps its sender from asking to be promoted; zero if not at all.
    pub lease_ns: u64,
    /// Another number than the receiver's says that their ports have other modes.
    pub modes: u64,
}

/// Two nodes that cannot work together. Sent once, before the connection is closed.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refuse {
    /// A [`Refusal`](crate::protocol::Refusal).
    pub reason: u8,
    /// What the sender of this message met.
    pub theirs: u64,
    /// What it has.
    pub ours: u64,
}

/// The primary begins a transfer of state; batches and chunks follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The confirmed view, in which the receiver is not in sync.
    pub view: View,
    /// Counts the sender's transfers; acks name it, so that those of an earlier one are not taken for this one's.
    pub transfer: u64,
    /// Number of the table before the first batch.
    pub table_no: u64,
    /// Position before the first batch.
    pub prev: Seq,
    /// What both have in common: only what either has changed since is sent. `None`: everything is.
    pub since: Option<Seq>,
}

/// Slots that the back-up has changed since the position that both have in common; the primary sends them,
/// whatever it has there itself. One or several of these answer a [`Start`] with such a position.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The transfer.
    pub transfer: u64,
    /// The slots.
    pub slots: Vec<u32>,
    /// No more follow.
    pub last: bool,
}

/// The last slot is copied.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotEnd {
    /// How many chunks there were.
    pub chunks: u64,
    /// The state is one that the primary had only when all batches up to this raw seq are applied.
    pub through: u64,
}

/// What the back-up has applied. Cumulative.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The epoch that it follows.
    pub epoch: u16,
    /// The transfer that it follows.
    pub transfer: u64,
    /// The last table applied, and all before it.
    pub table_no: u64,
    /// Raw seq of the last commit applied.
    pub applied: u64,
    /// Chunks of the transfer that are applied.
    pub chunks: u64,
    /// Incarnation of the region that holds it.
    pub incarnation: u64,
    /// Whether the transfer has ended and all its chunks are applied.
    pub complete: bool,
    /// Nanoseconds from the arrival of the newest batch to this ack: what the back-up itself needed. Nothing is decided by it.
    pub needed_ns: u64,
}

/// Any message.
#[derive(Debug)]
pub enum Message {
    /// See [`Hello`].
    Hello(Hello),
    /// See [`Refuse`].
    Refuse(Refuse),
    /// See [`Start`].
    Start(Start),
    /// See [`BatchFrame`].
    Batch(BatchFrame),
    /// See [`ChunkFrame`].
    Chunk(ChunkFrame),
    /// See [`SnapshotEnd`].
    SnapshotEnd(SnapshotEnd),
    /// See [`Ack`].
    Ack(Ack),
    /// See [`Changed`].
    Changed(Changed),
    /// See [`HandOver`].
    HandOver(HandOver),
}

#[derive(Archive, Serialize, Deserialize, Debug)]
struct HelloBody {
    version_min: u16,
    version_max: u16,
    cluster: u64,
    node: u8,
    geometry_hash: u64,
    incarnation: u64,
    standing: u8,
    view: Option<[u8; View::BYTES]>,
    epoch: u16,
    transfer: u64,
    table_no: u64,
    applied: u64,
    epoch_starts: Vec<EpochStart>,
    lease_ns: u64,
    modes: u64,
}

#[derive(Archive, Serialize, Deserialize, Debug)]
struct StartBody {
    view: [u8; View::BYTES],
    transfer: u64,
    table_no: u64,
    prev: u64,
    since: Option<u64>,
}

impl Message {
    /// Checks a frame and reads it. The buffer is kept by batches and chunks, not copied.
    pub fn decode(frame: AlignedVec) -> Result<Message, WireError> {
        let kind = frame::check(&frame)?;
        let body = &frame[HEADER_BYTES..];
        Ok(match kind {
            Kind::Hello => Message::Hello(decode_hello(body)?),
            Kind::Refuse => Message::Refuse(from_body(kind, body)?),
            Kind::Start => Message::Start(decode_start(body)?),
            Kind::Batch => Message::Batch(BatchFrame::decode(frame)?),
            Kind::Chunk => Message::Chunk(ChunkFrame::decode(frame)?),
            Kind::SnapshotEnd => Message::SnapshotEnd(from_body(kind, body)?),
            Kind::Ack => Message::Ack(from_body(kind, body)?),
            Kind::Changed => Message::Changed(decode_changed(body)?),
            Kind::HandOver => Message::HandOver(from_body::<HandOverBody>(kind, body)?.check()?),
            // The layer below takes its own: where they come through there is none.
            Kind::Join | Kind::Onward | Kind::Probe => {
                return Err(WireError::Kind { kind: kind as u8 });
            }
        })
    }

    /// The same for a datagram, on which nothing but acks travel.
    pub fn decode_datagram(datagram: &[u8]) -> Result<Ack, WireError> {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            let len = datagram.len();
            return Err(WireError::TooLong { len, max: DATAGRAM_BYTES_MAX });
        }
        let mut aligned = AlignedVec::<16>::with_capacity(datagram.len());
        aligned.extend_from_slice(datagram);
        match Message::decode(aligned)? {
            Message::Ack(ack) => Ok(ack),
            other => Err(WireError::Kind { kind: other.kind() as u8 }),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Message::Hello(_) => Kind::Hello,
            Message::Refuse(_) => Kind::Refuse,
            Message::Start(_) => Kind::Start,
            Message::Batch(_) => Kind::Batch,
            Message::Chunk(_) => Kind::Chunk,
            Message::SnapshotEnd(_) => Kind::SnapshotEnd,
            Message::Ack(_) => Kind::Ack,
            Message::Changed(_) => Kind::Changed,
            Message::HandOver(_) => Kind::HandOver,
        }
    }
}

/// Messages that are built here; batches and chunks are built where their content is gathered.
pub(crate) enum Outgoing<'a> {
    Hello(&'a Hello),
    Refuse(Refuse),
    Start(Start),
    SnapshotEnd(SnapshotEnd),
    Changed(&'a Changed),
    HandOver(HandOver),
}

pub(crate) fn encode(message: Outgoing<'_>) -> SharedFrame {
    match message {
        Outgoing::Hello(hello) => frame_of(Kind::Hello, &hello_body(hello)),
        Outgoing::Refuse(refuse) => frame_of(Kind::Refuse, &refuse),
        Outgoing::Start(start) => {
            let body = StartBody {
                view: start.view.to_bytes(),
                transfer: start.transfer,
                table_no: start.table_no,
                prev: start.prev.raw(),
                since: start.since.map(Seq::raw),
            };
            frame_of(Kind::Start, &body)
        }
        Outgoing::SnapshotEnd(end) => frame_of(Kind::SnapshotEnd, &end),
        Outgoing::Changed(changed) => frame_of(Kind::Changed, changed),
        Outgoing::HandOver(message) => frame_of(Kind::HandOver, &HandOverBody::of(message)),
    }
}

pub(crate) fn encode_datagram(ack: &Ack) -> Vec<u8> {
    frame_of(Kind::Ack, ack).as_ref().to_vec()
}

fn hello_body(hello: &Hello) -> HelloBody {
    let skip = hello.epoch_starts.len().saturating_sub(EPOCH_STARTS_MAX);
    HelloBody {
        version_min: hello.version_min,
        version_max: hello.version_max,
        cluster: hello.cluster,
        node: hello.node.0,
        geometry_hash: hello.geometry_hash,
        incarnation: hello.incarnation,
        standing: hello.standing as u8,
        view: hello.view.map(|view| view.to_bytes()),
        epoch: hello.epoch,
        transfer: hello.transfer,
        table_no: hello.table_no,
        applied: hello.applied.raw(),
        epoch_starts: hello.epoch_starts[skip..].to_vec(),
        lease_ns: hello.lease_ns,
        modes: hello.modes,
    }
}

fn decode_hello(body: &[u8]) -> Result<Hello, WireError> {
    let body: HelloBody = from_body(Kind::Hello, body)?;
    if body.epoch_starts.len() > EPOCH_STARTS_MAX {
        return Err(WireError::Value {
            what: "the number of epochs in a hello",
            found: body.epoch_starts.len() as u64,
            max: EPOCH_STARTS_MAX as u64,
        });
    }
    Ok(Hello {
        version_min: body.version_min,
        version_max: body.version_max,
        cluster: body.cluster,
        node: NodeId(body.node),
        geometry_hash: body.geometry_hash,
        incarnation: body.incarnation,
        standing: Standing::from_byte(body.standing)?,
        view: body.view.as_ref().map(View::from_bytes).transpose()?,
        epoch: body.epoch,
        transfer: body.transfer,
        table_no: body.table_no,
        applied: Seq::from_raw(body.applied),
        epoch_starts: body.epoch_starts,
        lease_ns: body.lease_ns,
        modes: body.modes,
    })
}

fn decode_start(body: &[u8]) -> Result<Start, WireError> {
    let body: StartBody = from_body(Kind::Start, body)?;
    let view = View::from_bytes(&body.view)?;
    Ok(Start {
        view,
        transfer: body.transfer,
        table_no: body.table_no,
        prev: Seq::from_raw(body.prev),
        since: body.since.map(Seq::from_raw),
    })
}

fn decode_changed(body: &[u8]) -> Result<Changed, WireError> {
    let changed: Changed = from_body(Kind::Changed, body)?;
    if changed.slots.len() > CHANGED_MAX {
        let (found, max) = (changed.slots.len() as u64, CHANGED_MAX as u64);
        return Err(WireError::Value { what: "the number of changed slots", found, max });
    }
    Ok(changed)
}

pub(super) fn frame_of<T>(kind: Kind, body: &T) -> SharedFrame
where
    T: for<'a> Serialize<
        rkyv::api::high::HighSerializer<
            AlignedVec,
            rkyv::ser::allocator::ArenaHandle<'a>,
            RkyvError,
        >,
    >,
{
    let buffer = rkyv::api::high::to_bytes_in::<_, RkyvError>(body, frame::begin(256))
        .expect("serialising plain fields into memory cannot fail");
    frame::finish(kind, buffer)
}

pub(super) fn from_body<T>(kind: Kind, body: &[u8]) -> Result<T, WireError>
where
    T: Archive,
    T::Archived: for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, RkyvError>>
        + Deserialize<T, rkyv::api::high::HighDeserializer<RkyvError>>,
{
    rkyv::from_bytes::<T, RkyvError>(body).map_err(|_| WireError::Body { kind: kind as u8 })
}
