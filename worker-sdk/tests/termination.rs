//! A worker that is asked to end by a signal. In a file of its own: signals are the whole process's.

use hotpair_worker::Wait;
use hotpair_worker::testing::Pair;
use nix::sys::signal::{Signal, raise};

/// Goal: the object in hand is committed, what waits is left for others, and a worker that sleeps wakes.
#[test]
fn a_signal_stops_workers_after_the_object_in_hand() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut pair = Pair::new(&["work"], &[]);
        pair.deliver("work", b"a", b"go");
        pair.deliver("work", b"b", b"go");
        let (mut busy, mut idle) = (pair.worker("work"), pair.worker("work"));
        busy.stopper().on_termination().expect("a handler");
        idle.stopper().on_termination().expect("a handler");
        let mut served = 0;
        let handler = |job: &mut hotpair_worker::Job<'_>| {
            served += 1;
            raise(signal).expect("a signal");
            job.set_value(b"done")
        };
        busy.run(Wait::default(), handler).expect("stopped");
        assert_eq!(served, 1);
        assert!(idle.claim(Wait::default()).expect("stopped").is_none());
        let mut next = pair.worker("work");
        let job = next.claim(Wait::none()).expect("a region").expect("the one that waited");
        assert_eq!((job.attempts(), job.value()), (0, &b""[..]));
        job.commit().expect("alone");
    }
}
