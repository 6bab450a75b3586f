//! One process under supervision: running, or waiting to be started again.

use std::time::{Duration, Instant};

use super::backoff::BackOff;
use super::notice::{LAUNCH, Launch};
use crate::exit::Exit;
use crate::process::{Child, Program, describe};
use crate::report::Failure;

/// One that ends by itself this soon after its very first start will not do better the next time.
const STILLBORN: Duration = Duration::from_secs(3);
// A port that has waited in vain for its holder ends then, and is one of these.
const _: () = assert!(STILLBORN.as_millis() > hotpair_ioports::START_PATIENCE.as_millis());

/// What a process is for; decides in which order things stop and what the demo kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Node,
    Port,
    Worker,
}

impl Kind {
    /// The word in events.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Node => "node",
            Kind::Port => "port",
            Kind::Worker => "worker",
        }
    }
}

/// A program that is kept running.
#[derive(Debug)]
pub(crate) struct Supervised {
    pub(crate) kind: Kind,
    program: Program,
    running: Option<(Child, Instant)>,
    start_at: Option<Instant>,
    back_off: BackOff,
    starts: u64,
}

/// What became of a process since the last look.
#[derive(Debug)]
pub(crate) enum Death {
    /// It is started again after the pause.
    Restarts { pid: i32, how: String, pause: Duration },
    /// It refused to start for a reason that no restart changes. Our own programs have said why.
    Stillborn { exit: Exit, failure: Option<Failure> },
}

impl Supervised {
    pub(crate) fn new(kind: Kind, program: Program) -> Supervised {
        let start_at = Some(Instant::now());
        let back_off = BackOff::default();
        Supervised { kind, program, running: None, start_at, back_off, starts: 0 }
    }

    pub(crate) fn name(&self) -> &str {
        &self.program.name
    }

    /// Whether it is to be started now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.running.is_none() && self.start_at.is_some_and(|at| at <= now)
    }

    /// Starts it; a node gets its page and its number. Gives the new process id.
    pub(crate) fn start(&mut self, launch: Option<Launch>) -> Result<i32, Failure> {
        self.start_at = None;
        let child = match launch {
            None => self.program.start()?,
            Some(Launch { stdin, number }) => {
                let program = self.program.clone().env(LAUNCH, number.to_string());
                program.start_with(stdin.into())?
            }
        };
        let pid = child.pid();
        self.running = Some((child, Instant::now()));
        self.starts += 1;
        Ok(pid)
    }

    /// Looks whether it has died.
    pub(crate) fn look(&mut self, now: Instant) -> Option<Death> {
        let (child, started) = self.running.as_mut()?;
        let status = child.ended()?;
        let (pid, lived) = (child.pid(), now.duration_since(*started));
        self.running = None;
        if let Some(code) = status.code().filter(|code| *code != 0)
            && self.starts == 1
            && lived < STILLBORN
        {
            let failure = self.program.is_foreign().then(|| {
                Failure::new(format!("{} did not start", self.program.name))
                    .because(format!("it ended with {}", describe(status)))
                    .help("run its `command` by hand to see why")
            });
            return Some(Death::Stillborn { exit: Exit::of_child(code), failure });
        }
        let pause = self.back_off.after(lived);
        self.start_at = Some(now + pause);
        Some(Death::Restarts { pid, how: describe(status), pause })
    }

    /// When it is to be started.
    pub(crate) fn start_at(&self) -> Option<Instant> {
        self.start_at
    }

    /// The running process.
    pub(crate) fn child(&mut self) -> Option<&mut Child> {
        self.running.as_mut().map(|(child, _)| child)
    }

    /// The same, to read.
    pub(crate) fn child_ref(&self) -> Option<&Child> {
        self.running.as_ref().map(|(child, _)| child)
    }

    /// Never starts it again.
    pub(crate) fn retire(&mut self) {
        self.start_at = None;
    }
}
