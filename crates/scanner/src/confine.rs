//! What a process that reads hostile data may do: read the image, write to its scratch folder and to
//! its two pipes, and nothing else.
//!
//! Limits of resources and the filter of system calls always hold; landlock(7) holds where the
//! kernel has it (5.13 and later), and it is told whether it does.

use std::collections::BTreeMap;
use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use portcullis_inventory::protocol::{Job, Source, StoredLayer};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Why a process cannot be confined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfineError {
    /// A limit or privilege.
    #[error("the scanner's {0} cannot be limited")]
    Limit(&'static str, #[source] io::Error),
    /// The files it may read.
    #[error("the scanner's files cannot be limited")]
    Landlock(#[from] RulesetError),
    /// The system calls it may make.
    #[error("the scanner's system calls cannot be limited")]
    Seccomp(#[from] seccompiler::Error),
    /// The processor is not known.
    #[error("the scanner's system calls cannot be limited on this processor")]
    Processor(#[from] seccompiler::BackendError),
}

/// Confines this process, for good. Gives the names of what confines it.
///
/// # Errors
/// [`ConfineError`]: then nothing hostile must be read.
pub fn enter(job: &Job) -> Result<Vec<String>, ConfineError> {
    limits(job)?;
    let mut confined = vec!["rlimits".to_owned()];
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| ConfineError::Limit("privileges", error.into()))?;
    // Files of other users are read, and nothing else that root may do. Whoever is not root has
    // nothing to give up.
    if rustix::process::geteuid().is_root() {
        let mut only = CapabilitySet::DAC_READ_SEARCH;
        if has_overlays(&job.source) {
            // Or the marks of overlayfs, which are trusted extended attributes (xattr(7)), would not
            // be seen: what an upper layer takes away would be there again. The filter of system
            // calls leaves little else that this privilege is good for.
            only |= CapabilitySet::SYS_ADMIN;
        }
        let sets = CapabilitySets {
            effective: only,
            permitted: only,
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, sets)
            .map_err(|error| ConfineError::Limit("privileges", error.into()))?;
        confined.push("capabilities".to_owned());
    }
    match files(job)? {
        RulesetStatus::FullyEnforced => confined.push("landlock".to_owned()),
        RulesetStatus::PartiallyEnforced => confined.push("landlock of an older kernel".to_owned()),
        RulesetStatus::NotEnforced => {}
    }
    calls()?;
    confined.push("seccomp".to_owned());
    Ok(confined)
}

/// Whether layers are read as overlayfs keeps them.
fn has_overlays(source: &Source) -> bool {
    let Source::Stored { layers, .. } = source else { return false };
    layers.iter().any(|layer| matches!(layer, StoredLayer::Folder(_)))
}

fn limits(job: &Job) -> Result<(), ConfineError> {
    let set = |resource, what, most: u64| {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(resource, limit).map_err(|error| ConfineError::Limit(what, error.into()))
    };
    set(Resource::As, "memory", job.limits.memory)?;
    set(Resource::Cpu, "time", job.limits.seconds)?;
    set(Resource::Fsize, "scratch files", job.limits.file_bytes)?;
    set(Resource::Core, "core files", 0)?;
    set(Resource::Nofile, "open files", 1024)
}

fn files(job: &Job) -> Result<RulesetStatus, ConfineError> {
    let abi = ABI::V6;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?;
    let stored = |layer: &StoredLayer| match layer {
        StoredLayer::Archive(path) | StoredLayer::Folder(path) => path.clone(),
    };
    let paths = match &job.source {
        Source::Layout(path)
        | Source::Blobs { folder: path, .. }
        | Source::Archive(path)
        | Source::Root(path) => vec![path.clone()],
        Source::Stored { layers, .. } => layers.iter().map(stored).collect(),
    };
    for path in paths {
        // What is not there is told when it is opened.
        let Ok(open) = PathFd::new(&path) else { continue };
        let access = match path.is_dir() {
            true => AccessFs::from_read(abi) & !AccessFs::Execute,
            false => AccessFs::ReadFile.into(),
        };
        ruleset = ruleset.add_rule(PathBeneath::new(open, access))?;
    }
    if let Ok(open) = PathFd::new(&job.scratch) {
        let access =
            AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::Truncate;
        ruleset = ruleset.add_rule(PathBeneath::new(open, access))?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
}

/// The system calls of reading, of memory, and of telling the time. Every other one fails with
/// EPERM: no sockets, no processes, no other identities, no mounts.
fn calls() -> Result<(), ConfineError> {
    let mut allowed = vec![
        libc::SYS_read,
        libc::SYS_pread64,
        libc::SYS_readv,
        libc::SYS_preadv,
        libc::SYS_write,
        libc::SYS_pwrite64,
        libc::SYS_writev,
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_close,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_lseek,
        libc::SYS_getdents64,
        libc::SYS_readlinkat,
        libc::SYS_fgetxattr,
        libc::SYS_ftruncate,
        libc::SYS_fcntl,
        libc::SYS_dup,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_gettimeofday,
        libc::SYS_getrandom,
        libc::SYS_getpid,
        libc::SYS_gettid,
        // To abort.
        libc::SYS_tgkill,
        libc::SYS_exit,
        libc::SYS_exit_group,
        // On connections that were given.
        libc::SYS_recvmsg,
        libc::SYS_recvfrom,
        libc::SYS_sendto,
        libc::SYS_shutdown,
        libc::SYS_setsockopt,
        libc::SYS_getsockopt,
        libc::SYS_ppoll,
    ];
    #[cfg(target_arch = "x86_64")]
    allowed.push(libc::SYS_poll);
    allowed.sort_unstable();
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        allowed.into_iter().map(|call| (call, Vec::new())).collect();
    // From 100 on are those that take pages from the whole system (MADV_HWPOISON).
    let advice = SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::Lt, 100)?;
    rules.insert(libc::SYS_madvise, vec![SeccompRule::new(vec![advice])?]);
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, architecture)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}
