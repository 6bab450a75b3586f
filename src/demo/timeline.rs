//! What happened when, counted from the kill.

use super::sides::Sign;
use crate::config::Member;

/// Moments of one run, in nanoseconds of the host's monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Timeline {
    /// Just before the first `kill(2)`.
    pub(super) killed_ns: Option<u64>,
    /// The other node found out.
    pub(super) detected_ns: Option<u64>,
    /// The other node may act as primary.
    pub(super) promoted_ns: Option<u64>,
    /// The primary carries on without a back-up.
    pub(super) solo_ns: Option<u64>,
    /// The first answer of the survivor, as the client saw it.
    pub(super) first_output_ns: Option<u64>,
    /// What was killed runs again.
    pub(super) restarted_ns: Option<u64>,
    /// A back-up is in step again.
    pub(super) protected_ns: Option<u64>,
}

/// The failover in parts, in microseconds; they add up to the total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failover {
    /// From the kill to the other node's knowing.
    pub(super) detect_us: u64,
    /// From there to its acting as primary.
    pub(super) promote_us: u64,
    /// From there to its first answer at the client.
    pub(super) first_output_us: u64,
    /// From the kill to that answer.
    pub(super) total_us: u64,
}

impl Timeline {
    /// Notes a sign of `side`; only the first of each kind after the kill counts.
    pub(super) fn note(&mut self, side: Member, killed: Option<Member>, sign: Sign, at_ns: u64) {
        let Some(killed_ns) = self.killed_ns.filter(|killed_ns| at_ns >= *killed_ns) else {
            return;
        };
        debug_assert!(at_ns >= killed_ns);
        let survivor = killed != Some(side);
        let place = match sign {
            Sign::Started if !survivor => &mut self.restarted_ns,
            Sign::Detected if survivor => &mut self.detected_ns,
            Sign::Promoted if survivor => &mut self.promoted_ns,
            Sign::Solo => &mut self.solo_ns,
            Sign::Protected => &mut self.protected_ns,
            _ => return,
        };
        place.get_or_insert(at_ns);
    }

    /// Finds the survivor's first answer among those that came after the kill. One that was emitted
    /// by the dead side's worker counts as well when it left after the promotion: the survivor sent
    /// it, because nobody knew that it had been sent.
    pub(super) fn note_answers(&mut self, answers: &[(u64, u8)], killed: Member) {
        let Some(promoted_ns) = self.promoted_ns else { return };
        let killed = killed.letter().as_bytes()[0];
        let of_survivor = |&&(at_ns, side): &&(u64, u8)| at_ns >= promoted_ns || side != killed;
        self.first_output_ns = answers.iter().find(of_survivor).map(|(at_ns, _)| *at_ns);
    }

    /// The failover, if all of it took place.
    pub(super) fn failover(&self) -> Option<Failover> {
        let (killed, promoted) = (self.killed_ns?, self.promoted_ns?);
        let first_output = self.first_output_ns?;
        // A promotion without a suspicion before it detected and asked in one step.
        let detected = self.detected_ns.unwrap_or(promoted).min(promoted);
        let micros = |from: u64, to: u64| to.saturating_sub(from) / 1_000;
        Some(Failover {
            detect_us: micros(killed, detected),
            promote_us: micros(detected, promoted),
            first_output_us: micros(promoted, first_output),
            total_us: micros(killed, first_output),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn killed_at_100() -> Timeline {
        Timeline { killed_ns: Some(100 * MS), ..Timeline::default() }
    }

    #[test]
    fn the_failover_is_told_by_the_survivor() {
        let mut timeline = killed_at_100();
        let a = Some(Member::A);
        timeline.note(Member::B, a, Sign::Protected, 50 * MS); // before the kill
        timeline.note(Member::A, a, Sign::Detected, 101 * MS); // by the dead one
        timeline.note(Member::B, a, Sign::Detected, 102 * MS);
        timeline.note(Member::B, a, Sign::Detected, 109 * MS); // once more, by heartbeat
        timeline.note(Member::B, a, Sign::Promoted, 105 * MS);
        assert_eq!(timeline.failover(), None, "nothing has left yet");
        // On its way when the kill came; sent again by the survivor; the survivor's own.
        timeline.note_answers(&[(101 * MS, b'a'), (106 * MS, b'a'), (107 * MS, b'b')], Member::A);
        let failover = timeline.failover().expect("complete");
        assert_eq!((failover.detect_us, failover.promote_us), (2_000, 3_000));
        assert_eq!((failover.first_output_us, failover.total_us), (1_000, 6_000));
        assert_eq!(timeline.protected_ns, None);
    }

    #[test]
    fn without_a_promotion_there_is_no_failover() {
        let mut timeline = killed_at_100();
        timeline.note(Member::A, Some(Member::B), Sign::Solo, 103 * MS);
        timeline.note_answers(&[(104 * MS, b'a')], Member::B);
        assert_eq!((timeline.failover(), timeline.solo_ns), (None, Some(103 * MS)));
    }
}
