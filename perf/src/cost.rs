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

use std::time::{Duration, Instant};

use crate::helper::{Core, Helper, obey_asleep};
use crate::options::Options;
use crate::page::Page;
use crate::proc::{Spent, resident_kb, spent};
use crate::processes::{Configuration, Processes, Side};
use crate::registry::{Bench, BenchError};
use crate::report::{Report, Sheet, SheetReport};

const QUEUE: &str = "objects";
const PORT: &str = "service";
/// Node, port, worker.
const SEATS: usize = 3;

const SECONDS: Duration = Duration::from_secs(5);
/// What happens at the start is over.
const SETTLE: Duration = Duration::from_millis(500);
/// A helper's part: nothing, 100 ms at a time.
const SLEEPER: &str = "sleeper";

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let pair = Processes::start(bench.name, options, SEATS, configuration)?;
    let sleeper = Helper::start(options, Core::any()?, SLEEPER, &[])?;
    std::thread::sleep(SETTLE);
    let mut parties = pair.parties();
    parties.push((sleeper.pid(), SLEEPER.to_owned()));
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
        let ended =
            || BenchError::setup("measure a pair")(format!("{name} (process {pid}) has ended"));
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

/// The helper's part: what a process costs that does next to nothing.
pub(crate) fn sleep(page: &Page, _: &[String]) -> Result<(), BenchError> {
    obey_asleep(page)
}

fn configuration(side: &Side<'_>) -> Configuration {
    let Side { letter, service, program } = side;
    let region = format!(
        r#"slots = 4096
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
    );
    Configuration { replication: "", region }
}
