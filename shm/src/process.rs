//! What the kernel says about processes: identity and confirmed death.

use std::fs;
use std::io;

/// The kernel's flag of a thread that is on its way out and runs no more user code.
const PF_EXITING: u64 = 0x4;

/// State of a process as far as its memory is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// At least one thread may still run.
    Alive,
    /// No thread will ever run user code again.
    Dead,
}

/// Confirms a death: every thread of `pid` bears `PF_EXITING`, or `pid` is gone or somebody else.
pub(crate) fn life_of(pid: u32, start_time: u64) -> Life {
    match stat(&format!("/proc/{pid}/stat")) {
        Some(stat) if start_time != 0 && stat.start_time != start_time => return Life::Dead,
        Some(_) => {}
        None => return Life::Dead,
    }
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Life::Dead;
    };
    for task in tasks.flatten() {
        // A thread that vanished between the listing and here runs no more either.
        let Some(stat) = stat(&format!("{}/stat", task.path().display())) else {
            continue;
        };
        if stat.flags & PF_EXITING == 0 && stat.state != b'Z' && stat.state != b'X' {
            return Life::Alive;
        }
    }
    Life::Dead
}

/// Whether `pid` still maps the file at `path`: a process that did `exec` does not.
pub(crate) fn maps_file(pid: u32, inode: u64) -> bool {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else {
        return true;
    };
    maps.lines().any(|line| line.split_whitespace().nth(4) == Some(inode.to_string().as_str()))
}

/// Start time of this process in clock ticks since boot.
pub(crate) fn own_start_time() -> io::Result<u64> {
    stat("/proc/self/stat")
        .map(|stat| stat.start_time)
        .ok_or_else(|| io::Error::other("/proc/self/stat cannot be read or understood"))
}

/// A number that differs between pid namespaces.
pub(crate) fn pid_namespace() -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata("/proc/self/ns/pid")?.ino())
}

/// A number that differs between boots of the machine.
pub(crate) fn boot_id() -> io::Result<[u64; 2]> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let half = |range| {
        digits
            .get(range)
            .and_then(|part| u64::from_str_radix(part, 16).ok())
            .ok_or_else(|| io::Error::other("the boot id is not 32 hexadecimal digits"))
    };
    Ok([half(0..16)?, half(16..32)?])
}

/// Nanoseconds of the monotonic clock, which all processes of a host share.
pub fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .expect("the monotonic clock always exists");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

struct Stat {
    state: u8,
    flags: u64,
    start_time: u64,
}

fn stat(path: &str) -> Option<Stat> {
    let text = fs::read(path).ok()?;
    // The name stands in parentheses and may contain anything, also parentheses.
    let end = text.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(text.get(end + 2..)?).ok()?;
    let fields: Vec<&str> = rest.split(' ').collect();
    Some(Stat {
        state: *fields.first()?.as_bytes().first()?,
        flags: fields.get(6)?.parse().ok()?,
        start_time: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_has_an_identity() {
        let start = own_start_time().expect("own stat");
        let pid = std::process::id();
        assert_eq!(life_of(pid, start), Life::Alive);
        assert_eq!(life_of(pid, start + 1), Life::Dead, "another process of the same pid");
        assert_ne!(boot_id().expect("boot id"), [0, 0]);
    }

    /// Goal: a killed child counts as dead before anybody has waited for it.
    #[test]
    fn a_zombie_is_dead() {
        let mut child =
            std::process::Command::new("sleep").arg("1000").spawn().expect("sleep starts");
        let pid = child.id();
        assert_eq!(life_of(pid, 0), Life::Alive);
        child.kill().expect("own child");
        while life_of(pid, 0) == Life::Alive {
            std::thread::yield_now();
        }
        child.wait().expect("own child");
        assert_eq!(life_of(pid, 0), Life::Dead);
    }
}
