//! Both sides of a pair are killed at once. What was in step starts again alone, what was not does not; where both regions are
//! gone, a journal has what the back-up wrote, and a person says whether that is to serve.

mod support;

#[path = "resync/site.rs"]
mod site;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use serde_json::Value;
use site::{Account, Site, text};
use support::{Ended, eventually, hotpair};

fn plain(_: usize) -> String {
    "heartbeat = { misses = 400 }".to_owned()
}

fn journaling(side: usize) -> String {
    let dir = ["journal-a", "journal-b"][side];
    format!(
        "journal = {{ dir = \"{dir}\", fsync = \"batch\", segment = \"1MiB\" }}\n{}",
        plain(side)
    )
}

fn show(site: &Site, side: usize) -> Ended {
    hotpair(["journal", "show", "--json", &text(&site.path(["journal-a", "journal-b"][side]))])
}

/// Waits until a node's journal has everything that the node has.
#[track_caller]
fn is_written(site: &Site, side: usize) {
    eventually("the journal is written", || {
        let shown = show(site, side);
        let shown: Value = serde_json::from_str(shown.stdout.trim()).unwrap_or_default();
        let upto = shown["replay"]["upto"].as_str().map(str::to_owned);
        upto.is_some() && upto == site.position(side)
    });
}

/// A pair with this much load behind it, everything answered.
fn loaded(site: &Site, answers: u64) -> Account {
    let load = site.load(Account::default());
    load.goes_on_for(answers);
    let account = load.end();
    account.is_right();
    account
}

/// Goal: of two sides that die at once either one starts alone, since both were in step: nothing that was told is lost. The
/// other one joins it.
#[test]
fn who_was_in_step_starts_alone_with_everything() {
    for (purpose, first) in [(22, 1), (23, 0)] {
        let mut site = Site::paired(purpose, plain);
        let load = site.load(Account::default());
        load.goes_on_for(500);
        site.kill(&[0, 1]);
        site.start(first);
        site.serves(first);
        eventually("it says why", || {
            site.told(first, "promoted").iter().any(|told| told["cause"] == "started")
        });
        load.goes_on_for(200);
        site.start(1 - first);
        site.protected_by(first);
        load.goes_on_for(200);
        load.end().is_right();
    }
}

/// Goal: as `systemctl restart` does it: a node whose region is kept goes on with it, alone, with everything. The control: one
/// whose region is not kept has nothing to start from.
#[test]
fn a_kept_region_survives_a_restart_of_its_node() {
    for (purpose, keep) in [(28, true), (29, false)] {
        let mut site = Site::new(purpose, plain);
        site.keep = keep;
        site.start(0);
        site.serves(0);
        let load = site.load(Account::default());
        load.goes_on_for(300);
        let account = load.end();
        account.is_right();
        site.stop(0);
        assert_eq!(site.regions[0].path().exists(), keep);
        site.start(0);
        if keep {
            site.serves(0);
            let load = site.load(account);
            load.goes_on_for(200);
            load.end().is_right();
        } else {
            eventually("it says that it cannot", || {
                !site.told(0, "nothing_to_start_from").is_empty()
            });
        }
    }
}

/// The control: a side that the view leaves out does not start alone, and says what is the matter. The one that it names does.
#[test]
fn who_was_left_out_does_not_start_alone() {
    let mut site = Site::paired(24, plain);
    let load = site.load(Account::default());
    load.goes_on_for(200);
    site.kill(&[1]);
    load.goes_on_for(200); // which only node a has
    site.kill(&[0]);
    site.start(1);
    eventually("node b says that it cannot", || !site.told(1, "nothing_to_start_from").is_empty());
    let told = site.told(1, "nothing_to_start_from")[0].clone();
    assert_eq!((&told["primary"], &told["awaited"]), (&"a".into(), &"a".into()), "{told}");
    assert!(told["held"].is_string(), "{told}");
    assert_ne!(site.status(1)["role"], "primary");
    site.start(0);
    site.protected_by(0);
    load.goes_on_for(200);
    load.end().is_right();
}

