//! A pair as in production: every part of it a process of its own, started by configuration files.
//!
//! ```text
//!   this process ─┬ witness                                          core of the second host
//!                 ├ supervisor a ─┬ node, ports, workers             core of the first
//!                 └ supervisor b ─┴ node, ports, workers             core of the second
//! ```
//!
//! All of them die with the bench, however it ends.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hotpair_replica::pki;
use hotpair_shm::{Region, Role};

use crate::free_address::free_address;
use crate::helper::{Core, Helper, ready};
use crate::options::Options;
use crate::page::Page;
use crate::proc::{command_line, descendants};
use crate::registry::BenchError;
use crate::scratch::Scratch;

/// Name of the pair in its certificates.
const PAIR: &str = "bench";

/// A pair that has not formed by then will not.
const FORM_MAX: Duration = Duration::from_secs(20);

const START: &str = "start a pair";

/// What the configuration of one side is written for.
pub(crate) struct Side<'a> {
    /// `a` or `b`.
    pub(crate) letter: &'static str,
    /// Where its port listens.
    pub(crate) service: SocketAddr,
    /// The `hotpair` program.
    pub(crate) program: &'a Path,
}

/// What a side's file has besides its addresses and names.
pub(crate) struct Configuration {
    /// Of `[replication]`, and sections that follow it.
    pub(crate) replication: &'static str,
    /// Of `[region]`, and all that follows it.
    pub(crate) region: String,
}

/// A whole pair. Dropping it ends the supervisors, and with them their children.
pub(crate) struct Processes {
    witness: Helper,
    sides: Vec<Helper>,
    // What they use goes last.
    regions: [Scratch; 2],
    directory: Scratch,
    /// Where the ports of the sides listen.
    pub(crate) services: [SocketAddr; 2],
}

