//! What a port gives up once it has its socket: it reads what strangers send, and needs next to nothing for that.
//!
//! ```text
//!   open sockets, files ─► other user, if one is named ─► no capability ─► no new privileges ─► few system calls ─► read
//! ```
//!
//! A port that is taken over by a packet can do to the region what any port can, and to the rest of the machine little: it
//! starts no program, opens no connection, makes no raw socket, traces and signals nobody, mounts and loads nothing. A system
//! call that is not listed fails with `EPERM`; it does not kill, because a port that ends is started again and again.

#![expect(unsafe_code, reason = "capset(2) has no safe spelling here")]

use std::collections::BTreeMap;
use std::io;

use nix::sys::prctl;
use nix::unistd::{User, getppid, getuid, setgid, setgroups, setuid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// What a process gives up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Whom it becomes, if it may choose: the region's file must be open to that user.
    pub user: Option<String>,
    /// Capabilities and most system calls stay as they are: only the user changes.
    pub lenient: bool,
}

/// Why a process could not give something up. It should end: some of it may be gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfineError {
    /// There is no such user.
    #[error("there is no user `{name}`")]
    NoSuchUser {
        /// What was given.
        name: String,
    },
    /// Only root may become somebody else.
    #[error("this process is of user {own}, and only root can become `{name}`")]
    NotRoot {
        /// Who it is.
        own: u32,
        /// Who it was to become.
        name: String,
    },
    /// The kernel refused.
    #[error("cannot {action}")]
    Os {
        /// What.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The filter of system calls.
    #[error("cannot limit the system calls: {why}")]
    Filter {
        /// What is wrong.
        why: String,
    },
}

impl Confinement {
    /// Gives it up, for this thread and those that it starts. To be called before others are started, and after everything is
    /// open: see [`OpenPort`](crate::OpenPort).
    ///
    /// # Errors
    /// When something cannot be given up.
    pub fn apply(&self) -> Result<(), ConfineError> {
        if let Some(name) = &self.user {
            become_user(name)?;
        }
        if self.lenient {
            return Ok(());
        }
        drop_capabilities().map_err(os("give up capabilities"))?;
        prctl::set_no_new_privs().map_err(|errno| os("give up new privileges")(errno.into()))?;
        for program in programs().map_err(|why| ConfineError::Filter { why })? {
            seccompiler::apply_filter(&program)
                .map_err(|error| ConfineError::Filter { why: error.to_string() })?;
        }
        Ok(())
    }
}

fn os(action: &'static str) -> impl Fn(io::Error) -> ConfineError {
    move |source| ConfineError::Os { action, source }
}

