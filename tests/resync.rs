//! A node that returns gets what changed, not everything, and what it had alone is written down before it goes. Under load, with
//! `kill -9`; whatever happens, the outside finds every effect that it was told of.

mod support;

#[path = "resync/site.rs"]
mod site;

use std::fs::File;
use std::io::{BufRead, BufReader};

use serde_json::Value;
use site::{Account, Site};
use support::eventually;

/// On a machine that is busy with other things nobody is taken for lost who is not.
fn patient(_: usize) -> String {
    "heartbeat = { misses = 400 }".to_owned()
}

/// The kind of the transfer of state with this number, as this primary and the other one tell it.
#[track_caller]
fn resync(site: &Site, primary: usize, number: usize) -> (String, String) {
    let name = |side, event| {
        eventually("it is told", || site.told(side, event).len() >= number);
        let told = site.told(side, event)[number - 1].clone();
        told["resync"].as_str().expect("a name").to_owned()
    };
    (name(primary, "transfer_started"), name(1 - primary, "resync"))
}

fn both(name: &str) -> (String, String) {
    (name.to_owned(), name.to_owned())
}

/// Goal: a back-up that dies, its node alone or its whole side, gets what it missed when it returns, while the primary serves;
/// one whose region is gone gets everything. The survivor of the next death has all of it.
#[test]
fn a_back_up_that_returns_gets_what_it_missed() {
    let mut site = Site::paired(20, patient);
    let load = site.load(Account::default());
    load.goes_on_for(200);
    assert_eq!(resync(&site, 0, 1), both("full"), "the first one");
    site.kill_node(1);
    assert_eq!(resync(&site, 0, 2), both("incremental"));
    site.protected_by(0);

    load.goes_on_for(200);
    site.kill(&[1]);
    load.goes_on_for(200);
    site.start(1);
    assert_eq!(resync(&site, 0, 3), both("incremental"));
    site.protected_by(0);
    assert!(site.told(1, "diverged").is_empty(), "it had nothing alone");

    site.kill(&[1]);
    load.goes_on_for(200);
    site.remove_region(1);
    site.start(1);
    assert_eq!(resync(&site, 0, 4), both("full"));
    site.protected_by(0);

    load.goes_on_for(200);
    site.kill(&[0]);
    site.serves(1);
    load.goes_on_for(200);
    let account = load.end();
    println!("{} effects", account.total());
    account.is_right();
}

/// Goal: a primary that dies with commits that nobody else has returns as back-up: both sides' changes are evened out, and what
/// it had alone is in a file that its event names. Nobody outside was told of it.
#[test]
fn a_primary_that_ran_ahead_writes_down_what_goes() {
    let mut site = Site::paired(21, patient);
    let load = site.load(Account::default());
    load.goes_on_for(200);
    site.stop_node(0); // ports and workers go on, and nothing is shipped
    eventually("there are commits that nobody has seen", || {
        let status = site.status(0);
        status["commit_seq"].is_string() && status["commit_seq"] != status["gathered"]
    });
    site.kill(&[0]);
    site.serves(1);
    load.goes_on_for(200);
    site.start(0);
    assert_eq!(resync(&site, 1, 1), both("union"));
    site.protected_by(1);
    eventually("it is told", || !site.told(0, "diverged").is_empty());
    let diverged = site.told(0, "diverged");
    assert_eq!(diverged.len(), 1, "{diverged:?}");
    let slots = diverged[0]["slots"].as_u64().expect("a count");
    let packets = diverged[0]["packets"].as_u64().expect("a count");
    assert!(slots > 0, "{}", diverged[0]);
    let path = diverged[0]["file"].as_str().expect("a path");
    let lines: Vec<Value> = BufReader::new(File::open(path).expect("it is there"))
        .lines()
        .map(|line| serde_json::from_str(&line.expect("text")).expect("JSON"))
        .collect();
    assert_eq!(lines.len() as u64, 1 + slots + packets);
    assert_eq!(lines[0]["node"], "node-a");
    // And all of it is as the outside knows it, on the one that returned as well.
    load.goes_on_for(200);
    site.kill(&[1]);
    site.serves(0);
    load.goes_on_for(200);
    load.end().is_right();
}
