//! `cost`: what a pair costs while nobody asks it for anything.
//!
//! ```text
//!   this process ─┬ witness
//!                 ├ supervisor a ─┬ node, port, worker
//!                 ├ supervisor b ─┴ node, port, worker
//!                 └ a sleeper, 100 ms at a time                       (limit)
//! ```
//!
//! The program runs as in production, with configuration files of its own. Two looks at `/proc` tell what each process spent between.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hotpair_replica::pki;
use hotpair_shm::Region;

use crate::helper::{Core, Helper, obey_asleep, ready};
use crate::options::Options;
use crate::page::Page;
use crate::proc::{Spent, command_line, descendants, resident_kb, spent};
use crate::registry::{Bench, BenchError};
use crate::report::{Report, Sheet, SheetReport};
use crate::scratch::Scratch;

/// Name of the pair in its certificates, of its queue, of its port.
const PAIR: &str = "bench";
const QUEUE: &str = "objects";
const PORT: &str = "service";

const SECONDS: Duration = Duration::from_secs(5);
/// What happens at the start is over.
const SETTLE: Duration = Duration::from_millis(500);
/// A pair that has not formed by then will not.
const FORM_MAX: Duration = Duration::from_secs(20);

const START: &str = "start a pair";

/// A helper's part: nothing, 100 ms at a time.
const SLEEPER: &str = "sleeper";

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let pair = Processes::start(bench.name, options)?;
    std::thread::sleep(SETTLE);
    let parties = pair.parties();
    let (before, begun) = (look(&parties), Instant::now());
    std::thread::sleep(options.seconds.unwrap_or(SECONDS));
    let (after, lasted) = (look(&parties), begun.elapsed().as_secs_f64());

    let columns = [
        ("processor", "percent"),
        ("wake-ups, a second", ""),
        ("its own memory", "kb"),
        ("with the region", "kb"),
    ];
    let question = "each process, nobody asking anything";
    let mut sheet = Sheet::new("idle", question, "process", &columns);
    let (mut dearest, mut sleeper) = (("none", 0.0), 0.0);
    for (((pid, name), then), now) in parties.iter().zip(before).zip(after) {
        let ended = || BenchError::setup(START)(format!("{name} (process {pid}) has ended"));
        let spent = now.ok_or_else(ended)?.since(then.ok_or_else(ended)?);
        let percent = spent.cpu_ns as f64 / 1e7 / lasted;
        let (all, own) = resident_kb(*pid).ok_or_else(ended)?;
        let row = vec![percent, spent.wakes as f64 / lasted, own as f64, all as f64];
        sheet.named(name.clone(), row);
        match name == SLEEPER {
            true => sleeper = percent,
            false if percent > dearest.1 => dearest = (name, percent),
            false => {}
        }
    }
    let figure = (dearest.0, dearest.1);
    let limit = ("a process that sleeps 100 ms at a time", sleeper);
    let (name, question) = (bench.name, bench.question);
    Ok(Report::Sheet(SheetReport::new(name, question, bench.unit, figure, limit, vec![sheet])))
}

fn look(parties: &[(u32, String)]) -> Vec<Option<Spent>> {
    parties.iter().map(|(pid, _)| spent(*pid)).collect()
}

/// A whole pair. Dropping it ends the supervisors, and with them their children.
struct Processes {
    witness: Helper,
    sides: Vec<Helper>,
    sleeper: Helper,
    // What they use goes last.
    regions: [Scratch; 2],
    directory: tempfile::TempDir,
}

