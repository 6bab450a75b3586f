//! What a node does for its region, again and again, in a thread: it releases, fires timers and hands on, and ships to another
//! region what is committed, if there is one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hotpair_shm::{Applier, Gatherer, Kind, Origin, Reaper, Region, Sweeper};

/// See the module. Dropping it is the node's death: what it has not shipped is not shipped.
#[derive(Debug)]
pub struct Node {
    flags: Arc<Flags>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Flags {
    stop: AtomicBool,
    /// Nothing is shipped meanwhile, and nothing released.
    held: AtomicBool,
    turns: AtomicU64,
}

impl Node {
    /// One without a back-up: what is committed is released.
    pub fn alone(region: &Region) -> Node {
        let release = region.clone();
        let mut care = Care::new(region);
        Node::of(move |step| {
            if step == Step::Turn {
                release.raise_released(release.commit_seq());
            }
            care.look(step);
        })
    }

    /// One whose back-up is `to`, which begins empty: what is committed is released when it is there.
    pub fn shipping(from: &Region, to: &Region) -> Node {
        to.begin_change(1);
        to.wipe().expect("randomness");
        to.become_backup(1);
        from.set_gathering(true);
        let mut care = Care::new(from);
        let (from, to) = (from.clone(), to.clone());
        let primary = from.join(Kind::Node, "primary").expect("a seat");
        let mut seat = to.join(Kind::Node, "back-up").expect("a seat");
        let (mut gatherer, mut applier) = (Gatherer::new(from.clone()), Applier::new(&to));
        Node::of(move |step| {
            let _keeps_its_seat = &primary;
            if step == Step::Last {
                // What may not have left is sent again by the other node.
                applier.hand_over(&to);
                return;
            }
            care.look(step);
            gatherer.collect_sent(|seq, ordinal| applier.sent(&to, seq, ordinal));
            if step == Step::Held {
                return;
            }
            let turn = gatherer.gather(usize::MAX, |commit| {
                for change in &commit.changes {
                    applier
                        .apply(&mut seat, commit.seq, Origin::Commit, change)
                        .expect("the same geometry");
                }
                for emit in &commit.emits {
                    let (port, to) = (emit.port, emit.endpoint);
                    applier
                        .emit(&mut seat, commit.seq, emit.ordinal, port, to, emit.payload)
                        .expect("a free block");
                }
            });
            applier.give_back(&mut seat);
            applier.set_applied(&to, turn.upto);
            from.raise_released(turn.upto);
        })
    }

    /// Ships and releases nothing while `held`: what is committed meanwhile is lost with the node.
    pub fn hold(&self, held: bool) {
        self.settle();
        self.flags.held.store(held, Ordering::SeqCst);
        self.settle();
    }

    /// Returns when it has seen everything that happened before the call.
    pub fn settle(&self) {
        let turns = || self.flags.turns.load(Ordering::SeqCst);
        let before = turns();
        super::until("the node's turns", || turns() >= before + 2);
    }

    fn of(mut turn: impl FnMut(Step) + Send + 'static) -> Node {
        let flags = Arc::new(Flags::default());
        let seen = Arc::clone(&flags);
        let thread = std::thread::spawn(move || {
            while !seen.stop.load(Ordering::SeqCst) {
                let held = seen.held.load(Ordering::SeqCst);
                turn(if held { Step::Held } else { Step::Turn });
                seen.turns.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_micros(200));
            }
            turn(Step::Last);
        });
        Node { flags, thread: Some(thread) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Turn,
    Held,
    Last,
}

/// Hands on what the dead held, and makes ready what is due.
struct Care {
    reaper: Reaper,
    sweeper: Sweeper,
    sweep_at: Instant,
}

/// As often as a node does. More often gives hints again that nobody has had the time to take, until the lanes are full of them.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

impl Care {
    fn new(region: &Region) -> Self {
        let (reaper, sweeper) = (Reaper::new(region.clone()), Sweeper::new(region.clone()));
        Self { reaper, sweeper, sweep_at: Instant::now() }
    }

    fn look(&mut self, step: Step) {
        if step == Step::Last {
            return;
        }
        self.reaper.run_once();
        let now = Instant::now();
        if now >= self.sweep_at {
            self.sweeper.run_once();
            self.sweep_at = now + SWEEP_EVERY;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.flags.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            // Its panic has been printed; another one while unwinding would abort.
            assert!(ended.is_ok() || std::thread::panicking(), "the node's part failed");
        }
    }
}
