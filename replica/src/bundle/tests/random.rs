//! Random schedules: whatever happens to the links, what arrives is in order and arrives once; and when they are whole
//! again, all of it has arrived.

use super::*;

struct Random(u64);

impl Random {
    /// SplitMix64.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// Prints how to run the failed schedule again.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "replay: SEED={} cargo test -p hotpair-replica --lib bundle::tests::random",
                self.0
            );
        }
    }
}

fn seeds() -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (0..400).collect(),
    }
}

fn step(world: &mut World, random: &mut Random) {
    let (end, link) = (random.below(2), random.below(world.nets.len()));
    match random.below(80) {
        0..24 => world.send(end),
        24..48 => {
            world.deliver(end, link);
        }
        48..58 => {
            world.deliver_datagram(end, link);
        }
        58..68 => world.tick(end),
        68..74 => world.connect(link),
        74 => world.notice(end, link),
        75 => world.cut(link, &[end], true),
        76..78 => world.cut(link, &[end], false),
        _ => world.nets[link].to[end].datagrams.clear(),
    }
}

/// Whole again: connections that one end has left come to their end, and new ones are made.
fn heal(world: &mut World) {
    for _ in 0..2 * UNJOINED_TICKS_MAX {
        for link in 0..world.nets.len() {
            world.cut(link, &[A, B], false);
            if world.nets[link].open != [true; 2] {
                world.kill(link);
                world.connect(link);
            }
        }
        world.beat(1);
    }
    world.settle();
}

#[test]
fn frames_arrive_in_order_and_once_whatever_happens_to_the_links() {
    let (mut switched, mut conversations, mut received, mut lost) = (0, 0, 0, 0);
    for seed in seeds() {
        let replay = Replay(seed);
        let mut random = Random(seed);
        let links = 2 + random.below(LINKS_MAX - 1);
        let mut world = World::joined(links);
        for _ in 0..2_000 {
            step(&mut world, &mut random);
        }
        heal(&mut world);
        for end in [A, B] {
            assert!(world.cores[end].conversation.is_some(), "end {end} is alone");
            world.assert_all_received(end);
            assert!((0..links).all(|link| world.bundles[end].is_joined(link)), "end {end}");
            received += world.cores[end].received.len();
            switched += world.cores[end].in_use.len() - 1;
            conversations += world.cores[end].ends.len() + 1;
            lost += world.cores[end].lost.len();
        }
        drop(replay);
    }
    println!(
        "{received} frames in the last of {conversations} conversations, {switched} changes of link, {lost} lost"
    );
    if std::env::var("SEED").is_err() {
        assert!(switched > 1_000 && conversations > 1_000, "the schedules are too kind");
    }
}