/// Goal: with both regions gone nobody starts, and each node says what is lost. A region made from the back-up's journal has every
/// effect that was told, and serves when a person says so; the other node gets its state from there.
#[test]
fn a_journal_brings_back_what_both_regions_held() {
    let mut site = Site::paired(25, journaling);
    let account = loaded(&site, 1_000);
    is_written(&site, 1);
    site.kill(&[0, 1]);
    (0..2).for_each(|side| site.remove_region(side));

    site.start(0);
    site.start(1);
    for side in 0..2 {
        eventually("it says that it cannot", || {
            !site.told(side, "nothing_to_start_from").is_empty()
        });
        let told = site.told(side, "nothing_to_start_from")[0].clone();
        assert!(told["held"].is_null() && told["awaited"].is_null(), "{told}");
        assert!(
            told["next"].as_str().is_some_and(|next| next.contains("journal replay")),
            "{told}"
        );
        eventually("and people read it", || site.errors(side).contains("lost: everything"));
    }
    let in_use = site.ask(1, &["journal", "replay"]);
    in_use.exits(5).one_error().says("there is a region");
    site.kill(&[1]);
    site.remove_region(1);

    let replayed = site.ask(1, &["journal", "replay", "--json"]).exits(0).json();
    assert_eq!(replayed["objects"], 32, "{replayed:#}");
    assert!(
        replayed["left_out"].is_null() && replayed["digest_differs_at"].is_null(),
        "{replayed:#}"
    );
    site.start(1);
    eventually("node b says what it has", || {
        site.told(1, "nothing_to_start_from").iter().any(|told| told["held"] == replayed["upto"])
    });
    assert_ne!(site.status(1)["role"], "primary", "nobody has said that it may serve");
    site.ask(1, &["promote"]).exits(5).one_error();
    site.ask(1, &["promote", "--accept-loss", "--timeout", "20s"]).exits(0);
    site.protected_by(1);
    let load = site.load(account);
    load.goes_on_for(200);
    site.kill(&[1]);
    site.serves(0);
    load.goes_on_for(200);
    load.end().is_right();
}

/// The control: without a journal the same ends with a loss.
#[test]
fn without_a_journal_everything_is_lost() {
    let mut site = Site::paired(26, plain);
    let account = loaded(&site, 200);
    site.kill(&[0, 1]);
    (0..2).for_each(|side| site.remove_region(side));
    site.start(0);
    site.start(1);
    eventually("node b says that it cannot", || !site.told(1, "nothing_to_start_from").is_empty());
    assert!(!site.errors(1).contains("journal"), "there is none");
    site.ask(1, &["promote", "--accept-loss", "--timeout", "20s"]).exits(0);
    site.protected_by(1);
    let load = site.load(account);
    load.goes_on_for(100);
    let account = load.end();
    assert!(account.lost > 0, "{account:?}");
}

/// Goal: a back-up that has taken over goes on with its journal, so what it commits alone comes back too, and so does the epoch that
/// it began. A tail that is cut off is said and costs what was in it; a journal that the new state does not contain is kept.
#[test]
fn a_survivor_alone_journals_and_a_torn_tail_is_cut() {
    let mut site = Site::paired(27, journaling);
    let load = site.load(Account::default());
    load.goes_on_for(300);
    site.kill(&[0]);
    site.serves(1);
    load.goes_on_for(300);
    let account = load.end();
    account.is_right();
    is_written(&site, 1);
    let epoch = site.status(1)["epoch"].clone();
    site.kill(&[1]);
    (0..2).for_each(|side| site.remove_region(side));
    let whole = show(&site, 1).exits(0).json()["replay"]["upto"].clone();
    assert!(whole.as_str().is_some_and(|upto| upto.starts_with(&format!("{epoch}:"))), "{whole}");

    // Into the last frame with a commit; those behind it say only which packets have left.
    let last = last_segment(&site.path("journal-b"));
    let file = OpenOptions::new().write(true).open(&last).expect("ours");
    let mut length = file.metadata().expect("it is there").len();
    let torn = loop {
        length -= 30;
        file.set_len(length).expect("ours");
        let shown = show(&site, 1).exits(0).json();
        let segments = shown["segments"].as_array().expect("there are some").clone();
        let torn = segments.into_iter().find(|segment| segment["torn_bytes"] != 0);
        if let Some(torn) = torn.filter(|_| shown["replay"]["upto"] != whole) {
            break torn;
        }
    };
    let replayed = site.ask(1, &["journal", "replay"]);
    let says = format!("cut: the last {} bytes of segment {}", torn["torn_bytes"], torn["number"]);
    assert!(replayed.exits(0).stdout.contains(&says), "{replayed:#?}");

    site.start(1);
    eventually("node b waits", || !site.told(1, "nothing_to_start_from").is_empty());
    site.ask(1, &["promote", "--accept-loss", "--timeout", "20s"]).exits(0);
    site.serves(1);
    let load = site.load(account);
    load.goes_on_for(100);
    let account = load.end();
    // The last batch had the last changes of some objects: at most one of each.
    assert!(account.lost <= 1 && account.doubled == 0, "{account:?}");
    eventually("its journal goes on", || !site.told(1, "journal_checkpoint").is_empty());
    assert!(site.told(1, "journal_failed").is_empty());
}

fn last_segment(journal: &Path) -> PathBuf {
    let entries = std::fs::read_dir(journal).expect("it is there").flatten();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    paths.sort_unstable();
    paths.pop().expect("a segment")
}
