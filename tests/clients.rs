//! Programs that are no workers, at a whole pair: what they are told holds, whichever side is killed.

mod support;

#[path = "resync/site.rs"]
mod site;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hotpair_worker::remote::{RemoteClient, RemoteError, RemoteSpace};
use hotpair_worker::{Error, Wait};
use site::{Site, gateway, text, with_gateway};
use support::{Ended, HOTPAIR, PATIENCE, eventually, hotpair};

const PURPOSE: u8 = 29;
const COMMANDS: u8 = 30;
/// Messages that are sent and not taken.
const AHEAD: u64 = 50;

/// Ends the threads of a test, also one that fails.
struct Stopping<'s>(&'s AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn number(value: &[u8]) -> u64 {
    value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Takes the messages of the queue, and counts those whose commit it was told of.
fn take(space: &RemoteSpace, taken: &Mutex<BTreeMap<u64, u32>>, stop: &AtomicBool) {
    let mut worker = space.worker("counters").expect("a thread");
    while !stop.load(Ordering::Relaxed) {
        let wait = Wait::default().for_at_most(Duration::from_millis(50));
        let Some(mut job) = worker.claim(wait).expect("certificates that fit") else { continue };
        let numbers: Vec<u64> = job.messages().map(|message| number(message.payload())).collect();
        job.withdraw();
        match job.commit() {
            Ok(_) => {
                let mut taken = taken.lock().expect("no panic");
                numbers.into_iter().for_each(|number| *taken.entry(number).or_default() += 1);
            }
            Err(Error::Remote(RemoteError::Stale) | Error::Commit(_)) => {}
            Err(error) => panic!("neither done nor never: {error}"),
        }
    }
}

/// Sees each state of what is put: none comes back, and the last one comes.
fn see(client: &RemoteClient, put: &AtomicU64, stop: &AtomicBool) -> u64 {
    let mut states = client.watch("counters", b"put").expect("a node");
    let (mut last, mut seen) = (0, 0);
    while !stop.load(Ordering::Relaxed) || last < put.load(Ordering::Relaxed) {
        let wait = Wait::default().for_at_most(Duration::from_millis(50));
        let Some(state) = states.next(wait).expect("not refused") else { continue };
        let now = state.value().map_or(0, number);
        assert!(now >= last, "{now} after {last}: it was shown, and was lost");
        (last, seen) = (now, seen + 1);
    }
    assert_eq!(last, put.load(Ordering::Relaxed));
    seen
}

/// Goal: `kill -9` of everything on either side in turn: each put and each message that a client was told of is there, once and
/// in its order; a watch goes on by itself, never shows what is lost later, and ends at the last state.
#[test]
fn clients_carry_on_with_whichever_server_is_left() {
    let mut site = Site::paired(PURPOSE, |side| with_gateway(PURPOSE, side));
    let mut config = site.remote(PURPOSE);
    config.patience = PATIENCE;
    let space = RemoteSpace::new(config);
    let client = space.client().expect("a thread");
    let taken: Mutex<BTreeMap<u64, u32>> = Mutex::default();
    let (told, put) = (AtomicU64::new(0), AtomicU64::new(0));
    let (stop, end) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut primary = 0;
    let seen = std::thread::scope(|scope| {
        let (_ending, stopping) = (Stopping(&end), Stopping(&stop));
        let watching = scope.spawn(|| see(&client, &put, &end));
        let taking = scope.spawn(|| take(&space, &taken, &end));
        let writing = scope.spawn(|| {
            let mut number: u64 = 0;
            while !stop.load(Ordering::Relaxed) {
                // The region has room for so many messages that nobody has taken.
                while number > AHEAD + taken.lock().expect("no panic").len() as u64 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                number += 1;
                let bytes = number.to_le_bytes();
                client.put("counters", b"put", &bytes).expect("a node");
                put.store(number, Ordering::Relaxed);
                client.send("counters", &bytes, &bytes).expect("a node");
                told.store(number, Ordering::Relaxed);
                let got = client.get("counters", b"put").expect("a node");
                assert_eq!(got.value(), Some(&bytes[..]), "one sees what one was told");
            }
        });
        let goes_on = || {
            let until = told.load(Ordering::Relaxed) + 50;
            eventually("the client is told", || told.load(Ordering::Relaxed) >= until);
        };
        goes_on();
        for _ in 0..2 {
            site.kill(&[primary]);
            goes_on();
            site.start(primary);
            primary = 1 - primary;
            site.protected_by(primary);
            site.kill(&[1 - primary]);
            goes_on();
            site.start(1 - primary);
            site.protected_by(primary);
        }
        drop(stopping);
        writing.join().expect("every answer came");
        let all = told.load(Ordering::Relaxed);
        eventually("each message is taken", || taken.lock().expect("no panic").len() as u64 >= all);
        end.store(true, Ordering::Relaxed);
        taking.join().expect("every commit had an answer");
        watching.join().expect("what was shown holds")
    });
    let told = told.into_inner();
    println!("{told} puts and sends, {seen} states seen, {:?}", client.counts());
    let once: BTreeMap<u64, u32> = (1..=told).map(|number| (number, 1)).collect();
    assert_eq!(taken.into_inner().expect("no panic"), once);
}

/// Goal: the commands, as a person uses them, before and after the loss of a side.
#[test]
fn commands_reach_whichever_server_is_left() {
    let mut site = Site::paired(COMMANDS, |side| with_gateway(COMMANDS, side));
    let path = site.path("remote.toml");
    let (a, b) = (gateway(COMMANDS, 0), gateway(COMMANDS, 1));
    fs::write(
        &path,
        format!("pki = {{ dir = \"pki\" }}\nnodes = {{ a = [\"{a}\"], b = [\"{b}\"] }}"),
    )
    .expect("writable");
    let config = text(&path);
    let run = |line: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        words.extend(["--config", &config, "--queue", "counters"]);
        hotpair(words)
    };
    let absent = run("get --remote call-1");
    absent.exits(1).one_error().says("no such object");
    run("put call-1 ringing").exits(0);
    let got = run("get --remote call-1 --json");
    let got = got.exits(0).json();
    assert_eq!((&got["value"], &got["found"]), (&"ringing".into(), &true.into()));
    run("put call-1 --hex 00ff").exits(0);
    assert!(run("get --remote call-1").exits(0).stdout.ends_with(": 0x00ff\n"));
    run("put call-1 --hex 0x0").exits(2).one_error().says("hexadecimal");
    let file = site.path("value");
    fs::write(&file, "from a file").expect("writable");
    run(&format!("put call-1 --file {}", text(&file))).exits(0);
    let mut piped = Command::new(HOTPAIR)
        .args(["send", "call-1", "--config", &config, "--queue", "counters"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built");
    piped.stdin.take().expect("piped").write_all(b"by stdin").expect("it reads");
    Ended::of(piped.wait_with_output().expect("it ends")).exits(0);
    let dumped = hotpair(["dump", "--json", "--queue", "counters", "--region", &site.regions[0].0]);
    let object = dumped.stdout.lines().find(|line| line.contains("from a file"));
    assert!(object.is_some_and(|object| object.contains("\"waiting\":1")), "{dumped:#?}");

    site.kill(&[0]);
    let got = run("get --remote call-1 --json");
    assert_eq!(got.exits(0).json()["value"], "from a file");
    run("put call-1 answered").exits(0);
    let watched = run("watch call-1 --count 1 --json");
    assert_eq!(watched.exits(0).json()["value"], "answered");
    let words = ["get", "--remote", "call-1", "--config", &config, "--queue", "nowhere"];
    hotpair(words).exits(1).one_error().says("no queue \"nowhere\"");

    site.kill(&[1]);
    run("get --remote call-1 --timeout 300ms").exits(6).one_error().says("no node has answered");
    let unknown = run("put call-1 lost --timeout 300ms");
    unknown.exits(6).one_error().says("no node has answered");
}
