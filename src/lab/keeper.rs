//! The part of the lab that stands on a real host: it starts, tells, stops and kills what it is told to, over its stdin and stdout.
//!
//! One JSON object a line in both directions. It is started by ssh; when its stdin ends, or nobody has said a word for a while, the
//! lab is gone: it kills everything that it started and takes away what was put on the host, its own program too.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde::{Deserialize, Serialize};

use crate::clock::monotonic_ns;
use crate::exit::Exit;
use crate::process::{Child, Lines, Program, Signals, holds_anything, wait};
use crate::report::{Failure, Outcome};

/// A lab that says nothing for so long is gone, whatever the connection says.
const SILENCE: Duration = Duration::from_secs(30);
/// So much at once fits into a pipe that can be written to.
const CHUNK_BYTES: usize = 4096;
/// Processes at once.
const CHILDREN_MAX: usize = 256;
/// Things to be done at the end.
const OWED_MAX: usize = 256;

/// What the lab asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Nothing; it is still there.
    Beat,
    /// What time is it?
    Clock,
    /// Start this, and tell of it under this number.
    Start { id: u64, argv: Vec<String> },
    /// Write a line to its stdin.
    Tell { id: u64, line: String },
    /// Kill it.
    End { id: u64 },
    /// Send a signal to processes, whoever started them.
    Signal { pids: Vec<i32>, signal: i32 },
    /// Which of these still hold anything?
    Living { pids: Vec<i32> },
    /// A file in the keeper's own directory.
    Put { path: String, text: String },
    /// Run this when everything else has ended, however it ends.
    Owe { argv: Vec<String> },
}

/// What the keeper says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// It is there: as root or not, and by which connection of `sshd` (its `SSH_CONNECTION`).
    Ready {
        root: bool,
        connection: String,
    },
    Clock {
        ns: u64,
    },
    Started {
        id: u64,
        pid: i32,
    },
    Line {
        id: u64,
        line: String,
    },
    /// All of its lines have been told.
    Ended {
        id: u64,
        status: i32,
    },
    Living {
        pids: Vec<i32>,
    },
    /// An order was not carried out; without a number, none that starts something.
    Failed {
        id: Option<u64>,
        why: String,
    },
}

/// Where it stands.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Its own directory, with its program: removed when it ends
    #[arg(long)]
    dir: PathBuf,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let failed = || Failure::new("cannot keep this host for a lab");
    let signals = Signals::listen()?;
    let stdin = std::io::stdin().as_fd().try_clone_to_owned();
    let words = stdin.and_then(Lines::new).map_err(|error| failed().caused_by(&error))?;
    let stdout: OwnedFd = std::io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| failed().caused_by(&error))?;
    let mut keeper = Keeper {
        dir: options.dir.clone(),
        words,
        mouth: std::fs::File::from(stdout),
        children: BTreeMap::new(),
        owed: Vec::new(),
        gone: false,
    };
    let connection = std::env::var("SSH_CONNECTION").unwrap_or_default();
    keeper.say(&Word::Ready { root: geteuid().is_root(), connection });
    let mut heard = Instant::now();
    while !keeper.gone && !keeper.words.is_closed() && heard.elapsed() < SILENCE {
        if signals.stop_requested() {
            break;
        }
        if keeper.listen() {
            heard = Instant::now();
        }
        keeper.forward();
        let mut fds = vec![signals.as_fd(), keeper.words.as_fd()];
        fds.extend(keeper.children.values().filter_map(Child::lines_fd));
        wait(&fds, Duration::from_secs(1));
    }
    keeper.leave();
    Ok(Exit::Ok)
}

struct Keeper {
    dir: PathBuf,
    words: Lines,
    mouth: std::fs::File,
    children: BTreeMap<u64, Child>,
    owed: Vec<Vec<String>>,
    /// Nobody takes what we say.
    gone: bool,
}

