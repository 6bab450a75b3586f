//! Clients of a gateway that mean harm, each with a good certificate and beside a well-behaved worker: they harm themselves.
//!
//! The worker comes from 127.0.0.1, attackers from other addresses of loopback: shares and limits are those of hosts. After
//! each attack everything is as before: no claim in hand, no receipt, no byte on their account, no block lost, and every commit
//! that the worker was told of is in the objects once. How long the worker's commits took, alone and beside the attack, is
//! printed: `--nocapture`.

mod raw;
mod site;

use std::sync::atomic::Ordering;
use std::time::Duration;

use hotpair_worker::Wait;
use hotpair_worker::remote::gateway::Limits;
use raw::{
    ALSO, ATTACH, Attack, Client, GIVE_BACK, Gone, HELLO, READ, RESOLVE, Said, bytes, commit,
    credit, frame,
};
use site::{BIG_BYTES, OBJECTS, Site, tight};

const COMMITS: usize = 200;
const PAUSE: Duration = Duration::from_millis(20);

/// The worker alone, and beside the attack, which has begun when `begun` says so.
fn beside(site: &mut Site, name: &str, attack: &Attack, begun: impl Fn(&Attack) -> bool) {
    site.until("the attack to begin", |_| begun(attack));
    let took = site.work(COMMITS);
    let stats = site.stats();
    let at = |part: usize| took[took.len() * part / 100];
    println!("{name}: p50 {:?}, p99 {:?} beside {stats:?}", at(50), at(99));
}

fn alone(site: &mut Site) {
    let took = site.work(COMMITS);
    println!("alone: p50 {:?}, p99 {:?}", took[COMMITS / 2], took[COMMITS * 99 / 100]);
}

fn connected(attack: &Attack) -> bool {
    attack.seen.connected.load(Ordering::Relaxed) >= 4
}

fn refused(attack: &Attack) -> bool {
    attack.seen.refused.load(Ordering::Relaxed) >= 4
}

