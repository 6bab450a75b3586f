//! The tables and pictures of `docs/region-layout.md`, made from the types and encoders themselves.
//!
//! The page is compared with them; where it differs the test prints what belongs there. With
//! `HOTPAIR_WRITE_DOCS=1` in its environment it writes the page instead.

use std::fmt::Write as _;
use std::mem::{offset_of, size_of};
use std::path::Path;

use crate::events::{ERRORS_MAX, EVENTS_MAX};
use crate::geometry::Geometry;
use crate::index::chain_word;
use crate::layout::{
    BlockRow, ClassRow, EVENTS_AT, EntryRow, Header, Layout, Line64, MutexPlace, NameRow,
    OperationRow, ParticipantRow, ReclaimLine, ReleasedLine, RingRow, SlotRow,
};
use crate::participant::SeatWord;
use crate::stages::STAGES;
use crate::tx::Target;
use crate::words::{
    BlockState, BlockWord, BucketWord, EntryWord, InboxWord, Role, RoleEpoch, Seq, SlotState,
    SlotWord,
};

/// Offset, bytes and name of a field.
type Field = (usize, usize, &'static str);

struct Type {
    name: &'static str,
    bytes: usize,
    fields: Vec<Field>,
}

fn size_of_field<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! picture {
    ($type:ident: $($field:ident),*) => {
        Type {
            name: stringify!($type),
            bytes: size_of::<$type>(),
            fields: vec![$((
                offset_of!($type, $field),
                size_of_field(|row: &$type| &row.$field),
                stringify!($field),
            )),*],
        }
    };
}

fn types() -> Vec<Type> {
    vec![
        picture!(Header: magic, format_version, incompatible, layout_hash, region_bytes, boot_id,
            pid_namespace, hash_seed, slots, participants, tx_entries, max_attempts, inbox_limit,
            class_count, queue_count, port_count, classes, queues, ports, ingest_percent, magazine,
            incarnation, role, commit_seq, released, gathered, gathering, node_seat, report, reap_lock, node_bell,
            queue_bells, port_bells),
        picture!(ClassRow: payload_bytes, count),
        picture!(NameRow: name, lanes),
        picture!(ReclaimLine: word, readers),
        picture!(ReleasedLine: word, followed, followed_at),
        picture!(ParticipantRow: word, start_time, kind, bell, active, next_position, linking, letter, lock,
            name, claims, counters, hazards),
        picture!(SlotRow: word, last_seq, inbox, attempts, key_hash, index_next, incarnation,
            placing, left_hint, oldest),
        picture!(BlockRow: word, seq, deadline, id, next, len, shape, incarnation, sum, stamp),
        picture!(EntryRow: word, seq, floor, role, operation_count, stamp, operations),
        picture!(OperationRow: target, incarnation, expected, new, placing),
        picture!(RingRow: head, tail),
        picture!(Line64: word),
    ]
}

/// Sixteen bytes a line; what is longer and starts with a line gets one line that says how long it is.
fn picture_of(shown: &Type) -> String {
    const LINE: usize = 16;
    const UNIT: usize = 4;
    const UNIT_COLUMNS: usize = 14;
    let mut text = format!("{}: {} bytes\n", shown.name, shown.bytes);
    let mut at = 0;
    let mut open = false;
    for &(offset, bytes, name) in with_padding(shown).iter() {
        assert_eq!(offset, at, "{}.{name} follows its neighbour", shown.name);
        let mut left = bytes;
        while left > 0 {
            let room = LINE - at % LINE;
            let whole_lines = if at.is_multiple_of(LINE) { left / LINE * LINE } else { 0 };
            let part = if whole_lines > LINE { whole_lines } else { left.min(room) };
            if at.is_multiple_of(LINE) {
                let _ = write!(text, "{at:>6} │");
            }
            let columns = part.min(LINE) / UNIT * UNIT_COLUMNS - 1;
            let label = match (part == bytes, name) {
                (_, "") if part > LINE => format!("zero ({part} bytes)"),
                (true, _) if part > LINE => format!("{name} ({part} bytes)"),
                (true, _) => name.to_owned(),
                (false, "") => String::new(),
                (false, _) => format!("{name} ({part} of {bytes} bytes)"),
            };
            let _ = write!(text, "{label:<columns$}│");
            (at, left) = (at + part, left - part);
            open = !at.is_multiple_of(LINE);
            if !open {
                text.push('\n');
            }
        }
    }
    if open {
        text.push('\n');
    }
    assert_eq!(at, shown.bytes, "{}", shown.name);
    format!("```text\n{text}```\n")
}

/// The fields with what lies between them.
fn with_padding(shown: &Type) -> Vec<Field> {
    let mut all = Vec::new();
    let mut at = 0;
    for &(offset, bytes, name) in &shown.fields {
        if offset > at {
            all.push((at, offset - at, ""));
        }
        all.push((offset, bytes, name));
        at = offset + bytes;
    }
    if shown.bytes > at {
        all.push((at, shown.bytes - at, ""));
    }
    all
}

fn fields_of(shown: &Type) -> String {
    let mut text = String::from("| offset | bytes | field |\n|---|---|---|\n");
    for (offset, bytes, name) in with_padding(shown) {
        let name = if name.is_empty() { "(zero)".to_owned() } else { format!("`{name}`") };
        let _ = writeln!(text, "| {offset} | {bytes} | {name} |");
    }
    text
}

/// The bits that a part of a word occupies: those that the encoder sets, or that change what is decoded.
fn changed_by<D: PartialEq>(decode: impl Fn(u64) -> D) -> u64 {
    (0..64).filter(|&bit| decode(1 << bit) != decode(0)).fold(0, |bits, bit| bits | 1 << bit)
}

fn bits_of(mask: u64) -> String {
    let (high, low) = (63 - mask.leading_zeros(), mask.trailing_zeros());
    assert_eq!(mask.count_ones(), high - low + 1, "a part of a word is in one piece");
    format!("{high}…{low}")
}

fn words() -> String {
    const ALL: u64 = u64::MAX;
    let slot =
        |owner, block, generation| SlotWord::new(SlotState::Free, owner, block, generation).0;
    let block =
        |owner, home, generation| BlockWord::new(BlockState::Free, owner, home, generation).0;
    let inbox = |incarnation, closed, depth| InboxWord::new(incarnation, closed, depth, None).0;
    let rows: Vec<(&str, &str, u64)> = vec![
        ("slot", "state", changed_by(|bits| SlotWord(bits).state())),
        ("slot", "owner", slot(u8::MAX, None, 0)),
        ("slot", "committed block + 1", changed_by(|bits| SlotWord(bits).block())),
        ("slot", "generation", slot(0, None, ALL)),
        ("block", "state", changed_by(|bits| BlockWord(bits).state())),
        ("block", "owner", block(u8::MAX, 0, 0)),
        ("block", "home: slot or port", block(0, u32::MAX, 0)),
        ("block", "generation", block(0, 0, ALL)),
        ("inbox", "incarnation, low bits", inbox(u32::MAX, false, 0)),
        ("inbox", "closed", inbox(0, true, 0)),
        ("inbox", "depth", inbox(0, false, u32::MAX)),
        ("inbox", "newest message + 1", changed_by(|bits| InboxWord(bits).newest())),
        ("bucket", "first slot + 1", changed_by(|bits| BucketWord(bits).first())),
        ("bucket", "owner", BucketWord::new(None, u8::MAX, 0).0),
        ("bucket", "generation", BucketWord::new(None, 0, ALL).0),
        ("entry", "position", changed_by(|bits| EntryWord(bits).position())),
        ("entry", "state", changed_by(|bits| EntryWord(bits).state())),
        ("seat", "state", changed_by(|bits| SeatWord(bits).state())),
        ("seat", "generation", changed_by(|bits| SeatWord(bits).generation())),
        ("seat", "process", changed_by(|bits| SeatWord(bits).pid())),
        ("role", "role", changed_by(|bits| RoleEpoch(bits).role())),
        ("role", "epoch", changed_by(|bits| RoleEpoch(bits).epoch())),
        ("role", "changes", RoleEpoch::new(Role::Empty, 0, ALL).0),
        ("seq", "epoch", changed_by(|bits| Seq::from_bits(bits).epoch())),
        ("seq", "count", changed_by(|bits| Seq::from_bits(bits).count())),
        ("chain", "generation", chain_word(u64::MAX - (1 << 32), None)),
        ("chain", "next slot + 1", changed_by(crate::index::next_of)),
        ("target", "kind", Target::Next(0).to_bits().into()),
        ("target", "index", u64::from(Target::Slot((1 << 30) - 1).to_bits())),
    ];

    let mut text = String::from("| word | bits | part |\n|---|---|---|\n");
    let mut before = ("", 0);
    for (word, part, mask) in rows {
        assert!(before.0 != word || before.1 & mask == 0, "{word}: {part} overlaps another part");
        before = (word, if before.0 == word { before.1 | mask } else { mask });
        let _ = writeln!(text, "| {word} | {} | {part} |", bits_of(mask));
    }
    text
}

/// The numbers of the states.
fn states() -> String {
    let mut text = String::from("| word | states |\n|---|---|\n");
    let mut row = |word: &str, name: &dyn Fn(u64) -> Option<String>| {
        let named = (0..64).filter_map(|n| name(n).map(|name| format!("{n} {name}")));
        let _ = writeln!(text, "| {word} | {} |", named.collect::<Vec<_>>().join(", "));
    };
    // The upper four bits of a word.
    let top = |n: u64| (n < 16).then_some(n << 60);
    row("slot", &|n| SlotWord(top(n)?).state().map(|state| format!("{state:?}")));
    row("block", &|n| BlockWord(top(n)?).state().map(|state| format!("{state:?}")));
    row("entry", &|n| EntryWord(n).state().map(|state| format!("{state:?}")));
    row("seat", &|n| SeatWord(top(n)?).state().map(|state| format!("{state:?}")));
    row("role", &|n| {
        let role = RoleEpoch(n << 56).role();
        (role as u64 == n).then(|| format!("{role:?}"))
    });
    text
}

/// Where the parts of one geometry lie.
fn parts() -> String {
    let geometry = Geometry::for_objects(1000);
    let layout = Layout::of(&geometry);
    let mut rows = vec![
        (0, "header".to_owned()),
        (EVENTS_AT, format!("{EVENTS_MAX} events, {ERRORS_MAX} errors")),
        (layout.participants, format!("{} participants", geometry.participants)),
        (layout.usage, "usage: marks of the slots and of each class".to_owned()),
        (layout.policies, format!("policies of {} queues", geometry.queues.len())),
        (layout.gates, format!("gates of {} ports", geometry.ports.len())),
        (layout.times, format!("{} × 3 histograms", geometry.participants)),
        (layout.stages, format!("{STAGES} histograms of stages")),
        (
            layout.recovery,
            "history of the epochs, and what is known of the staged batch".to_owned(),
        ),
        (layout.stage, format!("the staged batch, {} bytes at most", layout.stage_bytes)),
        (
            layout.sent_ring.offset,
            format!("ring of sent packets, {} cells", layout.sent_ring.capacity),
        ),
        (layout.slot_bitmap, format!("bitmap of {} slots", geometry.slots)),
        (layout.buckets, format!("{} key buckets", layout.bucket_count)),
        (layout.slots, format!("{} slots", geometry.slots)),
        (layout.entries, format!("{} × {} entries", geometry.participants, geometry.tx_entries)),
        (layout.region_bytes, "end".to_owned()),
    ];
    for (queue, lanes) in layout.lanes.iter().enumerate() {
        for (at, lane) in lanes.iter().enumerate() {
            let what = format!("queue {queue}, lane {at}: ring of {} cells", lane.capacity);
            rows.push((lane.offset, what));
        }
    }
    for (port, ring) in layout.port_rings.iter().enumerate() {
        rows.push((ring.offset, format!("port {port}: ring of {} cells", ring.capacity)));
    }
    for class in &layout.classes {
        rows.push((class.bitmap, format!("bitmap of {} blocks", class.count)));
        let what = format!("{} blocks of 64 + {} bytes", class.count, class.payload_bytes);
        rows.push((class.offset, what));
    }
    rows.sort();
    let mut text = String::from("| offset | part |\n|---|---|\n");
    for (offset, what) in rows {
        let _ = writeln!(text, "| {offset} | {what} |");
    }
    text
}

/// What belongs between `<!-- made from the code: NAME -->` and `<!-- end -->`.
fn section(name: &str) -> Option<String> {
    let known = types();
    let of = |name: &str| known.iter().find(|known| known.name == name);
    match name {
        "parts" => Some(parts()),
        "words" => Some(words()),
        "states" => Some(states()),
        _ => match name.strip_suffix(" fields") {
            Some(name) => of(name).map(fields_of),
            None => of(name).map(picture_of),
        },
    }
}

/// Goal: the page says of each type and word what the code says.
#[test]
fn the_page_shows_the_layout() {
    const BEGIN: &str = "<!-- made from the code: ";
    const END: &str = "<!-- end -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/region-layout.md");
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let mut right = String::new();
    let mut wrong = Vec::new();
    let mut pieces = page.split(BEGIN);
    right.push_str(pieces.next().expect("a text has a first piece"));
    for piece in pieces {
        let (name, rest) = piece.split_once(" -->\n").expect("a marker has a name");
        let (shown, after) = rest.split_once(END).expect("a marker has an end");
        let made = section(name).unwrap_or_else(|| panic!("nothing is called {name}"));
        if made != shown {
            wrong.push(format!("{name}:\n{made}"));
        }
        right.push_str(&format!("{BEGIN}{name} -->\n{made}{END}{after}"));
    }
    for shown in types() {
        let marker = format!("{BEGIN}{} -->", shown.name);
        assert!(page.contains(&marker), "no picture of {}", shown.name);
    }
    if std::env::var_os("HOTPAIR_WRITE_DOCS").is_some() {
        std::fs::write(&path, right).expect("the page can be written");
    } else {
        assert!(wrong.is_empty(), "docs/region-layout.md should say\n\n{}", wrong.join("\n"));
    }
}

/// Goal: the lists in this file leave out no field and no type.
#[test]
fn nothing_is_left_out() {
    let source = include_str!("layout.rs");
    for shown in types() {
        let head = format!("struct {} {{\n", shown.name);
        let (_, body) = source.split_once(&head).expect("the type is in layout.rs");
        let (body, _) = body.split_once("\n}\n").expect("a type has an end");
        let fields: Vec<&str> = body
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub(crate) ")?.split_once(':'))
            .map(|(name, _)| name)
            .collect();
        let listed: Vec<&str> = shown.fields.iter().map(|(_, _, name)| *name).collect();
        assert_eq!(fields, listed, "{}", shown.name);
    }
    let shared = source.matches("#[repr(C").count();
    // The mutex place has no fields of ours.
    assert_eq!(shared, types().len() + 1, "a shared type without a picture");
    assert_eq!(size_of::<MutexPlace>(), 64);
}
