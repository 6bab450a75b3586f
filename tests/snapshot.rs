//! The state of a pair, put aside and brought back.

mod support;

#[path = "resync/site.rs"]
mod site;

use site::{Account, Site, text};
use support::{eventually, hotpair};

fn plain(_: usize) -> String {
    String::new()
}

/// Goal: what was saved while the service stood still is all of its state, and serves again where both regions are gone. Nothing
/// is saved of a region that moves, loaded over one that is there, or believed that is damaged.
#[test]
fn a_snapshot_is_the_whole_state_and_serves_again() {
    let mut site = Site::paired(48, plain);
    let load = site.load(Account::default());
    load.goes_on_for(300);
    let account = load.end();
    account.is_right();

    let dir = site.path("aside");
    let aside = text(&dir);
    let moving = site.ask(0, &["snapshot", "save", &aside]);
    moving.exits(5).one_error().says("does not stand still").says("hotpair pause");
    assert!(!dir.exists());
    site.ask(0, &["pause", "--timeout", "20s"]).exits(0);
    let saved = site.ask(0, &["snapshot", "save", &aside, "--json"]).exits(0).json();
    assert_eq!(saved["objects"], 32, "{saved:#}");
    let again = site.ask(0, &["snapshot", "save", &aside]);
    again.exits(5).one_error().says("is not empty");
    site.ask(0, &["resume"]).exits(0);
    let inspected = hotpair(["snapshot", "inspect", &aside, "--json"]).exits(0).json();
    assert_eq!(inspected["replay"]["upto"], saved["upto"], "{inspected:#}");
    site.ask(0, &["snapshot", "load", &aside]).exits(5).one_error().says("there is a region");

    site.kill(&[0, 1]);
    (0..2).for_each(|side| site.remove_region(side));

    // The control: a byte that is another one.
    let damaged = site.path("damaged");
    std::fs::create_dir(&damaged).expect("writable");
    for entry in std::fs::read_dir(&dir).expect("it was saved").flatten() {
        let mut bytes = std::fs::read(entry.path()).expect("ours");
        if let Some(byte) = bytes.len().checked_sub(100).and_then(|at| bytes.get_mut(at)) {
            *byte ^= 1;
        }
        std::fs::write(damaged.join(entry.file_name()), bytes).expect("writable");
    }
    hotpair(["snapshot", "inspect", &text(&damaged)]).exits(7);
    let refused = site.ask(0, &["snapshot", "load", &text(&damaged)]);
    assert_ne!(refused.code, Some(0), "{refused:#?}");

    let loaded = site.ask(0, &["snapshot", "load", &aside, "--json"]).exits(0).json();
    assert_eq!((&loaded["upto"], &loaded["objects"]), (&saved["upto"], &saved["objects"]));
    site.start(0);
    site.start(1);
    eventually("node a waits for a word", || !site.told(0, "nothing_to_start_from").is_empty());
    site.ask(0, &["promote", "--accept-loss", "--timeout", "20s"]).exits(0);
    site.protected_by(0);
    let load = site.load(account);
    load.goes_on_for(200);
    load.end().is_right();
}
