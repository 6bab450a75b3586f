//! Programs in C, built with gcc by the header and the pkg-config file that `install` puts in place, and run under valgrind.

use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use hotpair_worker::testing::{Pair, until};

/// Whether the tools are there. Under CI it is a failure if not.
fn tools() -> bool {
    let lacks = ["gcc", "valgrind", "pkg-config"].into_iter().find(|tool| {
        let asked = Command::new(tool).arg("--version").stdout(Stdio::null()).status();
        !asked.is_ok_and(|status| status.success())
    });
    if let Some(tool) = lacks {
        assert!(std::env::var_os("CI").is_none(), "{tool} is missing");
        println!("skipped: there is no {tool}");
    }
    lacks.is_none()
}

/// Where `install` has put things, and programs are built.
fn installed() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let test = std::env::current_exe().expect("this test");
        let libraries = test.parent().expect("its folder");
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c-installed");
        let mut install = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("install"));
        run(install.arg(&place).env("LIBRARIES", libraries));
        place
    })
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("a program");
    let (out, err) = (output.stdout, output.stderr);
    let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

fn build(name: &str, shared: bool) -> PathBuf {
    let place = installed();
    let packages = place.join("lib/pkgconfig");
    let mut ask = Command::new("pkg-config");
    ask.args(["--cflags", "--libs"]).arg("hotpair-worker").env("PKG_CONFIG_PATH", &packages);
    if !shared {
        ask.arg("--static");
    }
    let flags = run(&mut ask);
    let mut flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    if !shared {
        let library = place.join("lib/libhotpair_worker_c.a").display().to_string();
        let ours = flags.iter().position(|flag| flag == "-lhotpair_worker_c").expect("it names it");
        flags[ours] = library;
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut source = here.join(format!("tests/programs/{name}.c"));
    if name == "guide" {
        source = place.join("guide.c");
        std::fs::write(&source, of_the_guide(here)).expect("a place for it");
    }
    let program = place.join(format!("{name}{}", if shared { "" } else { ".static" }));
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=gnu11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-pthread"]);
    gcc.arg(source).arg("-o").arg(&program).args(flags);
    gcc.arg(format!("-Wl,--disable-new-dtags,-rpath,{}", place.join("lib").display()));
    run(&mut gcc);
    program
}

/// A program that does not outlive its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program of docs/workers-c.md.
fn of_the_guide(here: &Path) -> String {
    let guide = std::fs::read_to_string(here.join("../../docs/workers-c.md")).expect("the guide");
    let (_, code) = guide.split_once("```c\n").expect("a program");
    code.split_once("```").expect("its end").0.to_owned()
}

/// The same under valgrind: an error fails it, and so does a leak that is certain if `leaks`.
fn under_valgrind(program: &Path, leaks: bool) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--error-exitcode=99", "--fair-sched=yes"]);
    if leaks {
        command.args(["--leak-check=full", "--show-leak-kinds=definite"]);
        command.arg("--errors-for-leak-kinds=definite");
    }
    command.arg(program);
    command
}

fn worker_serves(mut command: Command) {
    let mut pair = Pair::new(&["work", "log"], &["out"]);
    for (key, text) in [(b"a", &b"one"[..]), (b"b", b"two"), (b"a", b"three")] {
        pair.deliver("work", key, text);
    }
    let said = run(command.args([pair.primary().name(), "work", "3"]));
    assert_eq!(said, "served 3\n");
    let mut texts: Vec<_> = (0..3).map(|_| pair.next_packet("out")).collect();
    texts.sort_by(|one, other| one.payload.cmp(&other.payload));
    let payloads: Vec<_> = texts.iter().map(|packet| &packet.payload[..]).collect();
    assert_eq!(payloads, [&b"1 one"[..], b"1 two", b"2 three"]);
    assert!(texts.iter().all(|packet| packet.to == Some(Pair::PEER)));
    let a = pair.object("work", b"a").expect("it stays");
    assert_eq!((&a.value[..], a.attempts), (&2_u64.to_le_bytes()[..], 0));
    assert!(a.deadline.is_some());
    // What it did is on the other node.
    pair.kill_primary();
    assert_eq!(pair.object("work", b"a").expect("shipped").value, a.value);
    let mut worker = pair.worker("log");
    let wait = hotpair_worker::Wait::default().for_at_most(Pair::PATIENCE);
    let letter = worker.claim(wait).expect("a region").expect("a letter");
    assert!(letter.messages().any(|message| message.payload() == b"served"));
    letter.commit().expect("alone");
}

#[test]
fn a_worker_in_c_serves() {
    if tools() {
        worker_serves(under_valgrind(&build("worker", true), true));
    }
}

#[test]
fn a_worker_that_is_linked_statically_serves() {
    if tools() {
        worker_serves(Command::new(build("worker", false)));
    }
}

#[test]
fn a_handle_is_one_threads() {
    if !tools() {
        return;
    }
    let mut pair = Pair::new(&["work"], &[]);
    pair.deliver("work", b"a", b"go");
    let program = build("threads", true);
    // The child of its fork leaves what is the parent's alone, which looks like a leak.
    let said = run(under_valgrind(&program, false).args([pair.primary().name(), "work"]));
    assert_eq!(said, "done\n");
    assert_eq!(pair.object("work", b"a").expect("it stays").value, b"");
}

#[test]
fn a_classifier_in_c_names_objects() {
    if !tools() {
        return;
    }
    let pair = Pair::new(&["work"], &["in"]);
    // An address of this process alone, and a port that the kernel gives nobody by chance.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let address = SocketAddr::from(([127, 64 | high, middle, low], 10_000));
    let program = build("classifier", true);
    let port = under_valgrind(&program, true)
        .args([pair.primary().name(), "in", "work", &address.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("valgrind");
    let mut port = Ended(port);
    let client = UdpSocket::bind("127.0.0.1:0").expect("a port of UDP");
    let find = |key: &[u8]| pair.object("work", key);
    until("the first packet to be classified", || {
        client.send_to(b"alice hello", address).expect("loopback");
        std::thread::sleep(Duration::from_millis(5));
        find(b"alice").is_some()
    });
    let long = [&[b'x'; 200][..], b" too long"].concat();
    for packet in [&b"nobody"[..], &long, b" empty", b"bob hi"] {
        client.send_to(packet, address).expect("loopback");
    }
    until("the last packet", || find(b"bob").is_some());
    drop(port.0.stdin.take());
    assert!(port.0.wait().expect("its end").success());
    let mut said = String::new();
    port.0.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(said.starts_with("classified "), "{said}");
    assert_eq!(pair.primary().region().objects().count(), 2, "what is nobody's made no object");
}

#[test]
fn the_program_of_the_guide_answers_and_stops() {
    if !tools() {
        return;
    }
    let mut pair = Pair::new(&["calls"], &["sip"]);
    let mut command = Command::new(build("guide", true));
    let mut worker = Ended(command.arg(pair.primary().name()).spawn().expect("the program"));
    for expected in [&b"answer 1"[..], b"answer 2"] {
        pair.deliver("calls", b"call-1", b"INVITE");
        assert_eq!(pair.next_packet("sip").payload, expected);
    }
    let kill = Command::new("kill").arg(worker.0.id().to_string()).status().expect("kill");
    assert!(kill.success());
    assert!(worker.0.wait().expect("its end").success());
}
