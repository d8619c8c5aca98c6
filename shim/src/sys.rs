//! The only `unsafe` of this crate, for what has no safe form: the fork that makes the daemon, the
//! prctl that gives it a scheduling core of its own, and a descriptor in the runtime's reactor.

#![allow(unsafe_code, reason = "see each block; this file holds nothing else")]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Which side of a fork this is.
pub(crate) enum Side {
    /// The process that called, with the child's pid.
    Parent(rustix::process::Pid),
    /// The new process.
    Child,
}

/// Forks this process, which must have one thread only.
///
/// # Errors
/// If the system has no room for a process, or if more than one thread runs: a child of such a
/// process could wait for ever on a lock that nobody holds any more.
pub(crate) fn fork() -> io::Result<Side> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("cannot fork with {threads} threads")));
    }
    // SAFETY: this is the only thread, checked above, so the child has all that the parent had and
    // no lock is held by a thread that is missing there.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        child => rustix::process::Pid::from_raw(child)
            .map(Side::Parent)
            .ok_or_else(|| io::Error::other("fork(2) returned no pid")),
    }
}

/// Gives this process and its children a scheduling core of their own (`SCHED_CORE`, prctl(2)).
///
/// # Errors
/// If the kernel has no core scheduling.
pub(crate) fn own_scheduling_core() -> io::Result<()> {
    const PROCESS_GROUP: libc::c_ulong = 2;
    const NONE: libc::c_ulong = 0;
    let create = libc::PR_SCHED_CORE_CREATE as libc::c_ulong;
    // SAFETY: with this operation prctl takes four integers and touches no memory of ours.
    let done = unsafe { libc::prctl(libc::PR_SCHED_CORE, create, NONE, PROCESS_GROUP, NONE) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a signal, real-time ones too, to one process.
///
/// # Errors
/// As kill(2).
pub(crate) fn kill(pid: rustix::process::Pid, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes two integers and touches no memory of ours; the pid is one process', not
    // a group's.
    match unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets the runtime watch a descriptor.
///
/// # Errors
/// If the reactor does not take it.
pub(crate) fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stays the same open descriptor for as long as it lives, and the
    // registration owns it.
    Ok(unsafe { AsyncFd::register(fd) }?)
}
