//! What a participant counts, in its own seat: the figures outlive a crash until the seat is taken again.

/// One figure of a participant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Counter {
    /// Claims taken.
    Claims = 0,
    /// Commits that happened.
    Commits,
    /// Claims given back without a commit.
    GivenBack,
    /// Commits refused because the role had changed.
    Fenced,
    /// Withdrawals refused because a message arrived meanwhile.
    NewMessages,
    /// Commits that had to wait for room in the ring.
    RingHeld,
    /// Packets received from outside.
    Received,
    /// Packets handed to objects.
    Delivered,
    /// Packets dropped: the classifier refused them.
    DroppedMalformed,
    /// Packets dropped: the object was busy for too long, or had no room for too long.
    DroppedInbox,
    /// Packets dropped: no free block to receive them into.
    DroppedMemory,
    /// Packets dropped: larger than the port's blocks.
    DroppedTooLarge,
    /// Packets dropped: the region was not primary any more.
    DroppedRole,
    /// Objects created.
    Created,
    /// Objects withdrawn.
    Withdrawn,
    /// Packets sent.
    Sent,
    /// Packets that the system refused to send.
    SendErrors,
    /// Objects parked after too many failures.
    Parked,
    /// Participants reaped.
    Reaped,
    /// Claims of dead participants made ready again.
    ReapedClaims,
    /// Claims given back because somebody else had another object of the same commit.
    Conflicts,
    /// Letters that could not be delivered yet: the inbox was full, or there was no room.
    LettersHeld,
    /// Claims that dropped a copy whose letter they, or others, had taken before.
    CopiesDropped,
    /// Claims of objects that had waited beyond their queue's deadline.
    DeadlineMissed,
    /// Messages refused because there was no room, by a queue that rejects.
    Rejected,
    /// Messages dropped because there was no room for them.
    DroppedNewest,
    /// Messages dropped because there was no room for a newer one.
    DroppedOldest,
    /// Times that a port stopped reading because there was no room.
    Held,
    /// Claims given back because there was no free block or slot for what they asked.
    OutOfRoom,
    /// Packets committed by a port, so that they are not lost with this server.
    TakenIn,
}

impl Counter {
    /// The name it has in reports.
    pub fn name(self) -> &'static str {
        Counter::ALL.iter().find(|(which, _)| *which == self).map_or("?", |(_, name)| name)
    }

    /// Every counter with the name it has in reports.
    pub const ALL: [(Counter, &'static str); 30] = [
        (Counter::Claims, "claims"),
        (Counter::Commits, "commits"),
        (Counter::GivenBack, "given_back"),
        (Counter::Fenced, "fenced"),
        (Counter::NewMessages, "new_messages"),
        (Counter::RingHeld, "ring_held"),
        (Counter::Received, "received"),
        (Counter::Delivered, "delivered"),
        (Counter::DroppedMalformed, "dropped_malformed"),
        (Counter::DroppedInbox, "dropped_inbox"),
        (Counter::DroppedMemory, "dropped_memory"),
        (Counter::DroppedTooLarge, "dropped_too_large"),
        (Counter::DroppedRole, "dropped_role"),
        (Counter::Created, "created"),
        (Counter::Withdrawn, "withdrawn"),
        (Counter::Sent, "sent"),
        (Counter::SendErrors, "send_errors"),
        (Counter::Parked, "parked"),
        (Counter::Reaped, "reaped"),
        (Counter::ReapedClaims, "reaped_claims"),
        (Counter::Conflicts, "conflicts"),
        (Counter::LettersHeld, "letters_held"),
        (Counter::CopiesDropped, "copies_dropped"),
        (Counter::DeadlineMissed, "deadline_missed"),
        (Counter::Rejected, "rejected"),
        (Counter::DroppedNewest, "dropped_newest"),
        (Counter::DroppedOldest, "dropped_oldest"),
        (Counter::Held, "held"),
        (Counter::OutOfRoom, "out_of_room"),
        (Counter::TakenIn, "taken_in"),
    ];
}
