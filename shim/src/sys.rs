//! The only `unsafe` of this crate, for what has no safe form: the fork that makes the daemon and
//! the one that makes a user namespace, the prctl that gives a scheduling core, mount_setattr(2),
//! descriptors of a child at fixed numbers, a descriptor in the runtime's reactor, and the exec by
//! which the wrapper becomes the runtime with all that it was given.

#![allow(unsafe_code, reason = "see each block; this file holds nothing else")]

use std::ffi::{CString, OsString, c_char};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::ptr;

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

/// Gives memory back to the kernel that is free and would be kept for the next use of it.
pub(crate) fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number, and releases nothing that is in use; it may be called at any
    // time by any thread (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
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
        let space = ptr::from_mut(&mut byte).cast();
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
            ptr::from_ref(&attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Opens `/dev/null` for each of the three streams that is closed, so that nothing else that is
/// opened takes its number. It closes again with an exec.
pub(crate) fn fill_streams() {
    for stream in 0..=2 {
        // SAFETY: F_GETFD takes integers only, and a closed descriptor is an error and no harm.
        let closed = unsafe { libc::fcntl(stream, libc::F_GETFD) } == -1;
        if closed {
            // SAFETY: the path is a C string that lives for ever. The lowest free number, which is
            // this stream's, is meant to stay open: nothing owns it.
            let _taken =
                unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        }
    }
}

/// What SIGPIPE did before it was ignored.
pub(crate) struct PipeSignal(libc::sigaction);

impl PipeSignal {
    /// Ignores SIGPIPE.
    pub(crate) fn ignored() -> Self {
        // SAFETY: a sigaction of zeros is the default action with an empty mask, a valid value; the
        // kernel reads the first and writes the second, and both live through the call.
        unsafe {
            let mut ignore: libc::sigaction = std::mem::zeroed();
            ignore.sa_sigaction = libc::SIG_IGN;
            let mut before: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGPIPE, &raw const ignore, &raw mut before);
            Self(before)
        }
    }

    /// As it was before.
    pub(crate) fn put_back(self) {
        // SAFETY: the value came from the kernel; nothing is written.
        unsafe { libc::sigaction(libc::SIGPIPE, &raw const self.0, ptr::null_mut()) };
    }
}

/// Becomes another program, with its path as its name, these arguments and this process'
/// environment, to which `mark` (`NAME=value`) is added. Signals, masks and descriptors stay as
/// they are. Returns only why it failed.
pub(crate) fn exec(program: &Path, args: &[OsString], mark: Option<&str>) -> io::Error {
    let text = |bytes: &[u8]| CString::new(bytes);
    let pointers = |texts: &[CString]| -> Vec<*const c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    };
    let words = std::iter::once(text(program.as_os_str().as_bytes()))
        .chain(args.iter().map(|arg| text(arg.as_bytes())))
        .collect::<Result<Vec<_>, _>>();
    let Ok(words) = words else {
        return io::Error::new(io::ErrorKind::InvalidInput, "an argument has a NUL byte");
    };
    let argv = pointers(&words);
    let Some(mark) = mark else {
        // SAFETY: the list ends with a null pointer, and it and the texts that it points to live
        // through the call; it does not return unless it fails, and then nothing has changed.
        unsafe { libc::execv(argv[0], argv.as_ptr()) };
        return io::Error::last_os_error();
    };
    // The first of two wins, so one that came in goes.
    let name = mark.split('=').next().unwrap_or_default();
    let environment = std::env::vars_os()
        .filter(|(of, _)| of.as_bytes() != name.as_bytes())
        .map(|(name, value)| text(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
        .chain([text(mark.as_bytes())])
        .collect::<Result<Vec<_>, _>>()
        .unwrap_or_default();
    let envp = pointers(&environment);
    // SAFETY: as above, for both lists.
    unsafe { libc::execve(argv[0], argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}
