//! Looking at a region that nobody lives in: every command's output, compared whole, and its exit code.

mod support;

use std::path::Path;

use hotpair_shm::{Counter, Geometry, Kind, Note, Region, Source};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use snapbox::{Data, IntoData, assert_data_eq, str};

use support::{Ended, HOTPAIR, RegionName, Running, bound, eventually, family, furnish, hotpair};

fn region(name: &RegionName) -> Region {
    let mut geometry = Geometry::for_objects(100);
    geometry.participants = 4;
    Region::create(&name.path(), &geometry).expect("there is room")
}

/// Runs `line` with the region's name behind it; output is compared with the name replaced, and times left out.
#[track_caller]
fn shows(name: &RegionName, line: &str, code: i32, output: impl IntoData) {
    let ended = run(name, line);
    ended.exits(code);
    let text = ended.stdout.replace(&name.0, "REGION");
    let text = text.replace(&std::process::id().to_string(), "PID");
    assert_data_eq!(text, output.into_data());
}

fn run(name: &RegionName, line: &str) -> Ended {
    hotpair(line.split(' ').chain(["--region", &name.0]))
}

#[test]
fn events_and_errors_outlive_everybody() {
    let name = RegionName::new("look-events");
    for line in ["events", "events -f", "errors"] {
        run(&name, line).exits(3).one_error();
    }
    let region = region(&name);
    shows(&name, "events", 0, Data::new());
    region.note(Source::Node, &Note::new("primary").number("epoch", 3));
    let died = Note::new("died").text("name", "node").number("pid", 77).text("how", "SIGKILL");
    region.note(Source::Supervisor, &died);
    for _ in 0..3 {
        region.note_error(Source::Port, "cannot send: no route");
    }
    drop(region);
    shows(
        &name,
        "events",
        0,
        str![[r#"
[..]Z node PID [..] primary, epoch 3
[..]Z supervisor PID [..] died, how SIGKILL, name node, pid 77
[..]Z port PID [..] error, error cannot send: no route

"#]],
    );
    let last = run(&name, "events -n 2 --json");
    let lines: Vec<serde_json::Value> = last
        .exits(0)
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["v"], &lines[0]["number"]), (&1.into(), &2.into()), "{lines:?}");
    assert_eq!((&lines[0]["event"], &lines[0]["how"]), (&"died".into(), &"SIGKILL".into()));
    assert_eq!(lines[0]["source"], "supervisor");
    shows(
        &name,
        "errors",
        0,
        str![[r#"
      3 times, first [..]Z, last [..]Z, port: cannot send: no route

"#]],
    );
    let errors = run(&name, "errors --json").exits(0).json();
    assert_eq!((&errors["errors"][0]["count"], &errors["others"]), (&3.into(), &0.into()));
}

/// Goal: who follows sees what happens afterwards, and an end when the region goes.
#[test]
fn events_are_followed_until_the_region_is_gone() {
    use std::io::{BufRead, BufReader};
    let name = RegionName::new("look-follow");
    let region = region(&name);
    region.note(Source::Node, &Note::new("before"));
    let mut command = bound();
    command.args(["events", "-f", "-n", "0", "--region", &name.0]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut follower = Running::start(&mut command);
    let mut lines = BufReader::new(follower.0.stdout.take().expect("piped")).lines();
    // It has printed nothing of what was there when it began to look; so it must have looked before the next one.
    let mut number = 0;
    let (heard, news) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in lines.by_ref().map_while(Result::ok) {
            let _ = heard.send(line);
        }
    });
    let mut first = None;
    eventually("it tells of an event", || {
        region.note(Source::Node, &Note::new("after").number("number", number));
        number += 1;
        first = news.try_recv().ok();
        first.is_some()
    });
    let first = first.expect("just seen");
    assert!(first.contains("after, number "), "{first}");
    Region::remove(&name.path()).expect("it is there");
    assert_eq!(follower.wait().code(), Some(3));
    reader.join().expect("it ends with its pipe");
}

/// Goal: every look at a region without a living process: its rows, one of them, and what is not there.
#[test]
fn rows_of_a_region_nobody_lives_in() {
    let name = RegionName::new("look-rows");
    furnish(&region(&name));
    shows(
        &name,
        "queues list",
        0,
        str![[r#"
NAME     OBJECTS  READY  CLAIMED  PARKED  WAITING  OLDEST_MS  LANES
default        3      1        0       1[..]

"#]],
    );
    shows(
        &name,
        "objects list",
        0,
        str![[r#"
SLOT     QUEUE            STATE    ATTEMPTS  WAITING  CHANGED         KEY
[..] default          idle            0        0  [..] done
[..] default          parked          5[..] bad
[..] default          ready           0        1[..] waits

"#]],
    );
    shows(
        &name,
        "objects list --state parked -n 1",
        0,
        str![[r#"
SLOT     QUEUE            STATE    ATTEMPTS  WAITING  CHANGED         KEY
[..] default          parked   [..] bad

"#]],
    );
    shows(
        &name,
        "objects show --queue default done",
        0,
        str![[r#"
attempts                 0
incarnation              [..]
key                      done
key_hex                  0x646f6e65
letter                   false
priority                 0
queue                    default
seq                      [..]
slot                     [..]
state                    idle
timer                    false
value.n                  1
value_hex                0x7b226e223a317d
waiting                  0

"#]],
    );
    run(&name, "objects show --queue default nobody").exits(1).one_error().says("no such object");
    shows(
        &name,
        "workers list",
        0,
        "NAME  PID  ALIVE  CLAIMS  COMMITS  GIVEN_BACK  DEADLINE_MISSED  PARKED\n",
    );
    run(&name, "workers show worker-1").exits(1).one_error().says("it has: none");
    run(&name, "ports show service").exits(1).one_error().says("no such port");
    let queue = run(&name, "queues show default --json").exits(0).json();
    assert_eq!(
        (&queue["v"], &queue["parked"], &queue["waiting"]),
        (&1.into(), &1.into(), &2.into()),
        "{queue}"
    );
    let parked = run(&name, "events --json").exits(0).stdout.clone();
    assert!(
        parked.contains(r#""event":"parked""#) && parked.contains(r#""key":"bad""#),
        "{parked}"
    );
    let errors = run(&name, "errors").exits(0).stdout.clone();
    assert!(errors.contains("an object of queue default was parked"), "{errors}");
}

/// Goal: a monitoring system gets one line and its own exit codes; whoever is alive is looked at as well.
#[test]
fn the_check_says_how_it_stands() {
    use hotpair_shm::NodeReport;
    let name = RegionName::new("look-check");
    shows(
        &name,
        "status --check",
        2,
        "HOTPAIR CRITICAL - region REGION: no region at /dev/shm/hotpair.REGION\n",
    );
    let region = region(&name);
    furnish(&region);
    shows(
        &name,
        "status --check",
        2,
        "HOTPAIR CRITICAL - no node runs; 1 objects of queue default are parked; primary, epoch 1, not protected | objects=3 waiting=2 oldest=[..]s parked=1;0 lag=0c lag_bytes=0B packets=0\n",
    );
    let node = region.join(Kind::Node, "node-a").expect("a seat");
    shows(
        &name,
        "status --check",
        1,
        "HOTPAIR WARNING - the other node is not in step; 1 objects of queue default are parked; primary, epoch 1, not protected | [..]\n",
    );
    let report = NodeReport {
        protected: true,
        connected: true,
        unacked_commits: 7,
        unacked_bytes: 900,
        unacked_since: 1,
        ..NodeReport::default()
    };
    region.set_report(report);
    let drops = Note::new("drops_begun").text("port", "service").text("reason", "rejected");
    region.note(Source::Node, &drops);
    shows(
        &name,
        "status --check",
        1,
        "HOTPAIR WARNING - 1 objects of queue default are parked; port service drops: rejected; primary, epoch 1, protected | [..] lag=7c lag_bytes=900B packets=0\n",
    );
    let status = run(&name, "status");
    assert!(
        status.exits(0).stdout.contains("\n7 commits unacknowledged, 900 bytes, for "),
        "{status:#?}"
    );
    let json = run(&name, "status --json").json();
    assert_eq!((&json["unacked"]["commits"], &json["unacked"]["bytes"]), (&7.into(), &900.into()));
    assert!(json["last_promotion"].is_null(), "nothing was noted: {json}");
    drop(node);
    run(&name, "status").exits(3);

    let calm = RegionName::new("look-calm");
    let quiet = self::region(&calm);
    quiet.become_primary(1);
    let _node = quiet.join(Kind::Node, "node-a").expect("a seat");
    quiet.set_report(report);
    shows(
        &calm,
        "status --check",
        0,
        "HOTPAIR OK - primary, epoch 1, protected | objects=0 [..]\n",
    );
    // A file that is no region says nothing about any service.
    let broken = RegionName::new("look-broken");
    std::fs::write(broken.path(), [b'x'; 8192]).expect("room");
    shows(
        &broken,
        "status --check",
        3,
        "HOTPAIR UNKNOWN - region REGION: [..] is not a region[..]\n",
    );
}

/// Goal: regions that hold the same are equal; an object that one of them has not, or has otherwise, is named, with code 7.
#[test]
fn two_regions_are_compared() {
    let (a, b) = (RegionName::new("look-diff-a"), RegionName::new("look-diff-b"));
    let here = region(&a);
    furnish(&here);
    drop(here);
    std::fs::copy(a.path(), b.path()).expect("room");
    let diff = |name: &RegionName, peer: &str| run(name, &format!("diff --peer {peer}"));
    let same = diff(&a, &b.0);
    assert!(same.exits(0).stdout.starts_with("3 objects, 0 different; here up to "), "{same:#?}");
    let there = Region::attach(&b.path()).expect("it is there");
    let queue = there.queue("default").expect("in the geometry");
    let mut worker = there.join(Kind::Worker, "worker").expect("a seat");
    let mut claim = worker.claim(queue).expect("one waits");
    claim.set_value(b"changed").expect("a block");
    claim.create(queue, Some(b"new"), b"x", false).expect("room");
    claim.commit().expect("nobody is in the way");
    drop((worker, there));
    let seen = diff(&a, &b.path().to_string_lossy());
    let text = &seen.exits(7).stdout;
    assert!(
        text.contains("missing here: default new in slot ")
            && text.contains("here nothing, there 1."),
        "{text}"
    );
    assert!(text.contains("older here: default waits in slot "), "{text}");
    assert!(
        text.contains("\n3 objects, 2 different; ") || text.contains("\n4 objects, 2 different; "),
        "{text}"
    );
    assert!(diff(&b, &a.0).exits(7).stdout.contains("missing there: default new in slot "));
    let other = RegionName::new("look-diff-c");
    drop(Region::create(&other.path(), &Geometry::for_objects(5_000)).expect("room"));
    diff(&a, &other.0).exits(1).one_error().says("they are of no one pair");
}

/// Goal: two looks make rates, and a screen is text where it is wanted as text.
#[test]
fn top_prints_what_it_would_draw() {
    let name = RegionName::new("look-top");
    run(&name, "top --batch -n 1").exits(3).one_error();
    let region = region(&name);
    furnish(&region);
    region.note(Source::Node, &Note::new("detected").text("cause", "tripwire"));
    region.note(Source::Node, &Note::new("primary").number("epoch", 1));
    let port = region.join(Kind::Port, "service").expect("a seat");
    port.add(Counter::Received, 9);
    port.add(Counter::DroppedInbox, 7);
    run(&name, "top").exits(1).one_error().says("stdout is no terminal").says("--batch");
    let top = run(&name, "top --batch -n2 --every 60ms");
    let text = top.exits(0).stdout.replace(&name.0, "REGION");
    let text = text.replace(&std::process::id().to_string(), "PID");
    let screens: Vec<&str> = text.split("region REGION: ").skip(1).collect();
    assert_eq!(screens.len(), 2, "{text}");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let screen: Vec<String> = screens[1].lines().map(words).collect();
    assert_data_eq!(
        screen.join("\n"),
        str![[r#"
primary, epoch 1, no node runs [..]Z
commits 0/s at 1.[..], claims 0/s, view 0
deadlines missed 0/s, 0 in all; no message was taken
nothing unacknowledged, 0 packets wait to leave

last promotion [..]Z, epoch 1, cause tripwire
detected primary
0 ns [..]

QUEUE OBJECTS READY CLAIMED PARKED WAITING OLDEST
default 3 1 0 1 2 [..]

PROCESS PID CLAIM/S COMMIT/S MISSED/S RECVD/S SENT/S DROP/S
port service PID - - - 0 0 0

DROPS IN ALL DROP/S
service: inbox 7 0

[..]Z worker PID parked, attempts 5[..]
[..]Z worker PID error, error an object of queue default was parked
[..]Z node PID detected, cause tripwire
[..]Z node PID primary, epoch 1

"#]]
    );
}

/// Goal: what happens while somebody watches is seen as rates, by process and reason.
#[test]
fn top_shows_rates() {
    use std::io::{BufRead, BufReader};
    let name = RegionName::new("look-rates");
    let region = region(&name);
    region.become_primary(1);
    let (port, worker) = (
        region.join(Kind::Port, "service").expect("a seat"),
        region.join(Kind::Worker, "worker-1").expect("a seat"),
    );
    let mut command = bound();
    command.args(["top", "--batch", "--every", "50ms", "--region", &name.0]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut top = Running::start(&mut command);
    let lines = BufReader::new(top.0.stdout.take().expect("piped")).lines();
    let mut seen = Vec::new();
    for line in lines.map(|line| line.expect("text")) {
        port.add(Counter::Received, 100);
        port.add(Counter::Rejected, 100);
        worker.add(Counter::Claims, 100);
        let words: Vec<&str> = line.split_whitespace().collect();
        let counts = |at: usize| words[at].parse::<f64>().is_ok_and(|rate| rate > 0.0);
        match words[..] {
            ["port", "service", ..] if counts(6) && counts(8) => seen.push("port"),
            ["worker", "worker-1", ..] if counts(3) && words[6..] == ["-"; 3] => {
                seen.push("worker");
            }
            ["service:", "rejected", ..] if counts(2) && counts(3) => seen.push("reason"),
            _ => {}
        }
        if ["port", "worker", "reason"].iter().all(|what| seen.contains(what)) {
            return;
        }
    }
    panic!("it ended after {seen:?}");
}

/// Goal: who watches a region sees that it is gone, and what comes in its place; and does not go on for a terminal that is gone.
#[test]
fn top_follows_a_region_into_its_next_life() {
    let name = RegionName::new("look-next");
    let first = region(&name);
    first.become_primary(7);
    let Some(tmux) =
        Tmux::run((80, 24), &format!("{HOTPAIR} top --every 50ms --region {}", name.0))
    else {
        return;
    };
    tmux.shows("primary, epoch 7, no node runs");
    drop(first);
    Region::remove(&name.path()).expect("it is there");
    tmux.shows("primary, epoch 7, removed");
    let _second = region(&name);
    tmux.shows("empty, epoch 0, no node runs");
    let shell = tmux.says(&["display-message", "-p", "#{pane_pid}"]).expect("it was there").1;
    let processes = family(shell.trim().parse().expect("a process id"));
    drop(tmux);
    eventually("top ends with its terminal", || {
        processes.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    });
}

/// A session of a terminal multiplexer of its own, which ends with it.
struct Tmux {
    socket: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

impl Tmux {
    /// Runs a line of a shell on a terminal of so many columns and lines; none if there is no such program.
    fn run((columns, lines): (u16, u16), line: &str) -> Option<Tmux> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let tmux = Tmux { socket: dir.path().join("tmux"), _dir: dir };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let begun =
            tmux.says(&["new-session", "-d", "-x", &columns, "-y", &lines, "sh", "-c", line]);
        let Some((begun, text)) = begun else {
            assert!(std::env::var_os("CI").is_none(), "tmux is missing");
            eprintln!("skipped: tmux is missing");
            return None;
        };
        assert!(begun, "{text}");
        Some(tmux)
    }

    /// Whether it went well, and its output; none if there is no such program.
    fn says(&self, arguments: &[&str]) -> Option<(bool, String)> {
        let mut command = std::process::Command::new("tmux");
        command.arg("-f").arg("/dev/null").arg("-S").arg(&self.socket).args(arguments);
        match command.output() {
            Ok(output) => {
                let text = [output.stdout, output.stderr].concat();
                Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => panic!("tmux: {error}"),
        }
    }

    fn screen(&self) -> String {
        self.says(&["capture-pane", "-p"]).expect("it was there").1
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        eventually(&format!("the screen shows {text}"), || self.screen().contains(text));
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.says(&["kill-server"]);
    }
}

/// Goal: in a terminal the screen follows the region, and q, Ctrl-C and SIGTERM give the terminal back as it was.
#[test]
fn top_draws_on_a_terminal() {
    let name = RegionName::new("look-tmux");
    let region = region(&name);
    region.become_primary(1);
    let top = format!("{HOTPAIR} top --every 100ms --region {}", name.0);
    let line = format!(
        "before=$(stty -g); for key in q Ctrl-C SIGTERM; do {top}; echo $key ended it with $?; \
         [ \"$before\" = \"$(stty -g)\" ] && echo as before $key; read next; done; cat"
    );
    let Some(tmux) = Tmux::run((90, 24), &line) else { return };
    let modes = "#{alternate_on} #{cursor_flag}";
    let modes = || tmux.says(&["display-message", "-p", modes]).expect("it was there").1;
    tmux.shows("primary, epoch 1, no node runs");
    assert_eq!(modes(), "1 0\n", "the other screen, without a cursor");
    assert!(!tmux.screen().contains("parked, attempts"), "nothing was parked yet");
    furnish(&region);
    eventually("it is drawn anew", || {
        let screen = tmux.screen();
        let queue = screen.lines().find(|line| line.starts_with("default"));
        let queue: Vec<&str> =
            queue.map(|line| line.split_whitespace().collect()).unwrap_or_default();
        queue.get(1) == Some(&"3") && screen.contains("parked, attempts 5")
    });
    let send = |key: &str| drop(tmux.says(&["send-keys", key]).expect("it was there"));
    let terminate = || {
        let shell = tmux.says(&["display-message", "-p", "#{pane_pid}"]).expect("it was there").1;
        let children = format!("/proc/{0}/task/{0}/children", shell.trim());
        let children = std::fs::read_to_string(children).expect("the shell lives");
        let top = children.trim().parse().expect("its only child");
        kill(Pid::from_raw(top), Signal::SIGTERM).expect("it is ours");
    };
    let ends: [(&str, &dyn Fn()); 3] =
        [("q", &|| send("q")), ("Ctrl-C", &|| send("C-c")), ("SIGTERM", &terminate)];
    for (name, end) in ends {
        tmux.shows("q ends");
        end();
        tmux.shows(&format!("{name} ended it with 0"));
        tmux.shows(&format!("as before {name}"));
        assert!(!tmux.screen().contains("QUEUE"), "{}", tmux.screen());
        assert_eq!(modes(), "0 1\n", "its own screen, with a cursor");
        tmux.says(&["send-keys", "Enter"]).expect("it was there");
    }
}
