//! Which of several paths to one node is to be left because nothing comes by it. Owns no clock and no socket.
//!
//! A path is silent when nothing has come by it for some looks in a row, each time while something has come by another path.
//! So a program that stands still accuses no path, and a node that stands still is not left for itself: all its paths are
//! silent then. What comes are at least the acknowledgements of the keep-alives, which such paths have at every look.

use std::time::Duration;

use super::session::PathId;

/// Time between two looks, and between two keep-alives, where a node has several addresses.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(10);
/// So many looks in a row without anything are silence.
const MISSED_MAX: u32 = 3;
/// A new connection has so many for its first keep-alives.
const GRACE: u32 = 10;

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Datagrams that have come by its connection.
    datagrams: u64,
    looks: u32,
    missed: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Silence {
    /// Of each path, whose it is.
    members: Vec<String>,
    paths: Vec<Option<Seen>>,
}

impl Silence {
    pub(super) fn new(members: Vec<String>) -> Self {
        Self { paths: vec![None; members.len()], members }
    }

    /// Whether there is anything to compare: a node with several addresses.
    pub(super) fn is_of_use(&self) -> bool {
        let mut members: Vec<_> = self.members.iter().collect();
        members.sort();
        members.windows(2).any(|two| two[0] == two[1])
    }

    /// Whether the node of a path has other paths.
    pub(super) fn has_sibling(&self, path: PathId) -> bool {
        self.siblings(path).next().is_some()
    }

    fn siblings(&self, path: PathId) -> impl Iterator<Item = PathId> + '_ {
        let of = move |&other: &PathId| other != path && self.members[other] == self.members[path];
        (0..self.members.len()).filter(of)
    }

    /// Looks at the datagrams that have come by each path, of those that have a connection. Gives the paths to be left: each
    /// is silent, and another path to the same node is not.
    pub(super) fn look(&mut self, datagrams: &[Option<u64>]) -> Vec<PathId> {
        let mut came = vec![false; self.paths.len()];
        for (path, now) in datagrams.iter().enumerate() {
            let before =
                self.paths[path].filter(|seen| now.is_some_and(|now| now >= seen.datagrams));
            self.paths[path] = now.map(|now| Seen { datagrams: now, ..before.unwrap_or_default() });
            came[path] = before.is_some_and(|seen| now > &Some(seen.datagrams));
        }
        let any = came.contains(&true);
        for (seen, came) in self.paths.iter_mut().zip(came) {
            let Some(seen) = seen else { continue };
            seen.looks = seen.looks.saturating_add(1);
            if came {
                seen.missed = 0;
            } else if any && seen.looks > GRACE {
                seen.missed += 1;
            }
        }
        let is_silent = |path: PathId| self.paths[path].is_some_and(|s| s.missed >= MISSED_MAX);
        let is_heard =
            |path: PathId| self.paths[path].is_some_and(|s| s.missed == 0 && s.looks > GRACE);
        let paths = 0..self.paths.len();
        paths.filter(|&path| is_silent(path) && self.siblings(path).any(is_heard)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [PathId; 0] = [];

    /// Two addresses of node a and one of node b, all heard.
    fn heard(counts: &mut [u64; 3]) -> Silence {
        let mut silence = Silence::new(["a", "a", "b"].map(str::to_owned).to_vec());
        for _ in 0..2 * GRACE {
            assert_eq!(look(&mut silence, counts, [true; 3]), NONE);
        }
        silence
    }

    fn look(silence: &mut Silence, counts: &mut [u64; 3], came: [bool; 3]) -> Vec<PathId> {
        counts.iter_mut().zip(came).for_each(|(count, came)| *count += u64::from(came));
        silence.look(&counts.map(Some))
    }

    #[test]
    fn a_silent_path_is_left_for_another_of_the_same_node() {
        let mut counts = [0; 3];
        let mut silence = heard(&mut counts);
        for _ in 1..MISSED_MAX {
            assert_eq!(look(&mut silence, &mut counts, [false, true, true]), NONE);
        }
        assert_eq!(look(&mut silence, &mut counts, [false, true, true]), [0]);
        // Its connection is closed, and a new one has its time.
        assert_eq!(silence.look(&[None, Some(1_000), Some(1_000)]), NONE);
        for round in 0..GRACE as u64 {
            assert_eq!(silence.look(&[Some(0), Some(2_000 + round), Some(1_000)]), NONE);
        }
    }

    #[test]
    fn a_node_that_stands_still_is_not_left_for_itself() {
        let mut counts = [0; 3];
        let mut silence = heard(&mut counts);
        for _ in 0..1_000 {
            assert_eq!(look(&mut silence, &mut counts, [false, false, true]), NONE);
        }
        // When it goes on, one path is heard first.
        assert_eq!(look(&mut silence, &mut counts, [true, true, true]), NONE);
        let mut alone = Silence::new(["a", "b"].map(str::to_owned).to_vec());
        assert!(!alone.is_of_use() && !alone.has_sibling(0) && silence.has_sibling(1));
        for count in 0..1_000 {
            assert_eq!(alone.look(&[Some(7), Some(count)]), NONE);
        }
    }

    #[test]
    fn a_program_that_stands_still_accuses_nobody() {
        let mut counts = [0; 3];
        let mut silence = heard(&mut counts);
        for _ in 0..1_000 {
            assert_eq!(look(&mut silence, &mut counts, [false; 3]), NONE);
            // What waited comes by one path first.
            assert_eq!(look(&mut silence, &mut counts, [false, true, true]), NONE);
            assert_eq!(look(&mut silence, &mut counts, [true, true, true]), NONE);
        }
    }
}
