//! The second process of a bench: this very program again, on the other core.
//!
//! It is started as `hotpair bench-helper PARENT PAGE CORE PART ARGUMENT…`, asks the kernel to be killed
//! with its parent, maps the page that the two share, and does what its part says.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

use crate::options::Options;
use crate::page::{Page, SharedPage};
use crate::registry::BenchError;
use crate::{contend, cost, handoff, processes, queue_wait, reap, replay, udp};

/// The hidden command of the program.
const COMMAND: &str = "bench-helper";

/// The order to end.
const END: u8 = 0;

/// Looks between two checks that the other process lives.
const LOOKS: u32 = 1 << 14;

type Part = fn(&Page, &[String]) -> Result<(), BenchError>;

const PARTS: &[(&str, Part)] = &[
    ("send", handoff::send),
    ("work", contend::work_along),
    ("arrive", queue_wait::arrive),
    ("hold", reap::hold),
    ("map", reap::map),
    ("program", processes::become_program),
    ("sleeper", cost::sleep),
    ("replay-work", replay::work),
    ("udp-port", udp::port),
    ("udp-work", udp::work),
    ("udp-answer", udp::answer),
    ("udp-turn-round", udp::turn_round),
];

/// A running helper. Dropping it ends it.
pub(crate) struct Helper {
    child: Child,
    page: Arc<SharedPage>,
    orders: u64,
}

impl Helper {
    /// Starts one for `part` on `core` and returns once it is ready. To be called from a thread that
    /// lives as long as the process: the kernel kills the helper with the thread that started it.
    pub(crate) fn start(
        options: &Options,
        core: Core,
        part: &str,
        arguments: &[String],
    ) -> Result<Helper, BenchError> {
        let failed = || BenchError::setup("start the second process");
        let program = options.program()?;
        let page = Arc::new(SharedPage::create()?);
        let child = Command::new(program)
            // What a part is told may look like a flag of ours.
            .args([COMMAND, "--"])
            .args([std::process::id().to_string(), page.number().to_string()])
            .args([core.0.to_string(), part.to_owned()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // A Ctrl-C is for us alone; the helper ends with us.
            .process_group(0)
            .spawn()
            .map_err(failed())?;
        let mut helper = Helper { child, page, orders: 0 };
        helper.order(READY);
        helper.finish()?;
        Ok(helper)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the two share.
    pub(crate) fn page(&self) -> &Page {
        &self.page
    }

    /// The same, to keep.
    pub(crate) fn share(&self) -> Arc<SharedPage> {
        Arc::clone(&self.page)
    }

    /// Tells it to do something. It has finished what it was told before.
    pub(crate) fn order(&mut self, what: u8) {
        self.orders += 1;
        self.page.order.store(self.orders << 8 | u64::from(what), Ordering::Release);
    }

    /// Waits, looking again and again, until it has done what it was told.
    pub(crate) fn finish(&mut self) -> Result<(), BenchError> {
        loop {
            for _ in 0..LOOKS {
                if self.page.done.load(Ordering::Acquire) == self.orders {
                    return Ok(());
                }
                std::hint::spin_loop();
            }
            self.check()?;
        }
    }

    /// An error if it has ended.
    pub(crate) fn check(&mut self) -> Result<(), BenchError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                Err(BenchError::setup("keep the second process")(format!("it ended: {status}")))
            }
            Err(error) => Err(BenchError::setup("watch the second process")(error)),
        }
    }

    /// Kills it, and returns at once: the kernel has yet to take it apart.
    pub(crate) fn kill(&mut self) -> Result<(), BenchError> {
        self.child.kill().map_err(BenchError::setup("kill the second process"))
    }

