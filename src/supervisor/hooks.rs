//! Commands of the user's that follow the role: off every critical path, one at a time, each with a limit of time.
//!
//! ```text
//!   primary, backup, fenced, the node's death ─► wanted ─► runs ─► ended, or killed at its limit
//!                                                  ▲         │
//!                                                  └─────────┘ the newest wish waits, older ones are forgotten
//! ```

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use super::events::Events;
use crate::config::Config;
use crate::process::{Child, Program, describe};

/// What a hook is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Primary,
    Backup,
}

impl Role {
    fn hook(self) -> &'static str {
        match self {
            Role::Primary => "on_primary",
            Role::Backup => "on_backup",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Backup => "backup",
        }
    }
}

/// The hooks of one node.
#[derive(Debug)]
pub(super) struct Hooks {
    on_primary: Option<Program>,
    on_backup: Option<Program>,
    limit: Duration,
    /// What was asked for last.
    role: Option<Role>,
    wanted: Option<(Role, u64)>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    role: Role,
    child: Child,
    since: Instant,
    killed: bool,
}

impl Hooks {
    pub(super) fn of(config: &Config) -> Hooks {
        let service = &config.file.service;
        let dir = config.path.parent().unwrap_or(Path::new("/"));
        let program = |role: Role, command: &Option<toml::Spanned<Vec<String>>>| {
            command.as_ref().map(|command| {
                Program::foreign(format!("hook {}", role.hook()), command.get_ref())
                    .within(dir)
                    .env("HOTPAIR_CONFIG", &config.path)
                    .env("HOTPAIR_NODE", config.file.pair.node.letter())
                    .env("HOTPAIR_ROLE", role.word())
            })
        };
        Hooks {
            on_primary: program(Role::Primary, &service.on_primary),
            on_backup: program(Role::Backup, &service.on_backup),
            limit: service.hook_limit.get_ref().0,
            role: None,
            wanted: None,
            running: None,
        }
    }

    /// Learns from a line of the node's.
    pub(super) fn hear(&mut self, line: &str) {
        if self.on_primary.is_none() && self.on_backup.is_none() {
            return;
        }
        let Ok(event) = serde_json::from_str::<Value>(line) else { return };
        let role = match event["event"].as_str() {
            Some("primary") => Role::Primary,
            Some("backup" | "fenced") => Role::Backup,
            _ => return,
        };
        self.want(role, event["epoch"].as_u64().unwrap_or(0));
    }

    /// A dead node is not primary.
    pub(super) fn node_died(&mut self) {
        if self.role == Some(Role::Primary) {
            self.want(Role::Backup, 0);
        }
    }

    fn want(&mut self, role: Role, epoch: u64) {
        // A primary of a further epoch is a new one; a back-up stays a back-up.
        if self.role == Some(role) && role == Role::Backup {
            return;
        }
        self.role = Some(role);
        self.wanted = Some((role, epoch));
    }

    /// When there may be something to do without an event.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let running = self.running.as_ref().filter(|running| !running.killed)?;
        Some(running.since + self.limit)
    }

    /// Starts, buries and kills what is due.
    pub(super) fn turn(&mut self, events: &Events) {
        if let Some(running) = &mut self.running {
            let took = running.since.elapsed();
            match running.child.ended() {
                Some(status) if running.killed => {
                    events.hook_ended(running.role.hook(), &format!("killed after {took:?}"), took);
                    tracing::debug!(?status, "the hook is gone");
                    self.running = None;
                }
                Some(status) => {
                    events.hook_ended(running.role.hook(), &describe(status), took);
                    self.running = None;
                }
                None if took >= self.limit && !running.killed => {
                    running.killed = true;
                    // With whatever it has started: a hook's child is the leader of its group.
                    let _ = killpg(Pid::from_raw(running.child.pid()), Signal::SIGKILL);
                }
                None => {}
            }
        }
        if self.running.is_some() {
            return;
        }
        let Some((role, epoch)) = self.wanted.take() else { return };
        let program = match role {
            Role::Primary => &self.on_primary,
            Role::Backup => &self.on_backup,
        };
        let Some(program) = program else { return };
        match program.clone().env("HOTPAIR_EPOCH", epoch.to_string()).start() {
            Ok(child) => {
                let since = Instant::now();
                self.running = Some(Running { role, child, since, killed: false });
            }
            Err(failure) => events.hook_ended(
                role.hook(),
                &format!("not started: {}", failure.to_string().trim_end().replace('\n', "; ")),
                Duration::ZERO,
            ),
        }
    }
}
