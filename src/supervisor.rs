//! `hotpair node`: a small process that keeps a node, its ports and its workers running.
//!
//! ```text
//!   supervisor (maps one page, forks from its main thread only)
//!    ├ node     owns the region; its death is read from the page by a waiting thread, which tells
//!    │          the peer before anything else happens
//!    ├ port     one per [[port]]
//!    └ worker   as many as each [[worker]] says
//! ```
//!
//! It is small so that its own death is seen at once: the kernel closes its connection to the peer
//! as soon as it has torn one page down, and takes everything below it along (`PR_SET_PDEATHSIG`).

mod backoff;
mod child;
mod events;
mod hooks;
mod notice;
mod plan;
mod service_manager;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hotpair_shm::Source;
use nix::sys::signal::Signal;

use self::child::{Death, Kind, Supervised};
use self::events::Events;
pub(crate) use self::events::sentence;
use self::hooks::Hooks;
pub(crate) use self::notice::LAUNCH;
use self::notice::Notice;
use self::service_manager::ServiceManager;
use crate::config::Config;
use crate::exit::Exit;
use crate::process::{Signals, wait};
use crate::recording;
use crate::region_file;
use crate::report::{Failure, Outcome};

/// Longest sleep: silence of the node is looked at this often.
const TURN: Duration = Duration::from_millis(50);
/// What asked to stop gets this long before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Runs until a signal asks to stop, or until something cannot be started at all.
pub(crate) fn run(config: &Config, json: bool) -> Outcome {
    let signals = Signals::listen()?;
    region_file::make_way(config)?;
    recording::begin(config, Source::Supervisor);
    let events = Events::new(json, config.file.pair.node.letter(), config.region_name());
    let notice = Notice::start(config, &events)?;
    let mut children = vec![Supervised::new(Kind::Node, plan::node(config)?)];
    children.extend(plan::others(config)?);

    let hooks = Hooks::of(config);
    let manager = ServiceManager::of_environment();
    let mut supervisor = Supervisor { signals, events, notice, hooks, manager, children };
    let ended = supervisor.serve();
    supervisor.stop();
    supervisor.notice.ended();
    if !config.file.region.keep {
        region_file::remove(config.region_name());
    }
    ended
}

struct Supervisor {
    signals: Signals,
    events: Events,
    notice: Notice,
    hooks: Hooks,
    manager: ServiceManager,
    children: Vec<Supervised>,
}

impl Supervisor {
    fn serve(&mut self) -> Outcome {
        loop {
            let asked = self.signals.asked();
            if asked.stop {
                return Ok(Exit::Ok);
            }
            if asked.reload {
                self.reload();
            }
            self.start_what_is_due()?;
            self.forward_lines();
            if let Some(exit) = self.bury_the_dead()? {
                return Ok(exit);
            }
            self.kill_a_silent_node();
            self.hooks.turn(&self.events);
            self.events.record_what_waits();
            self.manager.turned();
            self.sleep();
        }
    }

    /// New certificates, for the notices of death and for the node.
    fn reload(&mut self) {
        self.notice.reload();
        for child in self.children.iter_mut().filter(|child| child.kind == Kind::Node) {
            if let Some(process) = child.child() {
                process.signal(Signal::SIGHUP);
            }
        }
    }

    fn start_what_is_due(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        for child in &mut self.children {
            if child.is_due(now) {
                let launch = match child.kind {
                    Kind::Node => Some(self.notice.launch()?),
                    Kind::Port | Kind::Worker => None,
                };
                let pid = child.start(launch)?;
                self.events.started(child.kind.as_str(), child.name(), pid);
            }
        }
        Ok(())
    }

    fn forward_lines(&mut self) {
        for child in &mut self.children {
            for line in child.child().map(|child| child.lines()).unwrap_or_default() {
                self.events.forward(&line);
                self.hooks.hear(&line);
                self.manager.hear(&line);
            }
        }
    }

    /// Gives the exit code when something will never start.
    fn bury_the_dead(&mut self) -> Result<Option<Exit>, Failure> {
        let now = Instant::now();
        for child in &mut self.children {
            match child.look(now) {
                None => {}
                Some(Death::Restarts { pid, how, pause }) => {
                    let kind = child.kind.as_str();
                    self.events.died(kind, child.name(), pid, &how, pause.as_millis());
                    if child.kind == Kind::Node {
                        self.hooks.node_died();
                    }
                }
                Some(Death::Stillborn { exit, failure: None }) => return Ok(Some(exit)),
                Some(Death::Stillborn { exit, failure: Some(failure) }) => {
                    return Err(failure.exit(exit));
                }
            }
        }
        Ok(None)
    }

    fn kill_a_silent_node(&mut self) {
        let Some(silent) = self.notice.silence() else { return };
        for child in self.children.iter_mut().filter(|child| child.kind == Kind::Node) {
            if let Some(process) = child.child() {
                self.events.silent(process.pid(), silent.as_millis());
                process.signal(Signal::SIGKILL);
            }
        }
    }

    fn sleep(&self) {
        let now = Instant::now();
        let due = self.children.iter().filter_map(Supervised::start_at);
        let due = due.chain(self.hooks.wake_at()).min();
        let timeout = due.map_or(TURN, |due| due.saturating_duration_since(now).min(TURN));
        let mut fds = vec![self.signals.as_fd()];
        fds.extend(self.children.iter().filter_map(|child| child.child_ref()?.lines_fd()));
        wait(&fds, timeout);
    }

    /// Users of the region first, its owner last; nobody is waited for without bound.
    fn stop(&mut self) {
        self.manager.stopping();
        for child in &mut self.children {
            child.retire();
        }
        for kinds in [&[Kind::Port, Kind::Worker][..], &[Kind::Node]] {
            let ours = |child: &Supervised| kinds.contains(&child.kind);
            for child in self.children.iter_mut().filter(|child| ours(child)) {
                if let Some(process) = child.child() {
                    process.signal(Signal::SIGTERM);
                }
            }
            let until = Instant::now() + STOP_PATIENCE;
            loop {
                let alive =
                    self.children.iter_mut().filter(|child| ours(child)).any(|child| {
                        child.child().is_some_and(|process| process.ended().is_none())
                    });
                if !alive || Instant::now() >= until {
                    break;
                }
                self.forward_lines();
                wait(&[self.signals.as_fd()], Duration::from_millis(10));
                self.signals.stop_requested();
            }
            for child in self.children.iter_mut().filter(|child| ours(child)) {
                if let Some(process) = child.child() {
                    process.signal(Signal::SIGKILL);
                }
            }
        }
        self.forward_lines();
        self.children.clear(); // waits for those that were killed
    }
}