    /// Waits until the kernel has taken it apart.
    pub(crate) fn bury(&mut self) -> Result<(), BenchError> {
        self.child.wait().map(drop).map_err(BenchError::setup("wait for the second process"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.order(END);
        // What it holds (a region's seat, another program's files) it gives back if it can.
        for _ in 0..PATIENCE_MS {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long a helper may take to leave.
const PATIENCE_MS: u32 = 500;

/// The order that every part answers by being there.
const READY: u8 = u8::MAX;

/// What the program does when it is started as a helper.
pub fn help(arguments: &[String]) -> Result<(), BenchError> {
    let bad =
        || BenchError::setup("help with a bench")("this command is for `hotpair bench` alone");
    let [parent, page, core, part, arguments @ ..] = arguments else {
        return Err(bad());
    };
    let numbers = (parent.parse(), page.parse(), core.parse());
    let (Ok(parent), Ok(page), Ok(core)) = numbers else {
        return Err(bad());
    };
    let (_, part) = PARTS.iter().find(|(name, _)| name == part).ok_or_else(bad)?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(BenchError::setup("be killed with the bench"))?;
    // It may have died before the wish was made, and then nobody will ever kill us.
    if u32::try_from(getppid().as_raw()) != Ok(parent) {
        return Err(BenchError::setup("help with a bench")("it is gone"));
    }
    Core(core).pin()?;
    part(&*SharedPage::open(parent, page)?, arguments)
}

/// Carries out orders until the last one.
pub(crate) fn obey(
    page: &Page,
    mut carry_out: impl FnMut(u8) -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    let mut seen = 0;
    loop {
        let order = page.order.load(Ordering::Acquire);
        if order == seen {
            std::hint::spin_loop();
            continue;
        }
        seen = order;
        match order as u8 {
            END => return Ok(()),
            READY => {}
            what => carry_out(what)?,
        }
        page.done.store(order >> 8, Ordering::Release);
    }
}

/// Says that the part is there, for one that obeys in another way afterwards: by being killed.
pub(crate) fn ready(page: &Page) {
    let mut order = page.order.load(Ordering::Acquire);
    while order == 0 {
        std::thread::sleep(Duration::from_millis(1));
        order = page.order.load(Ordering::Acquire);
    }
    page.done.store(order >> 8, Ordering::Release);
}

/// Carries out orders for a part whose only order is the last: it looks rarely, and sleeps between.
pub(crate) fn obey_asleep(page: &Page) -> Result<(), BenchError> {
    loop {
        let order = page.order.load(Ordering::Acquire);
        match (order, order as u8) {
            // It was not told anything yet: a process can be faster than the one that started it.
            (0, _) => std::thread::sleep(Duration::from_millis(1)),
            (_, END) => return Ok(()),
            _ => {
                page.done.store(order >> 8, Ordering::Release);
                std::thread::sleep(NAP);
            }
        }
    }
}

/// Between two looks of a part that sleeps.
const NAP: Duration = Duration::from_millis(100);

/// A core of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Core(usize);

impl Core {
    /// Two that this process may use. Processes that wait by looking need one each.
    pub(crate) fn two() -> Result<[Core; 2], BenchError> {
        let allowed = affinity()?;
        let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core) == Ok(true));
        match (cores.next(), cores.next()) {
            (Some(one), Some(two)) => Ok([Core(one), Core(two)]),
            _ => Err(BenchError::setup("find two cores")("this process may use only one")),
        }
    }

    /// The first that this process may use.
    pub(crate) fn any() -> Result<Core, BenchError> {
        let allowed = affinity()?;
        let first = (0..CpuSet::count()).find(|core| allowed.is_set(*core) == Ok(true));
        first.map(Core).ok_or_else(|| BenchError::setup("find a core")("this process may use none"))
    }

    /// Two, or none: for benches of two hosts, which also run where there is one core, just not as such.
    pub(crate) fn for_hosts() -> [Option<Core>; 2] {
        Core::two().map_or([None; 2], |cores| cores.map(Some))
    }

    /// Binds this thread to it, and those that it will start.
    fn pin(self) -> Result<(), BenchError> {
        let mut set = CpuSet::new();
        set.set(self.0)
            .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
            .map_err(BenchError::setup("bind a thread to a core"))
    }

    /// Binds this thread to it for a while.
    pub(crate) fn hold(self) -> Result<Pinned, BenchError> {
        let before = affinity()?;
        self.pin()?;
        Ok(Pinned { before })
    }
}

fn affinity() -> Result<CpuSet, BenchError> {
    sched_getaffinity(Pid::from_raw(0)).map_err(BenchError::setup("ask for this process's cores"))
}

/// A thread that is bound to a core until this is dropped.
pub(crate) struct Pinned {
    before: CpuSet,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a helper that is there before its first order waits for it, and does not take no order for the last one.
    #[test]
    fn no_order_is_not_the_last_one() {
        let page = SharedPage::create().expect("memory");
        std::thread::scope(|scope| {
            let helper = scope.spawn(|| obey_asleep(&page));
            let first_look = Duration::from_millis(20);
            std::thread::sleep(first_look);
            assert!(!helper.is_finished(), "it has not been told to end");
            page.order.store(1 << 8 | u64::from(READY), Ordering::Release);
            while page.done.load(Ordering::Acquire) != 1 {
                std::thread::yield_now();
            }
            page.order.store(2 << 8 | u64::from(END), Ordering::Release);
            helper.join().expect("it does not panic").expect("it ends");
        });
    }

    #[test]
    fn a_command_line_of_somebody_else_is_refused() {
        for line in ["", "1 2 3", "x 0 0 send", "1 0 0 nonsense"] {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert!(help(&arguments).is_err(), "{line}");
        }
    }
}
