//! Claims that wait in their participant's hands while it works on others: for who works on behalf of many.
//!
//! Nothing changes in the region: a suspended claim is a claim, held by the same seat, and is ready again with the seat's
//! confirmed death. The role under which it was begun stays declared in the seat until the last one is let go, so a change
//! of role waits for it as for any other: look at [`Region::role`](crate::Region::role) whenever woken, and give back what
//! is of an older one.

use crate::claim::{Claim, Work};
use crate::held::Held;
use crate::participant::Participant;
use crate::words::RoleEpoch;

/// A claim that is put aside; [`Participant::resume`] makes it usable again.
#[must_use = "the object stays claimed until the claim is resumed, or the participant leaves"]
pub struct SuspendedClaim {
    seat: u8,
    role: RoleEpoch,
    held: Held,
    hint: u8,
    conflict: bool,
    short: bool,
    taken: Vec<u32>,
    work: Work,
}

impl std::fmt::Debug for SuspendedClaim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SuspendedClaim")
            .field("slot", &self.held.slot)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl SuspendedClaim {
    /// The role under which it was claimed: under another it does not commit.
    pub fn role(&self) -> RoleEpoch {
        self.role
    }

    /// Number of the object's slot.
    pub fn slot(&self) -> u32 {
        self.held.slot
    }
}

impl Claim<'_> {
    /// Puts the claim aside, with all that was asked for in it, so that the participant can take another.
    pub fn suspend(mut self) -> SuspendedClaim {
        self.settled = true; // nothing is let go of
        let held = self.held;
        let participant = &mut *self.participant;
        participant.suspended += 1;
        participant.forget_watch();
        SuspendedClaim {
            seat: participant.seat,
            role: self.role,
            held,
            hint: self.hint,
            conflict: self.conflict,
            short: participant.supply.short,
            taken: std::mem::take(&mut participant.taken),
            work: std::mem::take(&mut participant.work),
        }
    }
}

impl Participant {
    /// Takes a suspended claim up again.
    ///
    /// # Panics
    /// If another participant has suspended it.
    pub fn resume(&mut self, claim: SuspendedClaim) -> Claim<'_> {
        let SuspendedClaim { seat, role, held, hint, conflict, short, taken, work } = claim;
        assert_eq!(seat, self.seat, "a claim is resumed by the participant that has suspended it");
        self.suspended -= 1;
        self.supply.short = short;
        self.taken = taken;
        self.work = work;
        Claim::again(self, role, held, hint, conflict)
    }

    /// How many claims are suspended.
    pub fn suspended(&self) -> u32 {
        self.suspended
    }
}