impl Processes {
    fn start(bench: &str, options: &Options) -> Result<Self, BenchError> {
        let cores = Core::for_hosts();
        let any = Core::any()?;
        let directory = tempfile::tempdir().map_err(BenchError::setup("make a directory"))?;
        let keys = directory.path().join("pki");
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
        witness.extend(["--store".to_owned(), text(&directory.path().join("witness"))]);
        witness.extend(["--reinit", "a"].map(str::to_owned));
        let witness = start(cores[1], &witness)?;
        let mut pair = Processes {
            witness,
            sides: Vec::new(),
            sleeper: Helper::start(options, any, SLEEPER, &[])?,
            regions,
            directory,
        };
        let program = options.program()?;
        for side in 0..2 {
            let file = pair.directory.path().join(["a.toml", "b.toml"][side]);
            let configuration = addresses.configuration(side, &pair.name(side), &program);
            fs::write(&file, configuration).map_err(BenchError::setup("write a file"))?;
            let arguments = ["node", "--config"].map(str::to_owned);
            let arguments = arguments.into_iter().chain([text(&file)]).collect::<Vec<_>>();
            pair.sides.push(start(cores[side], &arguments)?);
            if side == 0 {
                pair.wait("node a serves", |region| {
                    region.role().role() == hotpair_shm::Role::Primary
                })?;
            }
        }
        pair.wait("the pair is protected", |region| region.report().protected)?;
        pair.wait_for_children()?;
        Ok(pair)
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
    fn wait_for_children(&mut self) -> Result<(), BenchError> {
        let paths = [0, 1].map(|side| self.regions[side].path.clone());
        let seated = |path: &PathBuf| {
            let region = Region::observe(path).ok();
            region
                .map_or(0, |region| region.participants().iter().filter(|seat| seat.alive).count())
        };
        self.wait_for("ports and workers are there", || paths.iter().all(|path| seated(path) >= 3))
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
    fn parties(&self) -> Vec<(u32, String)> {
        let mut parties = vec![(self.witness.pid(), "witness".to_owned())];
        for (side, letter) in self.sides.iter().zip(['a', 'b']) {
            parties.push((side.pid(), format!("supervisor {letter}")));
            let children = descendants(side.pid()).into_iter();
            parties.extend(children.map(|pid| (pid, format!("{} {letter}", part(pid)))));
        }
        parties.push((self.sleeper.pid(), SLEEPER.to_owned()));
        parties
    }
}

/// What a supervisor's child is, by its command.
fn part(pid: u32) -> &'static str {
    let line = command_line(pid);
    match line.get(1).map(String::as_str) {
        Some("node-inner") => "node",
        Some("port") => "port",
        Some("demo-worker") => "worker",
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

/// The helper's part: what a process costs that does next to nothing.
pub(crate) fn sleep(page: &Page, _: &[String]) -> Result<(), BenchError> {
    obey_asleep(page)
}

/// Ports that were free a moment ago.
struct Addresses {
    witness: SocketAddr,
    nodes: [SocketAddr; 2],
    services: [SocketAddr; 2],
}

impl Addresses {
    fn find() -> Result<Self, BenchError> {
        let mut held = Vec::new();
        let mut next = || -> std::io::Result<SocketAddr> {
            loop {
                let tcp = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
                let address = tcp.local_addr()?;
                // Heartbeats have the port behind the node's.
                let behind = SocketAddr::new(address.ip(), address.port().wrapping_add(1));
                let udp = [UdpSocket::bind(address), UdpSocket::bind(behind)];
                if let [Ok(one), Ok(other)] = udp {
                    held.push((tcp, one, other));
                    return Ok(address);
                }
            }
        };
        let mut find = || next().map_err(BenchError::setup("find a free port"));
        Ok(Addresses { witness: find()?, nodes: [find()?, find()?], services: [find()?, find()?] })
    }

    fn configuration(&self, side: usize, region: &str, program: &Path) -> String {
        let (own, peer) = (self.nodes[side], self.nodes[1 - side]);
        let (witness, service) = (self.witness, self.services[side]);
        let letter = ["a", "b"][side];
        format!(
            r#"[pair]
name = "{PAIR}"
node = "{letter}"
[pki]
dir = "pki"
[witness]
address = "{witness}"
[replication]
listen = "{own}"
peer = "{peer}"
[region]
name = "{region}"
slots = 4096
participants = 16
[[region.class]]
payload_bytes = 256
blocks = 32768
[[queue]]
name = "{QUEUE}"
[[port]]
name = "{PORT}"
kind = "udp"
queue = "{QUEUE}"
bind = "{service}"
[[worker]]
queue = "{QUEUE}"
command = [{program:?}, "demo-worker", "--side", "{letter}"]
"#
        )
    }
}