impl Processes {
    /// Starts one, each side on a core of its own, and waits until it is protected and each side has so many `seats`.
    /// `configuration` writes what a side's file has besides its addresses and names.
    pub(crate) fn start(
        bench: &str,
        options: &Options,
        seats: usize,
        configuration: impl Fn(&Side<'_>) -> Configuration,
    ) -> Result<Self, BenchError> {
        let cores = Core::for_hosts();
        let any = Core::any()?;
        let directory = Scratch::directory(bench).map_err(BenchError::setup("make a directory"))?;
        let keys = directory.path.join("pki");
        pki::create(&keys, PAIR).map_err(BenchError::setup("make certificates"))?;
        let addresses = Addresses::find()?;
        let regions = ["a", "b"].map(|side| Scratch::new(&format!("{bench}-{side}")));
        let text = |path: &Path| path.display().to_string();
        let start = |core: Option<Core>, arguments: &[String]| {
            let core = core.unwrap_or(any);
            Helper::start(options, core, "program", arguments)
        };

        let mut witness = vec!["witness".to_owned()];
        witness.extend(["--listen".to_owned(), addresses.witness.to_string()]);
        witness.extend(["--pki".to_owned(), text(&keys)]);
        witness.extend(["--store".to_owned(), text(&directory.path.join("witness"))]);
        witness.extend(["--reinit", "a"].map(str::to_owned));
        let witness = start(cores[1], &witness)?;
        let services = addresses.services;
        let mut pair = Processes { witness, sides: Vec::new(), regions, directory, services };
        let program = options.program()?;
        for side in 0..2 {
            let file = pair.directory.path.join(["a.toml", "b.toml"][side]);
            let (letter, service) = (["a", "b"][side], services[side]);
            let own = configuration(&Side { letter, service, program: &program });
            let configuration = addresses.configuration(side, &pair.name(side), &own);
            fs::write(&file, configuration).map_err(BenchError::setup("write a file"))?;
            let arguments = ["node", "--config"].map(str::to_owned);
            let arguments = arguments.into_iter().chain([text(&file)]).collect::<Vec<_>>();
            pair.sides.push(start(cores[side], &arguments)?);
            if side == 0 {
                pair.wait("node a serves", |region| region.role().role() == Role::Primary)?;
            }
        }
        pair.wait("the pair is protected", |region| region.report().protected)?;
        pair.wait_for_seats(seats)?;
        Ok(pair)
    }

    /// What the primary says of itself.
    pub(crate) fn observe(&self) -> Result<Region, BenchError> {
        Region::observe(&self.regions[0].path).map_err(BenchError::setup("look into a region"))
    }

    /// Of a side's region.
    fn name(&self, side: usize) -> String {
        let file = self.regions[side].path.file_name().unwrap_or_default();
        file.to_string_lossy().trim_start_matches("hotpair.").to_owned()
    }

    /// Until the first side's region says so.
    fn wait(&mut self, what: &str, done: impl Fn(&Region) -> bool) -> Result<(), BenchError> {
        let path = self.regions[0].path.clone();
        // It is not there at first.
        self.wait_for(what, || Region::observe(&path).is_ok_and(|region| done(&region)))
    }

    /// Until ports and workers of both sides have their seats.
    fn wait_for_seats(&mut self, seats: usize) -> Result<(), BenchError> {
        let paths = [0, 1].map(|side| self.regions[side].path.clone());
        let seated = |path: &PathBuf| {
            let region = Region::observe(path).ok();
            region
                .map_or(0, |region| region.participants().iter().filter(|seat| seat.alive).count())
        };
        self.wait_for("ports and workers are there", || {
            paths.iter().all(|path| seated(path) >= seats)
        })
    }

    fn wait_for(&mut self, what: &str, done: impl Fn() -> bool) -> Result<(), BenchError> {
        let begun = Instant::now();
        while !done() {
            for helper in self.sides.iter_mut().chain([&mut self.witness]) {
                helper.check()?;
            }
            if begun.elapsed() > FORM_MAX {
                return Err(BenchError::setup(START)(format!("after {FORM_MAX:?} not: {what}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Process ids and names.
    pub(crate) fn parties(&self) -> Vec<(u32, String)> {
        let mut parties = vec![(self.witness.pid(), "witness".to_owned())];
        for (side, letter) in self.sides.iter().zip(['a', 'b']) {
            parties.push((side.pid(), format!("supervisor {letter}")));
            let children = descendants(side.pid()).into_iter();
            parties.extend(children.map(|pid| (pid, format!("{} {letter}", part(pid)))));
        }
        parties
    }
}

/// What a supervisor's child is, by its command.
fn part(pid: u32) -> &'static str {
    let line = command_line(pid);
    match line.get(1).map(String::as_str) {
        Some("node-inner") => "node",
        Some("port") => "port",
        Some("demo-worker" | "worker") => "worker",
        Some("expire") => "expire",
        _ => "?",
    }
}

/// The helper's part, `ARGUMENT…`: this program with other arguments, killed with the bench as the helper is.
pub(crate) fn become_program(page: &Page, arguments: &[String]) -> Result<(), BenchError> {
    ready(page);
    let program = std::env::current_exe().map_err(BenchError::setup("find this program"))?;
    // What it has to say is for nobody, unless it is an error.
    let mut command = Command::new(program);
    command.args(arguments).env("HOTPAIR_LOG", "error");
    Err(BenchError::setup("become another program")(command.exec()))
}

struct Addresses {
    witness: SocketAddr,
    nodes: [SocketAddr; 2],
    services: [SocketAddr; 2],
}

impl Addresses {
    fn find() -> Result<Self, BenchError> {
        let two = || Ok([free_address()?, free_address()?]);
        Ok(Addresses { witness: free_address()?, nodes: two()?, services: two()? })
    }

    fn configuration(&self, side: usize, region: &str, own: &Configuration) -> String {
        let (listen, peer) = (self.nodes[side], self.nodes[1 - side]);
        let (witness, letter) = (self.witness, ["a", "b"][side]);
        format!(
            "[pair]\nname = \"{PAIR}\"\nnode = \"{letter}\"\n\
             [pki]\ndir = \"pki\"\n\
             [witness]\naddress = \"{witness}\"\n\
             [replication]\nlisten = \"{listen}\"\npeer = \"{peer}\"\n{}\n\
             [region]\nname = \"{region}\"\n{}",
            own.replication, own.region
        )
    }
}