fn become_user(name: &str) -> Result<(), ConfineError> {
    let failed = |action| move |errno: nix::errno::Errno| os(action)(errno.into());
    let user = User::from_name(name).map_err(failed("look the user up"))?;
    let user = user.ok_or_else(|| ConfineError::NoSuchUser { name: name.to_owned() })?;
    if user.uid == getuid() {
        return Ok(());
    }
    if !getuid().is_root() {
        let own = getuid().as_raw();
        return Err(ConfineError::NotRoot { own, name: name.to_owned() });
    }
    // The kernel forgets with the user that this process is to end with its parent.
    let with_parent = prctl::get_pdeathsig().map_err(failed("ask what ends this process"))?;
    let parent = getppid();
    setgroups(&[user.gid]).map_err(failed("leave root's groups"))?;
    setgid(user.gid).map_err(failed("change the group"))?;
    setuid(user.uid).map_err(failed("change the user"))?;
    prctl::set_pdeathsig(with_parent).map_err(failed("end with its parent"))?;
    if with_parent.is_some() && getppid() != parent {
        return Err(os("outlive its parent")(io::Error::from_raw_os_error(libc::ESRCH)));
    }
    Ok(())
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`: 32 capabilities each.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilitySet {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

fn drop_capabilities() -> io::Result<()> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let none = [CapabilitySet::default(); 2];
    // SAFETY: the kernel reads a header of this version and, of that version, two sets; both are alive for the call, and it
    // keeps no pointer to them.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What a port, the region, and the standard library need.
#[rustfmt::skip]
const NEEDED: &[i64] = &[
    // Memory and threads.
    libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise, libc::SYS_brk,
    libc::SYS_mlock, libc::SYS_mlock2, libc::SYS_munlock, libc::SYS_futex, libc::SYS_futex_waitv,
    libc::SYS_set_robust_list, libc::SYS_get_robust_list, libc::SYS_set_tid_address, libc::SYS_rseq, libc::SYS_membarrier,
    libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_getcpu, libc::SYS_prctl, libc::SYS_prlimit64,
    libc::SYS_exit, libc::SYS_exit_group, libc::SYS_restart_syscall,
    // Signals to itself.
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack, libc::SYS_signalfd4,
    // Time, chance, and who it is.
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep, libc::SYS_nanosleep, libc::SYS_gettimeofday,
    libc::SYS_getrandom, libc::SYS_getpid, libc::SYS_gettid, libc::SYS_getppid, libc::SYS_getuid, libc::SYS_geteuid,
    libc::SYS_getgid, libc::SYS_getegid, libc::SYS_uname,
    // Files: the region, which may be replaced, and what the kernel tells of processes.
    libc::SYS_openat, libc::SYS_close, libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev,
    libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_lseek, libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx,
    libc::SYS_fstatfs, libc::SYS_statfs, libc::SYS_readlinkat, libc::SYS_getdents64, libc::SYS_faccessat, libc::SYS_flock,
    libc::SYS_fcntl, libc::SYS_dup, libc::SYS_dup3, libc::SYS_unlinkat, libc::SYS_pidfd_open, libc::SYS_eventfd2, libc::SYS_pipe2,
    // Packets.
    libc::SYS_bind, libc::SYS_connect, libc::SYS_listen, libc::SYS_accept4, libc::SYS_shutdown, libc::SYS_socketpair,
    libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_sendmmsg, libc::SYS_recvmmsg,
    libc::SYS_setsockopt, libc::SYS_getsockopt, libc::SYS_getsockname, libc::SYS_getpeername,
    libc::SYS_ppoll, libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait,
];

/// The same, of architectures that have older forms as well.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const NEEDED_HERE: &[i64] = &[
    libc::SYS_poll, libc::SYS_epoll_wait, libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access,
    libc::SYS_readlink, libc::SYS_unlink, libc::SYS_dup2, libc::SYS_pipe, libc::SYS_time, libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const NEEDED_HERE: &[i64] = &[];

/// The new thread is one of this process.
const THREAD_FLAGS: u64 = (libc::CLONE_THREAD | libc::CLONE_VM) as u64;
const SOCKET_KIND: u64 = 0xf;

/// One that hides a call whose arguments no filter can see, and one that lets through what is needed.
fn programs() -> Result<[BpfProgram; 2], String> {
    let text = |error: seccompiler::BackendError| error.to_string();
    let arch: TargetArch = std::env::consts::ARCH.try_into().map_err(text)?;
    let is = |index, op, value| {
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, op, value).map_err(text)
    };
    let rule = |conditions| SeccompRule::new(conditions).map_err(text);

    let mut needed: BTreeMap<i64, Vec<SeccompRule>> =
        NEEDED.iter().chain(NEEDED_HERE).map(|&call| (call, Vec::new())).collect();
    // Threads, and no processes.
    let thread = is(0, SeccompCmpOp::MaskedEq(THREAD_FLAGS), THREAD_FLAGS)?;
    needed.insert(libc::SYS_clone, vec![rule(vec![thread])?]);
    needed.insert(libc::SYS_clone3, Vec::new());
    // Sockets: the bells of the region, and what asks whether an address is here.
    let datagrams = |family: libc::c_int| {
        rule(vec![
            is(0, SeccompCmpOp::Eq, family as u64)?,
            is(1, SeccompCmpOp::MaskedEq(SOCKET_KIND), libc::SOCK_DGRAM as u64)?,
        ])
    };
    let unix = rule(vec![is(0, SeccompCmpOp::Eq, libc::AF_UNIX as u64)?])?;
    let sockets = vec![unix, datagrams(libc::AF_INET)?, datagrams(libc::AF_INET6)?];
    needed.insert(libc::SYS_socket, sockets);
    // Whether standard output is a terminal, and that a socket does not block.
    let controls = [
        u64::from(libc::TCGETS as u32),
        u64::from(libc::FIONBIO as u32),
        u64::from(libc::FIOCLEX as u32),
    ]
    .map(|request| rule(vec![is(1, SeccompCmpOp::Eq, request & 0xffff_ffff)?]));
    let controls = controls.into_iter().collect::<Result<Vec<_>, String>>()?;
    needed.insert(libc::SYS_ioctl, controls);
    // Its own end, as of a panic that aborts.
    let own = is(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?;
    needed.insert(libc::SYS_tgkill, vec![rule(vec![own])?]);

    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let needed = SeccompFilter::new(needed, refuse, SeccompAction::Allow, arch).map_err(text)?;
    // clone3 has its flags in memory. Who hears that there is none uses clone.
    let hidden = [(libc::SYS_clone3, Vec::new())].into_iter().collect();
    let absent = SeccompAction::Errno(libc::ENOSYS as u32);
    let hidden = SeccompFilter::new(hidden, SeccompAction::Allow, absent, arch).map_err(text)?;
    // The one that forbids further filters comes last.
    Ok([hidden.try_into().map_err(text)?, needed.try_into().map_err(text)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_can_be_built() {
        assert_eq!(programs().expect("a filter").len(), 2);
    }

    #[test]
    fn an_unknown_user_is_named() {
        let user = Some("nobody-of-this-name".to_owned());
        let error = Confinement { user, lenient: true }.apply().expect_err("unknown");
        assert!(error.to_string().contains("nobody-of-this-name"), "{error}");
    }
}