/// Goal: who sends a frame byte by byte, or stops in the middle of one, is told so and sent away in time; who has not even
/// said hello as well.
#[test]
fn who_trickles_is_sent_away() {
    async fn script(mut client: Client) {
        let _ = trickle(&mut client).await;
        client.hear_out().await;
    }
    async fn trickle(client: &mut Client) -> Result<(), Gone> {
        client.write(&(1_u32 << 20).to_le_bytes()).await?;
        for _ in 0..20 {
            client.write(&[HELLO]).await?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
    let mut site = Site::new(tight());
    alone(&mut site);
    let mut attack = Attack::begin(&site, 2, 8, PAUSE, script);
    beside(&mut site, "trickling", &attack, refused);
    attack.end();
    let texts = attack.texts();
    assert!(texts.iter().all(|text| text.contains("no end of it within")), "{texts:?}");
    site.expect_clean(0);
}

/// Goal: lengths that lie, kinds that are none, fields that are too long, what comes at the wrong time, lanes that there are
/// not, numbers that go back: each is refused with a text, and counted.
#[test]
fn who_lies_is_refused() {
    async fn script(mut client: Client) {
        let _ = lie(&mut client).await;
        client.hear_out().await;
    }
    async fn lie(client: &mut Client) -> Result<(), Gone> {
        let mut which = [0];
        getrandom::fill(&mut which).expect("random bytes");
        let lane = |lane: u16| frame(RESOLVE, &[&lane.to_le_bytes(), &[1; 8]]);
        let lie = match which[0] % 9 {
            0 => u32::MAX.to_le_bytes().to_vec(),
            1 => 0_u32.to_le_bytes().to_vec(),
            2 => frame(99, &[]),
            3 => frame(HELLO, &[&[1, 0, 1, 0], b"more"]),
            4 => frame(ATTACH, &[&[7; 16], &[255; 4]]),
            5 => frame(HELLO, &[&[9, 0, 12, 0]]),
            6 => commit(0, 1, 1, &[]),
            attached => {
                client.attach("work").await?;
                match attached {
                    7 => lane(9999),
                    _ => [lane(1), lane(1)].concat(),
                }
            }
        };
        client.write(&lie).await
    }
    let mut site = Site::new(tight());
    alone(&mut site);
    let before = site.stats().refused;
    let mut attack = Attack::begin(&site, 2, 8, PAUSE, script);
    beside(&mut site, "lying", &attack, |attack| attack.seen.refused.load(Ordering::Relaxed) >= 40);
    attack.end();
    let told = attack.seen.refused.load(Ordering::Relaxed);
    assert!(site.stats().refused >= before + told, "each is counted");
    let mut texts = attack.texts();
    texts.sort();
    texts.dedup();
    println!("{texts:#?}");
    assert!(texts.len() >= 6, "different lies are told apart: {texts:?}");
    site.expect_clean(0);
}

/// Goal: who asks for much and reads nothing has a bounded part of the memory, is not listened to meanwhile, and is sent away.
#[test]
fn who_does_not_read_has_bounded_memory() {
    async fn script(mut client: Client) {
        let _ = flood(&mut client).await;
    }
    async fn flood(client: &mut Client) -> Result<(), Gone> {
        client.attach("other").await?;
        let big = frame(READ, &[&[0; 4], &[2], &bytes(&0_u32.to_le_bytes())]);
        let many = big.repeat(4000);
        while client.goes_on() {
            client.write(&many).await?;
        }
        Ok(())
    }
    let mut site = Site::new(tight());
    make_big(&mut site);
    alone(&mut site);
    let mut attack = Attack::begin(&site, 2, 8, PAUSE, script);
    beside(&mut site, "reading nothing", &attack, |attack| {
        attack.seen.connected.load(Ordering::Relaxed) >= 16
    });
    attack.end();
    let most = site.stats().bytes_max;
    // Of each connection: what is allowed to wait and one answer; the same once more, which is being written.
    let each = 2 * ((256 << 10) + BIG_BYTES + 100);
    assert!(most <= 8 * each + (1 << 20), "{most} bytes were held, {} would do", 8 * each);
    assert!(most > BIG_BYTES, "or nothing was asked for");
    site.expect_clean(0);
}

/// An object of the largest size.
fn make_big(site: &mut Site) {
    site.send("big", 0);
    let queue = site.region.queue("big").expect("of the geometry");
    let mut worker = site.region.join(hotpair_shm::Kind::Worker, "big").expect("a seat");
    let mut claim = worker.claim(queue).expect("it was sent to");
    claim.set_value(&vec![7; BIG_BYTES]).expect("a block");
    claim.commit().expect("nobody is in the way");
}

/// Goal: floods of small requests, which cost the gateway time, take the time of their host only.
#[test]
fn who_floods_waits_for_others() {
    async fn script(mut client: Client) {
        let _ = client.attach("other").await;
        let ask = frame(READ, &[&[0; 4], &[0], &bytes(&1_u32.to_le_bytes())]);
        let also = frame(ALSO, &[&[0; 4], &[9; 8], &[0], &bytes(&1_u32.to_le_bytes())]);
        let many = [ask, also, credit(3), frame(GIVE_BACK, &[&[9; 8], &[1], &[0; 4]])].concat();
        let (many, mut sent) = (many.repeat(500), Ok(()));
        while sent.is_ok() && client.goes_on() {
            sent = client.write(&many).await;
            // What has come is read, so that it is not the memory that stops this.
            while let Ok(Ok(_)) =
                tokio::time::timeout(Duration::from_micros(50), client.hear()).await
            {}
        }
    }
    let mut site = Site::new(tight());
    alone(&mut site);
    let mut attack = Attack::begin(&site, 2, 8, PAUSE, script);
    beside(&mut site, "flooding", &attack, connected);
    attack.end();
    site.expect_clean(0);
}

/// Goal: who claims and never commits has the objects until their leases end, then one at a time, however often and by however
/// many connections it comes.
#[test]
fn who_hoards_may_have_one_in_the_end() {
    async fn script(mut client: Client) {
        let _ = client.attach("work").await;
        let _ = client.write(&credit(64)).await;
        while client.hear().await.is_ok() && client.goes_on() {
            let _ = client.write(&credit(64)).await;
        }
    }
    // Attempts are counted by leases: here they must not park.
    let mut site = Site::new(Limits { lease: Duration::from_millis(100), ..tight() });
    alone(&mut site);
    let mut attack = Attack::begin(&site, 2, 8, PAUSE, script);
    site.until("leases to pass", |stats| stats.leases > u64::from(OBJECTS));
    beside(&mut site, "hoarding", &attack, |_| true);
    // One of the hoarders', and what the next well-behaved one has: nothing.
    site.until("one in hand", |stats| stats.in_hand <= 1);
    attack.end();
    assert!(attack.seen.jobs.load(Ordering::Relaxed) > u64::from(OBJECTS) / 2);
    site.expect_clean(0);
}

/// Goal: who opens lanes under ever new names makes receipts up to the share of its host, and then is refused; others open
/// theirs.
#[test]
fn who_opens_lanes_for_nothing_uses_up_its_own_receipts() {
    async fn script(mut client: Client) {
        let _ = client.attach("other").await;
        for lane in 0..64_u16 {
            let _ = client.write(&frame(RESOLVE, &[&lane.to_le_bytes(), &[1; 8]])).await;
        }
        for _ in 0..64 {
            if client.hear().await.is_err() {
                break;
            }
        }
    }
    // They are kept for as long as this lasts.
    let mut site = Site::new(Limits { receipts_kept: Duration::from_secs(3), ..tight() });
    alone(&mut site);
    let mut attack = Attack::begin(&site, 2, 8, Duration::ZERO, script);
    beside(&mut site, "opening lanes", &attack, refused);
    let receipts = site.stats().receipts;
    attack.end();
    let texts = attack.texts();
    assert!(texts.iter().any(|text| text.contains("as many receipts as it may have")), "{texts:?}");
    // Of 1024 slots a quarter, of which one host has half.
    assert!((100..=128 + 16).contains(&receipts), "{receipts}");
    site.expect_clean(0);
}

/// Goal: effects that make no sense change nothing and end the connection.
#[test]
fn who_asks_for_nonsense_changes_nothing() {
    async fn script(mut client: Client) {
        let _ = nonsense(&mut client).await;
    }
    async fn nonsense(client: &mut Client) -> Result<(), Gone> {
        client.attach("other").await?;
        client.write(&credit(1)).await?;
        let mut number = 0;
        loop {
            if let Said::Job(job) = client.hear().await? {
                number += 1;
                let value = bytes(b"x");
                let effects: Vec<u8> = match (number + client.jobs_seen()) % 5 {
                    // A value of another object, of which there is none.
                    1 => [&[1, 9][..], &value].concat(),
                    // A packet by a port that there is not.
                    2 => [&[2, 99][..], &[0; 24], &value].concat(),
                    // A message to the receipts, an object there.
                    3 => [&[3, 3][..], &value, &value].concat(),
                    4 => [&[4, 3][..], &value, &value, &[1]].concat(),
                    // A timer far beyond all days, the last of several things.
                    _ => [&[7, 0][..], &[255; 8], &[6, 77]].concat(),
                };
                client.write(&commit(0, number, job, &effects)).await?;
            }
        }
    }
    let mut site = Site::new(tight());
    alone(&mut site);
    // Attempts of it count, as those of a local worker do: it is the attackers' own queue.
    (100..110).for_each(|object| site.send("other", object));
    let mut attack = Attack::begin(&site, 2, 4, PAUSE, script);
    beside(&mut site, "nonsense", &attack, refused);
    attack.end();
    let texts = attack.texts();
    assert!(
        texts.iter().all(|text| text.contains("there is no") || text.contains("ends")),
        "{texts:?}"
    );
    let other = site.region.queue("other").expect("of the geometry");
    let values: usize =
        site.region.objects().filter(|o| o.queue == other).map(|object| object.value.len()).sum();
    assert_eq!(values, 0, "nothing was written");
    let receipts = site.region.queue("hotpair.receipts").expect("of the geometry");
    assert!(site.region.find(receipts, b"x").is_none(), "nothing was made there");
    site.expect_clean(0);
}

/// Goal: a storm of connections is turned away at the door beyond its host's share, and counted; others come in meanwhile.
#[test]
fn who_storms_is_turned_away() {
    async fn script(mut client: Client) {
        let _ = client.write(&frame(HELLO, &[&[1, 0, 1, 0]])).await;
        let _ = client.hear().await;
    }
    async fn stay(client: Client) {
        client.stay().await;
    }
    let mut site = Site::new(Limits { connections_per_host: 8, ..tight() });
    alone(&mut site);
    let mut storm = Attack::begin(&site, 2, 16, Duration::ZERO, script);
    // These only hold on to what they have got.
    let mut crowd = Attack::begin(&site, 3, 16, Duration::ZERO, stay);
    site.until("some to be turned away", |stats| stats.turned_away > 20);
    beside(&mut site, "storming", &storm, connected);
    let stats = site.stats();
    assert!(stats.connections <= 8 + 8 + 1, "{stats:?}");
    storm.end();
    crowd.end();
    site.expect_clean(0);
}

/// Claims as much as it can and commits at once.
async fn greedy(mut client: Client) {
    let _ = commits(&mut client, "work", &[9, 0]).await;
}

async fn commits(client: &mut Client, queue: &str, effects: &[u8]) -> Result<(), Gone> {
    client.attach(queue).await?;
    client.write(&credit(64)).await?;
    let (mut free, mut numbers): (Vec<u16>, _) = ((0..64).collect(), [0_u64; 64]);
    let mut waiting = Vec::new();
    loop {
        match client.hear().await? {
            Said::Job(job) => waiting.push(job),
            Said::Committed { lane } => free.push(lane),
            Said::Other => {}
        }
        let mut out = Vec::new();
        while let (Some(&job), Some(&lane)) = (waiting.last(), free.last()) {
            waiting.pop();
            free.pop();
            numbers[usize::from(lane)] += 1;
            out.extend(commit(lane, numbers[usize::from(lane)], job, effects));
        }
        if !out.is_empty() {
            client.write(&out).await?;
        }
    }
}

/// One greedy connection beside eight greedy connections of `from`: how many objects each side got.
fn shares(from: u8) -> (u64, u64) {
    // Fewer objects than they want: what they get is what they are given.
    let site = Site::new(Limits::default());
    let mut one = Attack::begin(&site, 1, 1, PAUSE, greedy);
    let mut eight = Attack::begin(&site, from, 8, PAUSE, greedy);
    let jobs = |attack: &Attack| attack.seen.jobs.load(Ordering::Relaxed);
    site.until("both to work", |_| jobs(&one) > 500 && jobs(&eight) > 500);
    let before = (jobs(&one), jobs(&eight));
    site.until("many objects", |_| jobs(&one) + jobs(&eight) > before.0 + before.1 + 10_000);
    let got = (jobs(&one) - before.0, jobs(&eight) - before.1);
    one.end();
    eight.end();
    println!("one connection got {}, eight from 127.0.0.{from} got {}", got.0, got.1);
    got
}

/// Goal: eight greedy connections of one host get together what one of another host gets.
#[test]
fn hosts_have_equal_shares_however_many_connections_they_open() {
    let (one, eight) = shares(2);
    let part = one as f64 / (one + eight) as f64;
    assert!((0.4..0.6).contains(&part), "{one} of {}", one + eight);
}

/// Goal: the control. Of one host, each connection gets the same.
#[test]
fn connections_of_one_host_have_equal_shares() {
    let (one, eight) = shares(1);
    let part = one as f64 / (one + eight) as f64;
    assert!((0.05..0.25).contains(&part), "{one} of {}", one + eight);
}

/// Goal: who commits a mebibyte at a time does not hold up who commits little: that one has many commits for each.
#[test]
fn large_values_do_not_hold_up_small_ones() {
    async fn large(mut client: Client) {
        let value = [&[1, 0][..], &bytes(&vec![1; BIG_BYTES]), &[9, 0]].concat();
        let _ = commits(&mut client, "big", &value).await;
    }
    let mut site = Site::new(tight());
    alone(&mut site);
    (0..16).for_each(|object| site.send("big", object));
    let attack = Attack::begin(&site, 2, 4, PAUSE, large);
    let big = || attack.seen.commits.load(Ordering::Relaxed);
    site.until("large commits", |_| big() > 4);
    let before = big();
    beside(&mut site, "large values", &attack, |_| true);
    let meanwhile = big() - before;
    println!("{meanwhile} commits of 1 MiB beside {COMMITS} of 8 B");
    drop(attack);
    assert!(meanwhile < COMMITS as u64, "{meanwhile} large ones");
    site.expect_clean(0);
}

/// Goal: what a worker has not begun is ready for others, as it was, when the worker is gone: nobody waits for anything.
#[test]
fn a_worker_that_leaves_has_given_back_what_it_had() {
    let site = Site::new(Limits::default());
    for _ in 0..20 {
        let mut worker = site.worker();
        let wait = Wait::default().for_at_most(site::PATIENCE);
        drop(worker.claim(wait).expect("certificates that fit").expect("ready objects"));
        drop(worker);
        let work = site.region.queue("work").expect("of the geometry");
        let mut local = site.region.join(hotpair_shm::Kind::Worker, "local").expect("a seat");
        let held: Vec<_> = std::iter::from_fn(|| {
            local.claim(work).map(|claim| (claim.attempts(), claim.suspend()))
        })
        .collect();
        assert_eq!(held.len(), OBJECTS as usize, "all of them are ready at once");
        for (attempts, claim) in held {
            assert_eq!(attempts, 0, "nobody was at it");
            local.resume(claim).give_back();
        }
    }
    site.expect_clean(0);
}

/// Goal: a worker that is refused, for what it asks or for its certificate, tells its caller and asks ever more seldom.
#[test]
fn a_worker_that_is_refused_says_so_and_backs_off() {
    let site = Site::new(tight());
    // What there is not is told by what the gateway has said that there is: it is not asked again.
    for (member, queue, why, asks, pauses) in [
        ("worker", "nowhere", "no queue", 1, Duration::ZERO),
        ("node-b", "work", "certificate", 3, Duration::from_millis(250)),
    ] {
        let before = site.stats().handshakes;
        let mut worker = site.worker_as(member, queue);
        let mut told = 0;
        // Its third refusal: pauses of 0.1 and 0.2 s have passed, and one of 0.4 s begins.
        let begun = std::time::Instant::now();
        while told < 3 {
            match worker.claim(Wait::default().for_at_most(Duration::from_millis(100))) {
                Ok(None) => {}
                Ok(Some(_)) => panic!("{member} works"),
                Err(error) => {
                    let text = format!("{error}: {:?}", std::error::Error::source(&error));
                    assert!(text.contains(why), "{text}");
                    told += 1;
                }
            }
            assert!(begun.elapsed() < site::PATIENCE, "{told} refusals");
        }
        assert!(begun.elapsed() >= pauses, "{:?}", begun.elapsed());
        drop(worker);
        site.until("it to be counted and to leave", |stats| {
            stats.connections == 0 && stats.handshakes >= before + asks
        });
        let handshakes = site.stats().handshakes - before;
        assert!(handshakes <= asks + 1, "{handshakes}");
    }
    site.expect_clean(0);
}
