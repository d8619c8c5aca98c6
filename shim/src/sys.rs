//! The only `unsafe` of this crate, for what has no safe form: the fork that makes the daemon and
//! the one that makes a user namespace, the prctl that gives a scheduling core, mount_setattr(2),
//! descriptors of a child at fixed numbers, and a descriptor in the runtime's reactor.

#![allow(unsafe_code, reason = "see each block; this file holds nothing else")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

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

/// Gives these descriptors to a child, at 3 and the numbers behind it.
///
/// Three of them and a pipe for each keep 3 to 5 busy in this process, so that none of these is
/// the pipe by which the child tells that its program cannot be run.
pub(crate) fn give_descriptors(command: &mut Command, descriptors: [OwnedFd; 3]) {
    const FIRST: libc::c_int = 3;
    let give = move || {
        // All are moved out of the way first: one may stand where another is to be.
        let mut high = [-1; 3];
        for (high, descriptor) in high.iter_mut().zip(&descriptors) {
            // SAFETY: the descriptor is open for as long as this closure lives.
            *high =
                unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, FIRST + 3) };
            if *high < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        for (high, number) in high.into_iter().zip(FIRST..) {
            // SAFETY: it was just opened; what stands at the number is this child's own copy of
            // something of the parent's, which the program was not to get.
            if unsafe { libc::dup2(high, number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure calls fcntl and dup2 only, which are safe there, and
    // touches no memory but its own.
    unsafe { command.pre_exec(give) };
}

/// A process in a new user namespace without mappings, which ends when the socket is dropped. It
/// is reaped as every child is.
///
/// # Errors
/// If the system makes no process or no namespace.
pub(crate) fn user_namespace() -> io::Result<(rustix::process::Pid, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    // SAFETY: the child of a process with many threads calls nothing but close, unshare, write,
    // read and _exit, which are safe there, and touches no memory but its own.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let socket = theirs.as_raw_fd();
        let mut byte = 0_u8;
        let space = std::ptr::from_mut(&mut byte).cast();
        // SAFETY: as above; `space` is one byte of this process' copy of the stack.
        unsafe {
            // The parent's end must be the parent's alone: its end is this process' end.
            libc::close(ours.as_raw_fd());
            if libc::unshare(libc::CLONE_NEWUSER) == 0 && libc::write(socket, space, 1) == 1 {
                while libc::read(socket, space, 1) > 0 {}
            }
            libc::_exit(0)
        }
    }
    match rustix::process::Pid::from_raw(child).filter(|_| child > 0) {
        Some(pid) => Ok((pid, ours)),
        None => Err(io::Error::last_os_error()),
    }
}

/// Sets and clears attributes of a detached mount and of all below it, and maps its ids by a user
/// namespace, if one is given (mount_setattr(2)).
///
/// # Errors
/// As mount_setattr(2): the kernel or the file system may not map ids.
pub(crate) fn set_mount_attributes(
    tree: &OwnedFd,
    set: u64,
    namespace: Option<&OwnedFd>,
) -> io::Result<()> {
    let mut attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    if let Some(namespace) = namespace {
        attributes.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attributes.userns_fd = u64::try_from(namespace.as_raw_fd()).map_err(io::Error::other)?;
    }
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a C string, and the last two arguments are a struct of the kernel's own
    // form and its size.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(&attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