impl Keeper {
    /// Whether anything was said.
    fn listen(&mut self) -> bool {
        let lines = self.words.read();
        for line in &lines {
            match serde_json::from_str(line) {
                Ok(order) => self.obey(order),
                Err(error) => self.say(&Word::Failed { id: None, why: error.to_string() }),
            }
        }
        !lines.is_empty()
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Beat => {}
            Order::Clock => self.say(&Word::Clock { ns: monotonic_ns() }),
            Order::Start { id, argv } => match self.start(id, argv) {
                Ok(pid) => self.say(&Word::Started { id, pid }),
                Err(why) => self.say(&Word::Failed { id: Some(id), why }),
            },
            Order::Tell { id, line } => {
                if let Some(child) = self.children.get_mut(&id) {
                    child.tell(&line);
                }
            }
            Order::End { id } => {
                // It is told of as of any other that ends.
                if let Some(child) = self.children.get_mut(&id) {
                    child.signal(Signal::SIGKILL);
                }
            }
            Order::Signal { pids, signal } => {
                for pid in pids.into_iter().filter(|pid| *pid > 1) {
                    // Who is gone already is as dead as can be.
                    let _ = Signal::try_from(signal).map(|signal| kill(Pid::from_raw(pid), signal));
                }
            }
            Order::Living { mut pids } => {
                pids.retain(|pid| holds_anything(*pid));
                self.say(&Word::Living { pids });
            }
            Order::Put { path, text } => {
                if let Err(why) = self.put(&path, &text) {
                    self.say(&Word::Failed { id: None, why: format!("{path}: {why}") });
                }
            }
            Order::Owe { argv } => {
                if self.owed.len() < OWED_MAX {
                    self.owed.push(argv);
                }
            }
        }
    }

    fn start(&mut self, id: u64, argv: Vec<String>) -> Result<i32, String> {
        if self.children.len() >= CHILDREN_MAX {
            return Err(format!("{CHILDREN_MAX} processes are enough"));
        }
        let name = argv.first().cloned().unwrap_or_default();
        let program = Program::foreign(name, argv).heard().told();
        let child = program.start().map_err(|failure| failure.to_string())?;
        let pid = child.pid();
        self.children.insert(id, child);
        Ok(pid)
    }

    /// A file below the directory, for its owner alone.
    fn put(&self, path: &str, text: &str) -> std::io::Result<()> {
        let below = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if !below {
            return Err(std::io::Error::other("it is not below the lab's directory"));
        }
        let path = self.dir.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())
    }

    /// What the children say, and who of them has ended.
    fn forward(&mut self) {
        let mut words = Vec::new();
        let mut ended = Vec::new();
        for (id, child) in &mut self.children {
            // Its end first: what it has said by then is read after that.
            let status = child.ended();
            words.extend(child.lines().into_iter().map(|line| Word::Line { id: *id, line }));
            if let Some(status) = status {
                words.push(Word::Ended { id: *id, status: status.into_raw() });
                ended.push(*id);
            }
        }
        for id in ended {
            self.children.remove(&id);
        }
        words.iter().for_each(|word| self.say(word));
    }

    /// Never waits for ever: a connection that takes nothing any more is as good as none.
    fn say(&mut self, word: &Word) {
        let Ok(mut line) = serde_json::to_vec(word) else { return };
        line.push(b'\n');
        let limit = PollTimeout::try_from(SILENCE).unwrap_or(PollTimeout::MAX);
        let mut rest = &line[..];
        while !rest.is_empty() && !self.gone {
            let mut fds = [PollFd::new(self.mouth.as_fd(), PollFlags::POLLOUT)];
            if !poll(&mut fds, limit).is_ok_and(|count| count > 0) {
                self.gone = true;
                return;
            }
            match self.mouth.write(&rest[..rest.len().min(CHUNK_BYTES)]) {
                Ok(count) => rest = &rest[count..],
                // With some `sshd` our stdout is our stdin, which we do not wait for.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.gone = true,
            }
        }
    }

    /// Nothing stays behind.
    fn leave(mut self) {
        // Each waits for its process; what those have started dies with them.
        self.children.clear();
        for argv in self.owed.iter().filter(|argv| !argv.is_empty()) {
            let mut command = Command::new(&argv[0]);
            command.args(&argv[1..]).stdin(Stdio::null());
            // That something was not there is no news.
            let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_their_way() {
        let words = [
            Word::Ready { root: true, connection: "192.0.2.9 50000 192.0.2.1 22".to_owned() },
            Word::Line { id: 3, line: "{\"event\":\"primary\"}".to_owned() },
            Word::Ended { id: 3, status: 9 },
        ];
        for word in words {
            let text = serde_json::to_string(&word).expect("a word");
            assert!(!text.contains('\n'), "{text}");
            let read: Word = serde_json::from_str(&text).expect("the same word");
            assert_eq!(format!("{read:?}"), format!("{word:?}"));
        }
    }

    /// Goal: a lab writes below the directory that it made, and nowhere else.
    #[test]
    fn files_are_put_below_the_directory_only() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let keeper = Keeper {
            dir: dir.path().to_owned(),
            words: Lines::new(reader.into()).expect("a pipe"),
            mouth: tempfile::tempfile().expect("a temporary file"),
            children: BTreeMap::new(),
            owed: Vec::new(),
            gone: false,
        };
        keeper.put("pki/a.pem", "text").expect("below");
        assert_eq!(std::fs::read_to_string(dir.path().join("pki/a.pem")).expect("put"), "text");
        for path in ["/etc/passwd", "../outside", "pki/../../outside"] {
            assert!(keeper.put(path, "text").is_err(), "{path}");
        }
    }
}
