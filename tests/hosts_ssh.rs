//! The lab on hosts that it reaches by `ssh`: a stand-in runs each command in a network namespace that the test has made, with a shell
//! between, as `sshd` does.
//!
//! ```text
//!   a ─┐
//!   b ─┤ switch s: 10.96.0.0/24      a ═══ cable: 10.96.1.0/24 ═══ b
//!   w ─┤
//!   c ─┘
//! ```
//! Needs root, network namespaces, iproute2 and nftables; says so and passes without them, except where `CI=true` promises
//! that they are there.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Running, bound, eventually, hotpair, regions_with};

/// Two labs at once would disturb each other's times.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
const ROLES: [(&str, u8); 4] = [("a", 1), ("b", 2), ("w", 3), ("c", 4)];

/// Hosts to be reached, and what the lab needs to reach them; gone when dropped.
struct Hosts {
    tag: String,
    dir: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

fn ip(arguments: &str) -> Result<String, String> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .map_err(|error| format!("cannot run `ip`: {error} (Debian: apt-get install iproute2)"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

impl Hosts {
    /// `None` where there are no namespaces, and that is said.
    fn make() -> Option<Hosts> {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let tag = format!("hs{}", std::process::id() % 1_000_000);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let hosts = Hosts { tag, dir, _alone: alone };
        let nft = Command::new("nft").arg("--version").output();
        let made = match nft {
            Err(error) => Err(format!("cannot run `nft`: {error}")),
            Ok(_) => hosts.join(),
        };
        match made {
            Ok(()) => {
                hosts.write();
                Some(hosts)
            }
            Err(why) => {
                assert!(std::env::var("CI").is_err(), "namespaces and nft are needed: {why}");
                eprintln!("skipped: needs root, network namespaces and nftables: {why}");
                None
            }
        }
    }

    fn join(&self) -> Result<(), String> {
        let tag = &self.tag;
        ip(&format!("netns add {tag}s"))?;
        ip(&format!("-n {tag}s link add name bridge type bridge"))?;
        ip(&format!("-n {tag}s link set bridge up"))?;
        for (role, number) in ROLES {
            ip(&format!("netns add {tag}{role}"))?;
            ip(&format!(
                "link add name {role} netns {tag}s type veth peer name lan0 netns {tag}{role}"
            ))?;
            ip(&format!("-n {tag}s link set dev {role} master bridge up"))?;
            ip(&format!("-n {tag}{role} link set lo up"))?;
            ip(&format!("-n {tag}{role} address add 10.96.0.{number}/24 dev lan0"))?;
            ip(&format!("-n {tag}{role} link set lan0 up"))?;
        }
        ip(&format!("link add name pair0 netns {tag}a type veth peer name pair0 netns {tag}b"))?;
        for (role, number) in &ROLES[..2] {
            ip(&format!("-n {tag}{role} address add 10.96.1.{number}/24 dev pair0"))?;
            ip(&format!("-n {tag}{role} link set pair0 up"))?;
        }
        Ok(())
    }

    /// The list of hosts, and the stand-in: what is left of a lab would lie in `left`.
    fn write(&self) {
        let mut list = "service = \"10.96.0.10/24\"\n".to_owned();
        for (role, number) in ROLES {
            let (tag, address) = (&self.tag, format!("10.96.0.{number}"));
            list.push_str(&format!(
                "[{role}]\nssh = \"{tag}{role}\"\ninterface = \"lan0\"\naddress = \"{address}\"\n"
            ));
            if ["a", "b"].contains(&role) {
                let cable = format!("interface = \"pair0\", address = \"10.96.1.{number}\"");
                list.push_str(&format!("pair = [{{ {cable} }}]\n"));
            }
        }
        std::fs::write(self.list(), list).expect("a writable directory");
        std::fs::create_dir(self.left()).expect("a writable directory");
        // As `ssh [options] host command`: the command is a shell's there.
        let script = format!(
            "#!/bin/sh\ntouch '{asked}'\nwhile [ \"${{1#-}}\" != \"$1\" ]; do [ \"$1\" = -o ] && shift; shift; done\n\
             host=$1; shift\nexport TMPDIR='{left}'\nunset SSH_CONNECTION\nip netns exec \"$host\" sh -c \"$*\"\n",
            asked = self.asked().display(),
            left = self.left().display(),
        );
        std::fs::write(self.ssh(), script).expect("a writable directory");
        let runnable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.ssh(), runnable).expect("our own file");
    }

    fn list(&self) -> PathBuf {
        self.dir.path().join("hosts.toml")
    }

    fn ssh(&self) -> PathBuf {
        self.dir.path().join("ssh")
    }

    /// Where labs keep what is theirs on a host.
    fn left(&self) -> PathBuf {
        self.dir.path().join("left")
    }

    /// There once anybody was to be reached.
    fn asked(&self) -> PathBuf {
        self.dir.path().join("asked")
    }

    fn lab(&self, scenario: &Path) -> Command {
        let mut command = bound();
        command.args(["lab", "run"]).arg(scenario).arg("--hosts").arg(self.list());
        // What a lab that is killed leaves on its own machine goes with this test.
        command.env("TMPDIR", self.dir.path());
        command.arg("--ssh").arg(self.ssh());
        command
    }

    /// What of a lab is still there: files, processes, addresses, packet filters.
    fn remains(&self) -> Vec<String> {
        let names = |dir: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(dir).expect("a directory").flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let mut remains = names(&self.left());
        let left = self.left().to_string_lossy().into_owned();
        for pid in names(Path::new("/proc")) {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            // The stand-in's own words have it as well, but for their end.
            if words.contains(&left) {
                remains.push(format!("{pid}: {words}"));
            }
        }
        for (role, _) in &ROLES[..2] {
            let addresses = ip(&format!("-n {}{role} address show", self.tag)).expect("a host");
            remains.extend(addresses.contains("10.96.0.10").then(|| format!("{role}: address")));
            let filters = ip(&format!("netns exec {}{role} nft list tables", self.tag));
            remains.extend(filters.expect("a host").lines().map(|line| format!("{role}: {line}")));
        }
        remains
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for role in ["a", "b", "w", "c", "s"] {
            let _ = ip(&format!("netns delete {}{role}", self.tag));
        }
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts").join(format!("{name}.toml"))
}

/// Goal: a scenario ends by ssh as it does in namespaces, says what could not be seen, and leaves nothing behind.
fn scenario(name: &str) {
    let Some(hosts) = Hosts::make() else { return };
    let output = hosts.lab(&file(name)).stdin(Stdio::null()).output().expect("it was built");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{name}: {}", said.trim());
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for note in ["nothing was listened to at the switches", "the clock of host a", "give or take"] {
        assert!(said.contains(note), "{note}: {said}");
    }
    assert_eq!(hosts.remains(), Vec::<String>::new());
}

#[test]
fn node_killed() {
    scenario("node_killed");
}

#[test]
fn planned() {
    scenario("planned");
}

#[test]
fn power_off() {
    scenario("power_off");
}

/// Goal: a lab that is asked to end, and one that is cut off from its hosts in an instant, leave nothing on them.
#[test]
fn a_lab_that_ends_early_leaves_nothing() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let Some(hosts) = Hosts::make() else { return };
        let mut command = hosts.lab(&file("steady"));
        let mut lab = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let pid = lab.pid();
        let regions = || regions_with(&format!("lab-{pid}-"));
        eventually("both nodes are there", || regions().len() == 2);
        assert!(!hosts.remains().is_empty(), "what remains is seen");
        kill(Pid::from_raw(pid), signal).expect("our own child");
        lab.wait();
        eventually("nothing is left", || hosts.remains().is_empty() && regions().is_empty());
    }
}

/// Goal: what real hosts cannot do is refused before anybody is asked for anything.
#[test]
fn scenarios_for_namespaces_are_refused_before_anything_starts() {
    let Some(hosts) = Hosts::make() else { return };
    for (name, why) in
        [("disturbed", "relay"), ("primary_isolated", "trunk"), ("stale_arp", "stale-arp")]
    {
        let (list, ssh) = (hosts.list(), hosts.ssh());
        let ended = hotpair([
            "lab".as_ref(),
            "run".as_ref(),
            file(name).as_os_str(),
            "--hosts".as_ref(),
            list.as_os_str(),
            "--ssh".as_ref(),
            ssh.as_os_str(),
        ]);
        ended.exits(78).says(why).one_error();
    }
    assert!(!hosts.asked().exists(), "nobody was reached");
}
