//! What a claim and a commit cost in C and Python beside Rust: `cargo bench -p hotpair-worker-python`.
//!
//! One object each, in one region, always ready; slices take turns, so that each shares every mood of the machine. Figures are
//! medians of slices, in nanoseconds for a claim and a commit with eight bytes changed in place between.

#[path = "../../tests/wheel/environment.rs"]
mod environment;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use environment::{environment, here, run};
use hotpair_worker::testing::{Host, Port, geometry};
use hotpair_worker::{Error, Space, Wait, Worker};

const SLICES: usize = 40;
const OPERATIONS: u64 = 10_000;

/// A loop in another process, which waits for its turns.
struct Loop {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Loop {
    fn start(command: &mut Command) -> Loop {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.expect("a program");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Loop { child, input, output }
    }

    fn turn(&mut self, line: &str) -> f64 {
        writeln!(self.input, "{line}").expect("it lives");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("it lives");
        let nanoseconds: f64 = answer.trim().parse().expect("nanoseconds");
        nanoseconds / OPERATIONS as f64
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The loop in Rust, as the others: in a process of its own, by lines of its input.
fn child(space: &str, queue: &str) -> Result<(), Error> {
    let mut worker = Space::attach(space)?.worker(queue)?;
    for line in std::io::stdin().lines() {
        let empty = line.is_ok_and(|line| line.starts_with("empty"));
        println!("{}", in_rust(&mut worker, empty)?.as_nanos());
    }
    Ok(())
}

fn in_rust(worker: &mut Worker, empty: bool) -> Result<Duration, Error> {
    let begun = Instant::now();
    for _ in 0..OPERATIONS {
        let mut job = worker.claim(Wait::none())?.expect("always ready");
        if !empty {
            *job.value_mut::<u64>()? += 1;
        }
        job.stay_ready();
        job.commit()?;
    }
    Ok(begun.elapsed())
}

fn median(mut slices: Vec<f64>) -> f64 {
    slices.sort_by(f64::total_cmp);
    slices[slices.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, what, space, queue] = &arguments[..]
        && what == "loop"
    {
        child(space, queue).expect("a region");
        return;
    }
    // `cargo test --benches` only looks whether it builds.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let python = environment().expect("an environment of Python");
    let host = Host::new(&geometry(&["rust", "c", "python"], &[]));
    host.region().become_primary(1);
    let mut port = Port::new(host.region());
    for queue in ["rust", "c", "python"] {
        port.deliver((queue, 0), b"a", None, b"go");
        // The message is consumed and the object stays ready.
        let mut worker = host.space().worker(queue).expect("a seat");
        let mut job = worker.claim(Wait::none()).expect("a region").expect("ready");
        job.set_value(&[0; 8]).expect("room");
        job.stay_ready();
        job.commit().expect("alone");
    }
    drop(port);
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("loop");
    let bench = std::env::current_exe().expect("this bench");
    let libraries = bench.parent().expect("its folder").display().to_string();
    let mut gcc = Command::new("gcc");
    gcc.arg("-O2").arg("-I").arg(here().join("../c/include")).arg("-o").arg(&program);
    gcc.arg(here().join("benches/languages/loop.c")).arg("-L").arg(&libraries);
    run(gcc.arg("-lhotpair_worker_c").arg(format!("-Wl,--disable-new-dtags,-rpath,{libraries}")));
    let _ = hotpair_worker_c::HOTPAIR_KEY_BYTES_MAX; // so that its library is built

    let mut rust = Loop::start(Command::new(&bench).args(["loop", host.name(), "rust"]));
    let mut c = Loop::start(Command::new(&program).args([host.name(), "c"]));
    let script = here().join("benches/languages/loop.py");
    let mut py = Loop::start(Command::new(python).arg(script).args([host.name(), "python"]));
    let names = ["rust", "rust, empty", "c", "python, with", "python, set_value", "python, empty"];
    let mut slices: [Vec<f64>; 6] = Default::default();
    for slice in 0..SLICES + 5 {
        let turn = [
            rust.turn("changed"),
            rust.turn("empty"),
            c.turn(&OPERATIONS.to_string()),
            py.turn(&format!("block {OPERATIONS}")),
            py.turn(&format!("plain {OPERATIONS}")),
            py.turn(&format!("empty {OPERATIONS}")),
        ];
        if slice >= 5 {
            turn.iter().zip(&mut slices).for_each(|(value, slices)| slices.push(*value));
        }
    }
    let found: Vec<f64> = slices.into_iter().map(median).collect();
    for (name, value) in names.iter().zip(&found) {
        println!("{name:20} {value:8.0} ns");
    }
    println!("c over rust: {:+.1} %", (found[2] / found[0] - 1.0) * 100.0);
    println!(
        "python over rust: {:+.0} ns, empty {:+.0} ns",
        found[3] - found[0],
        found[5] - found[1]
    );
}
