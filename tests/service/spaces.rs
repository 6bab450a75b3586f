//! Hosts as network namespaces.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::afterwards::Afterwards;

/// Namespaces of a test's own; gone when dropped.
pub(crate) struct Spaces {
    tag: String,
    _afterwards: Afterwards,
}

impl Spaces {
    /// Makes a namespace for each host and lets `wire` lay the cables; `None` if that is not possible here. In CI it has to be.
    /// Names begin with `tag`.
    pub(crate) fn build(
        tag: &str,
        hosts: &[&str],
        wire: impl FnOnce(&Spaces) -> Result<(), String>,
    ) -> Option<Spaces> {
        // Tests of one process run beside each other.
        static BUILT: AtomicU32 = AtomicU32::new(0);
        let number = BUILT.fetch_add(1, Ordering::Relaxed);
        let tag = format!("{tag}{}n{number}", std::process::id());
        let delete = |host: &&str| format!("ip netns delete {tag}{host}; ");
        let afterwards = Afterwards::run(&hosts.iter().map(delete).collect::<String>());
        let spaces = Spaces { tag, _afterwards: afterwards };
        match spaces.add(hosts).and_then(|()| wire(&spaces)) {
            Ok(()) => Some(spaces),
            Err(why) => {
                let advice = format!("hosts need root and network namespaces: {why}");
                assert!(std::env::var("CI").as_deref() != Ok("true"), "{advice}");
                eprintln!("skipped, because {advice}");
                None
            }
        }
    }

    fn add(&self, hosts: &[&str]) -> Result<(), String> {
        for host in hosts {
            ip(&format!("netns add {}", self.of(host)))?;
            ip(&format!("-n {} link set lo up", self.of(host)))?;
        }
        Ok(())
    }

    /// Name of a host's namespace: `ip netns exec` runs programs on the host, and becomes them.
    pub(crate) fn of(&self, host: &str) -> String {
        format!("{}{host}", self.tag)
    }
}

/// Runs `ip` and gives what it printed.
pub(crate) fn ip(arguments: &str) -> Result<String, String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output
        .map_err(|error| format!("cannot run `ip`: {error} (Debian: apt-get install iproute2)"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
