//! Where figures come from: without it they mean nothing.

use std::process::Command;

/// The machine and the program, as far as they can be known.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) kernel: String,
    pub(super) commit: String,
    pub(super) build: &'static str,
    pub(super) date: String,
}

impl Machine {
    /// All of it in a line.
    pub(super) fn line(&self) -> String {
        let Machine { cpu, cores, kernel, commit, build, date } = self;
        format!("{date}, commit {commit}, {build} build, {cores} cores of {cpu}, Linux {kernel}")
    }
}

pub(super) fn describe() -> Machine {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = field(&info, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let commit = match said("git", &["rev-parse", "--short=10", "HEAD"]) {
        None => "unknown".to_owned(),
        Some(commit) => match said("git", &["status", "--porcelain", "--untracked-files=no"]) {
            Some(changes) if !changes.is_empty() => format!("{commit} with changes"),
            _ => commit,
        },
    };
    Machine {
        cpu,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        kernel: kernel.trim().to_owned(),
        commit,
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
        date: said("date", &["-u", "+%Y-%m-%d"]).unwrap_or_default(),
    }
}

fn field(info: &str, name: &str) -> Option<String> {
    let line = info.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_name() {
        let info = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n";
        assert_eq!(field(info, "model name").as_deref(), Some("Some CPU @ 2 GHz"));
        assert_eq!(field(info, "cache size"), None);
    }
}
