//! Everything a region can be asked to do: the vocabulary of `tests/model.rs` and of
//! `fuzz/fuzz_targets/region_ops.rs`.

/// One request. Those on a claim mean the innermost one that is open, and nothing if there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// A message to the object with this key, or to one of its own.
    Deliver {
        queue: u8,
        key: Option<u8>,
    },
    /// Opens a claim of a worker that has none.
    Claim {
        worker: u8,
        queue: u8,
    },
    SetValue {
        size: u8,
    },
    Also {
        queue: u8,
        key: u8,
    },
    /// On the further object that was taken last.
    OtherValue {
        size: u8,
    },
    OtherTimer {
        timer: Timer,
    },
    OtherWithdraw,
    Emit,
    Create {
        queue: u8,
        key: Option<u8>,
        ready: bool,
    },
    Set {
        timer: Timer,
    },
    StayReady,
    Priority {
        lane: u8,
    },
    Withdraw,
    Commit,
    GiveBack,
    Fail,
    /// Opens the output gate for all commits so far.
    Release,
    Egress {
        put_back: bool,
    },
    Sweep,
    Reap,
    /// Everybody leaves, and all hints are thrown away and built again. Not while a claim is open.
    Rebuild,
    /// Every process dies as it is, others take their places.
    Crash,
    /// Leaves the role of primary; or returns to it, in the next epoch, if no claim is open.
    Change,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Timer {
    Due,
    Far,
    Cleared,
}

/// Keys that there are: few, so that they meet.
const KEYS: u8 = 6;

impl Op {
    /// Bytes of one request.
    pub(crate) const BYTES: usize = 4;

    /// Every four bytes are a request.
    pub(crate) fn of([kind, a, b, c]: [u8; Self::BYTES]) -> Op {
        let queue = u8::from(a % 4 == 0);
        let key = b % KEYS;
        let maybe_key = (c % 4 != 0).then_some(key);
        let timer = [Timer::Due, Timer::Far, Timer::Cleared][usize::from(a) % 3];
        match kind % 64 {
            0..14 => Op::Deliver { queue, key: maybe_key },
            14..28 => Op::Claim { worker: c % 2, queue },
            28..32 => Op::SetValue { size: a },
            32..35 => Op::Also { queue, key },
            35 => Op::OtherValue { size: a },
            36 => Op::OtherTimer { timer },
            37 => Op::OtherWithdraw,
            38..40 => Op::Emit,
            40..43 => Op::Create { queue, key: maybe_key, ready: a & 1 == 1 },
            43 => Op::Set { timer },
            44 => Op::StayReady,
            45 => Op::Priority { lane: c % 2 },
            46 => Op::Withdraw,
            47..55 => Op::Commit,
            55 => Op::GiveBack,
            56 => Op::Fail,
            57 => Op::Release,
            58..60 => Op::Egress { put_back: a % 4 == 0 },
            60 => Op::Sweep,
            61 => Op::Reap,
            62 => [Op::Rebuild, Op::Crash][usize::from(a & 1)],
            _ => Op::Change,
        }
    }

    /// The requests in a string of bytes.
    pub(crate) fn all_of(bytes: &[u8]) -> Vec<Op> {
        bytes.as_chunks::<{ Self::BYTES }>().0.iter().map(|chunk| Op::of(*chunk)).collect()
    }
}
