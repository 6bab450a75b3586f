//! Declarations: a changer of the role sees who holds something, or the holder sees the change. Modelled after
//! `Participant::enter`, `leave` and `Region::holdouts`.

use loom::sync::Arc;

use crate::door::{AtomicU64, Ordering, every_schedule, spawn};
use crate::words::{Role, RoleEpoch};

struct Seat {
    role: AtomicU64,
    active: AtomicU64,
    /// What is held, as long as it is.
    held: AtomicU64,
}

fn quiet_means_quiet(declared: Ordering, left: Ordering) {
    every_schedule(move || {
        let primary = RoleEpoch::new(Role::Primary, 1, 1);
        let seat = Arc::new(Seat {
            role: AtomicU64::new(primary.0),
            active: AtomicU64::new(0),
            held: AtomicU64::new(0),
        });
        let holder = spawn(&seat, move |seat| {
            let role = seat.role.load(Ordering::SeqCst);
            if role != primary.0 {
                return;
            }
            seat.active.store(role, declared); // active/1
            if seat.role.load(Ordering::SeqCst) == role {
                seat.held.store(1, Ordering::Relaxed);
                seat.held.store(2, Ordering::Relaxed);
            }
            seat.active.store(0, left); // active/3
        });
        let changing = primary.next(Role::Changing, 2);
        let swapped =
            seat.role.compare_exchange(primary.0, changing.0, Ordering::SeqCst, Ordering::SeqCst);
        assert!(swapped.is_ok(), "nobody else changes it"); // role/1
        let active = seat.active.load(Ordering::SeqCst); // active/2
        let quiet = active == 0;
        let seen = seat.held.load(Ordering::Relaxed);
        holder.join().expect("it ends");
        let end = seat.held.load(Ordering::Relaxed);
        assert!(!quiet || seen == end, "held under a role that was quiet: {seen}, then {end}");
    });
}

#[test]
fn loom_nobody_holds_what_a_changer_believes_quiet() {
    quiet_means_quiet(Ordering::SeqCst, Ordering::Release);
}

#[test]
#[should_panic(expected = "held under a role that was quiet")]
fn loom_broken_declaration_with_release() {
    quiet_means_quiet(Ordering::Release, Ordering::Release);
}

#[test]
#[should_panic(expected = "held under a role that was quiet")]
fn loom_broken_letting_go_with_relaxed() {
    quiet_means_quiet(Ordering::SeqCst, Ordering::Relaxed);
}
