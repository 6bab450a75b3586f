//! Every command as somebody types it, well used and misused: what it prints and how it ends, in `tests/commands`.
//!
//! A file there is what a terminal would show, with `? CODE` for how a command ended. `REGION` is a region that nobody lives in,
//! `PEER` a copy of it with a worker and a port of this process, `PID`; `NONE` is the name of none; the current directory has a configuration of
//! REGION's node, `a.toml`. `SNAPSHOTS=overwrite` writes what is printed now into the files; what differs from run to run is
//! `[..]` there, and lines of other regions `...`.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hotpair_shm::{Geometry, Kind, Note, Participant, Region, Source};
use snapbox::{Data, assert_data_eq};
use support::{Ended, HOTPAIR, RegionName, furnish, hotpair, loopback, write_config};

/// Commands that are well used elsewhere only, each with a test that fails when it does not do it: they serve until they are stopped,
/// ask somebody who serves, or print what is different on every host.
#[rustfmt::skip]
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("demo", "demo.rs", "the_primary_dies_with_everything_on_its_side"),
    ("node", "planned.rs", "roles_change_back_and_forth_under_load"),
    ("port", "demo.rs", "a_port_and_workers_of_another_host_outlive_the_primary"),
    ("gateway", "clients.rs", "commands_reach_whichever_server_is_left"),
    ("web", "dashboard.rs", "a_dead_region_is_shown_and_its_successor"),
    ("witness", "witness.rs", "a_killed_witness_keeps_what_it_answered"),
    ("hold", "planned.rs", "roles_change_back_and_forth_under_load"),
    ("status", "look.rs", "the_check_says_how_it_stands"),
    ("failover", "planned.rs", "roles_change_back_and_forth_under_load"),
    ("promote", "planned.rs", "without_an_arbiter_a_person_promotes"),
    ("drain", "planned.rs", "a_service_stands_still_and_goes_on"),
    ("pause", "planned.rs", "a_service_stands_still_and_goes_on"),
    ("resume", "planned.rs", "a_service_stands_still_and_goes_on"),
    ("reload", "planned.rs", "a_configuration_is_read_again"),
    ("put", "clients.rs", "commands_reach_whichever_server_is_left"),
    ("send", "clients.rs", "commands_reach_whichever_server_is_left"),
    ("watch", "clients.rs", "commands_reach_whichever_server_is_left"),
    ("journal show", "both_died.rs", "a_journal_brings_back_what_both_regions_held"),
    ("journal replay", "both_died.rs", "a_journal_brings_back_what_both_regions_held"),
    ("snapshot save", "snapshot.rs", "a_snapshot_is_the_whole_state_and_serves_again"),
    ("snapshot load", "snapshot.rs", "a_snapshot_is_the_whole_state_and_serves_again"),
    ("snapshot inspect", "snapshot.rs", "a_snapshot_is_the_whole_state_and_serves_again"),
    ("doctor", "host.rs", "the_doctor_says_what_to_do"),
    ("lab run", "hosts_ssh.rs", "node_killed"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Where the commands of one file run.
struct Scene {
    dir: tempfile::TempDir,
    names: [(&'static str, RegionName); 3],
    _participants: [Participant; 2],
}

impl Scene {
    fn new(purpose: &str) -> Scene {
        let name = |what: &str| RegionName::new(&format!("{purpose}-{what}"));
        let names = [("REGION", name("own")), ("PEER", name("other")), ("NONE", name("none"))];
        let mut geometry = Geometry::for_objects(64);
        geometry.participants = 4;
        let region = Region::create(&names[0].1.path(), &geometry).expect("there is room");
        region.note(Source::Node, &Note::new("primary").number("epoch", 1));
        region.note_error(Source::Port, "cannot send: no route");
        furnish(&region);
        drop(region);
        fs::copy(names[0].1.path(), names[1].1.path()).expect("there is room");
        let peer = Region::attach(&names[1].1.path()).expect("a region like any other");
        let join = |kind, name| peer.join(kind, name).expect("a seat");
        let participants = [join(Kind::Worker, "worker-1"), join(Kind::Port, "service")];
        let dir = tempfile::tempdir().expect("a temporary directory");
        write_config(dir.path(), &names[0].1.0, &loopback(60), "bind = \"127.0.0.1:7430\"");
        Scene { dir, names, _participants: participants }
    }

    fn run(&self, line: &str) -> Ended {
        let words = line.split(' ').skip(1).map(|word| {
            let named = self.names.iter().find(|(what, _)| *what == word);
            named.map_or(word, |(_, name)| name.0.as_str())
        });
        let mut command = Command::new(HOTPAIR);
        command.args(words).current_dir(self.dir.path()).stdin(Stdio::null());
        Ended::of(command.output().expect("the program was built"))
    }

    /// What a terminal shows of the commands of `script`.
    fn shows(&self, script: &str) -> String {
        let (mut shown, mut is_output) = (String::new(), false);
        for line in script.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                let ended = self.run(command);
                let code = ended.code.expect("no command is killed");
                shown += &format!("{line}\n{}{}? {code}\n", ended.stdout, ended.stderr);
                is_output = true;
            } else if !is_output {
                shown += &format!("{line}\n");
            } else if line.starts_with("? ") {
                is_output = false;
            }
        }
        let shown = shown.replace(&self.dir.path().display().to_string(), "DIR");
        let names = self.names.iter();
        let shown = names.fold(shown, |shown, (what, name)| shown.replace(&name.0, what));
        // A word of its own: digits of anything else are not this process.
        let pid = std::process::id().to_string();
        let words = shown.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
        words
            .map(|word| match word.strip_prefix(&pid) {
                Some(rest) if rest.len() <= 1 => format!("PID{rest}"),
                _ => word.to_owned(),
            })
            .collect()
    }
}

#[track_caller]
fn is_as_written(file: &str) {
    let path = folder().join("commands").join(file);
    let script = fs::read_to_string(&path).expect("it is there");
    let shown = Scene::new(file.trim_end_matches(".console")).shows(&script);
    assert_data_eq!(shown, Data::read_from(&path, None));
}

macro_rules! scripts {
    ($($name:ident),*) => {
        const SCRIPTS: &[&str] = &[$(concat!(stringify!($name), ".console")),*];
        $(#[test]
        fn $name() {
            is_as_written(concat!(stringify!($name), ".console"));
        })*
    };
}

scripts!(ask, configuration, copies, hosts, look, measure, members, regions, remote, serve);

/// The commands that people see, below `at`: those without further ones.
fn commands(at: &[String], found: &mut Vec<String>) {
    let help = hotpair(at.iter().map(String::as_str).chain(["--help"]));
    let lines = help.exits(0).stdout.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names: Vec<&str> = lines
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    if names.is_empty() {
        found.push(at.join(" "));
    }
    for name in names {
        commands(&[at, &[name.to_owned()]].concat(), found);
    }
}

/// Goal: no command is without a test of what it prints and how it ends, well used and misused.
#[test]
fn every_command_is_tried_well_used_and_misused() {
    let mut all = Vec::new();
    commands(&[], &mut all);
    assert!(all.len() > 45, "{all:?}");
    let mut codes: BTreeMap<&str, Vec<i32>> =
        all.iter().map(|name| (name.as_str(), Vec::new())).collect();
    for script in SCRIPTS {
        let script = fs::read_to_string(folder().join("commands").join(script)).expect("there");
        let mut typed = None;
        for line in script.lines() {
            if let Some(command) = line.strip_prefix("$ hotpair ") {
                let names = codes
                    .keys()
                    .filter(|name| command == **name || command.starts_with(&format!("{name} ")));
                typed = names.max_by_key(|name| name.len()).copied();
            } else if let (Some(code), Some(name)) = (line.strip_prefix("? "), typed) {
                codes.entry(name).or_default().push(code.parse().expect("a number"));
            }
        }
    }
    for (name, file, test) in ELSEWHERE.iter().copied() {
        let text = fs::read_to_string(folder().join(file)).expect(file);
        let test = format!("#[test]\nfn {test}() {{");
        assert!(text.contains(&test), "{name} has no test {test:?} in tests/{file}");
        codes.get_mut(name).unwrap_or_else(|| panic!("there is no command {name}")).push(0);
    }
    let lacks = |what: &str, is: fn(i32) -> bool| {
        let lacking = codes.iter().filter(|(_, codes)| !codes.iter().any(|code| is(*code)));
        let lacking: Vec<_> = lacking.map(|(name, _)| *name).collect();
        assert!(lacking.is_empty(), "{what} by no test: {lacking:#?}");
    };
    lacks("misused", |code| code != 0);
    lacks("well used", |code| code == 0);
}

/// Goal: whoever types what the manual page shows sees what is written down here.
#[test]
fn the_examples_of_the_manual_are_tried() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    hotpair(["generate", "man", &dir.path().to_string_lossy()]).exits(0);
    let page = fs::read_to_string(dir.path().join("hotpair.1")).expect("it was made");
    let (_, examples) = page.split_once(".SH EXAMPLES").expect("it has some");
    let examples = examples.replace("\\-", "-");
    let examples = examples.lines().filter_map(|line| line.strip_prefix("\\fB"));
    let examples: Vec<_> = examples.filter_map(|line| line.strip_suffix("\\fR")).collect();
    assert!(examples.len() >= 7, "{examples:?}");
    let scripts = SCRIPTS.iter().map(|script| folder().join("commands").join(script));
    let scripts: String = scripts.filter_map(|path| fs::read_to_string(path).ok()).collect();
    for example in examples {
        assert!(scripts.contains(&format!("$ {example}\n")), "not in tests/commands: {example}");
    }
}

/// Every file is one of the scripts.
#[test]
fn every_script_is_run() {
    let files = fs::read_dir(folder().join("commands")).expect("it is there").flatten();
    let mut files: Vec<_> = files.filter_map(|file| file.file_name().into_string().ok()).collect();
    files.sort();
    assert_eq!(files, SCRIPTS);
}
