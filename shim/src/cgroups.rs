//! A container's cgroup: its statistics and its out-of-memory kills, on v1 and on v2.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use containerd_shim_protos::cgroups::metrics as v1;
use containerd_shim_protos::cgroups_v2::metrics as v2;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use rustix::event::EventfdFlags;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use crate::events::any;
use crate::sys::watched;

/// The cgroup of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cgroup {
    /// Controller and folder, for each controller that is mounted.
    V1(Vec<(String, PathBuf)>),
    /// The one folder.
    V2(PathBuf),
}

impl Cgroup {
    /// The cgroup that a process is in.
    ///
    /// # Errors
    /// If `/proc` does not say, or the hierarchy is not mounted.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let of_process = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        Self::parse(&of_process, &mounts).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "no cgroup hierarchy is mounted")
        })
    }

    /// From `/proc/<pid>/cgroup` and `/proc/self/mountinfo` (cgroups(7), proc_pid_mountinfo(5)).
    fn parse(of_process: &str, mounts: &str) -> Option<Self> {
        let mut controllers = Vec::new();
        let mut unified = None;
        for line in of_process.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if names.is_empty() {
                unified = mount_of(mounts, None).map(|m| m.join(path));
            }
            for name in names.split(',').filter(|n| !n.is_empty() && !n.contains('=')) {
                if let Some(mount) = mount_of(mounts, Some(name)) {
                    controllers.push((name.to_owned(), mount.join(path)));
                }
            }
        }
        match controllers.is_empty() {
            false => Some(Self::V1(controllers)),
            true => unified.map(Self::V2),
        }
    }

    /// Statistics as containerd's clients read them.
    pub(crate) fn metrics(&self) -> Any {
        match self {
            Self::V1(_) => any(&self.metrics_v1()),
            Self::V2(folder) => any(&metrics_v2(folder)),
        }
    }

    fn controller(&self, name: &str) -> Option<&Path> {
        match self {
            Self::V1(all) => all.iter().find(|(n, _)| n == name).map(|(_, path)| path.as_path()),
            Self::V2(_) => None,
        }
    }

    fn metrics_v1(&self) -> v1::Metrics {
        let mut metrics = v1::Metrics::new();
        if let Some(folder) = self.controller("cpuacct") {
            let cpu = metrics.cpu.mut_or_insert_default();
            let usage = cpu.usage.mut_or_insert_default();
            usage.total = number(folder, "cpuacct.usage");
            usage.user = number(folder, "cpuacct.usage_user");
            usage.kernel = number(folder, "cpuacct.usage_sys");
            usage.per_cpu = text(folder, "cpuacct.usage_percpu")
                .split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect();
        }
        if let Some(folder) = self.controller("cpu") {
            let stat = Table::read(folder, "cpu.stat");
            let cpu = metrics.cpu.mut_or_insert_default();
            let throttling = cpu.throttling.mut_or_insert_default();
            throttling.periods = stat.get("nr_periods");
            throttling.throttled_periods = stat.get("nr_throttled");
            throttling.throttled_time = stat.get("throttled_time");
        }
        if let Some(folder) = self.controller("memory") {
            metrics.memory = MessageField::some(memory_v1(folder));
            let oom = Table::read(folder, "memory.oom_control");
            let control = metrics.memory_oom_control.mut_or_insert_default();
            control.oom_kill_disable = oom.get("oom_kill_disable");
            control.under_oom = oom.get("under_oom");
            control.oom_kill = oom.get("oom_kill");
        }
        if let Some(folder) = self.controller("pids") {
            let pids = metrics.pids.mut_or_insert_default();
            pids.current = number(folder, "pids.current");
            pids.limit = limit(folder, "pids.max").unwrap_or(0);
        }
        if let Some(folder) = self.controller("blkio") {
            let blkio = metrics.blkio.mut_or_insert_default();
            blkio.io_service_bytes_recursive =
                blkio_v1(folder, "blkio.throttle.io_service_bytes_recursive");
            blkio.io_serviced_recursive = blkio_v1(folder, "blkio.throttle.io_serviced_recursive");
        }
        if let Some(folder) = self.controller("hugetlb") {
            let sizes = page_sizes(folder, "usage_in_bytes").into_iter();
            let of_pages = sizes.map(|pagesize| {
                let of_size = |what: &str| number(folder, &format!("hugetlb.{pagesize}.{what}"));
                v1::HugetlbStat {
                    usage: of_size("usage_in_bytes"),
                    max: of_size("max_usage_in_bytes"),
                    failcnt: of_size("failcnt"),
                    pagesize,
                    ..v1::HugetlbStat::default()
                }
            });
            metrics.hugetlb = of_pages.collect();
        }
        metrics
    }

    /// Watches for out-of-memory kills.
    ///
    /// # Errors
    /// If the kernel offers no notification for this cgroup.
    pub(crate) fn watch_oom(&self) -> io::Result<OomWatch> {
        match self {
            Self::V2(folder) => OomWatch::v2(folder),
            Self::V1(_) => match self.controller("memory") {
                Some(folder) => OomWatch::v1(folder),
                None => Err(io::Error::new(io::ErrorKind::NotFound, "no memory controller")),
            },
        }
    }
}

/// The mount point of a controller, or of the unified hierarchy.
fn mount_of(mounts: &str, controller: Option<&str>) -> Option<CgroupMount> {
    mounts.lines().find_map(|line| {
        let (mount, super_block) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut super_block = super_block.split(' ');
        let kind = super_block.next()?;
        let options = super_block.nth(1)?;
        let fits = match controller {
            None => kind == "cgroup2",
            Some(name) => kind == "cgroup" && options.split(',').any(|o| o == name),
        };
        fits.then(|| CgroupMount { root: root.to_owned(), point: point.into() })
    })
}

struct CgroupMount {
    root: String,
    point: PathBuf,
}

impl CgroupMount {
    fn join(&self, path: &str) -> PathBuf {
        // In a container the hierarchy may be mounted from a folder of its own.
        let below = path.strip_prefix(self.root.as_str()).unwrap_or(path);
        self.point.join(below.trim_start_matches('/'))
    }
}

fn text(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap_or_default()
}

fn number(folder: &Path, file: &str) -> u64 {
    text(folder, file).trim().parse().unwrap_or(0)
}

/// A limit; `None` for `max`.
fn limit(folder: &Path, file: &str) -> Option<u64> {
    text(folder, file).trim().parse().ok()
}

/// A file of `name value` lines.
struct Table(Vec<(String, u64)>);

impl Table {
    fn read(folder: &Path, file: &str) -> Self {
        let rows = text(folder, file)
            .lines()
            .filter_map(|line| {
                let (name, value) = line.split_once(' ')?;
                Some((name.to_owned(), value.trim().parse().ok()?))
            })
            .collect();
        Self(rows)
    }

    fn get(&self, name: &str) -> u64 {
        self.0.iter().find(|(n, _)| n == name).map_or(0, |(_, value)| *value)
    }
}

/// Copies the rows of a table into fields of the same, or the given, name.
macro_rules! fill {
    ($message:ident, $table:ident: $($field:ident $(= $row:literal)?),+ $(,)?) => {
        $($message.$field = $table.get(fill!(@name $field $($row)?));)+
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $row:literal) => { $row };
}

fn memory_v1(folder: &Path) -> v1::MemoryStat {
    let stat = Table::read(folder, "memory.stat");
    let mut memory = v1::MemoryStat::new();
    fill!(memory, stat:
        cache, rss, rss_huge, mapped_file, dirty, writeback,
        pg_pg_in = "pgpgin", pg_pg_out = "pgpgout", pg_fault = "pgfault",
        pg_maj_fault = "pgmajfault",
        inactive_anon, active_anon, inactive_file, active_file, unevictable,
        hierarchical_memory_limit, hierarchical_swap_limit = "hierarchical_memsw_limit",
        total_cache, total_rss, total_rss_huge, total_mapped_file, total_dirty, total_writeback,
        total_pg_pg_in = "total_pgpgin", total_pg_pg_out = "total_pgpgout",
        total_pg_fault = "total_pgfault", total_pg_maj_fault = "total_pgmajfault",
        total_inactive_anon, total_active_anon, total_inactive_file, total_active_file,
        total_unevictable,
    );
    let entry = |prefix: &str| {
        MessageField::some(v1::MemoryEntry {
            usage: number(folder, &format!("{prefix}.usage_in_bytes")),
            max: number(folder, &format!("{prefix}.max_usage_in_bytes")),
            limit: number(folder, &format!("{prefix}.limit_in_bytes")),
            failcnt: number(folder, &format!("{prefix}.failcnt")),
            ..v1::MemoryEntry::default()
        })
    };
    memory.usage = entry("memory");
    memory.swap = entry("memory.memsw");
    memory.kernel = entry("memory.kmem");
    memory.kernel_tcp = entry("memory.kmem.tcp");
    memory
}

fn blkio_v1(folder: &Path, file: &str) -> Vec<v1::BlkIOEntry> {
    text(folder, file)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (major, minor) = fields.next()?.split_once(':')?;
            let (op, value) = (fields.next()?, fields.next()?);
            Some(v1::BlkIOEntry {
                op: op.to_owned(),
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
                value: value.parse().ok()?,
                ..v1::BlkIOEntry::default()
            })
        })
        .collect()
}

fn metrics_v2(folder: &Path) -> v2::Metrics {
    let mut metrics = v2::Metrics::new();
    let stat = Table::read(folder, "cpu.stat");
    let cpu = metrics.cpu.mut_or_insert_default();
    fill!(cpu, stat:
        usage_usec, user_usec, system_usec, nr_periods, nr_throttled, throttled_usec, nr_bursts,
        burst_usec,
    );
    cpu.psi = pressure(folder, "cpu.pressure");
    metrics.memory = MessageField::some(memory_v2(folder));
    let stat = Table::read(folder, "memory.events");
    if !stat.0.is_empty() {
        let events = metrics.memory_events.mut_or_insert_default();
        fill!(events, stat: low, high, max, oom, oom_kill, oom_group_kill);
    }
    let pids = metrics.pids.mut_or_insert_default();
    pids.current = number(folder, "pids.current");
    pids.limit = limit_v2(folder, "pids.max");
    let io = metrics.io.mut_or_insert_default();
    io.usage = io_v2(&text(folder, "io.stat"));
    io.psi = pressure(folder, "io.pressure");
    let rdma = metrics.rdma.mut_or_insert_default();
    rdma.current = rdma_v2(&text(folder, "rdma.current"));
    rdma.limit = rdma_v2(&text(folder, "rdma.max"));
    let sizes = page_sizes(folder, "current").into_iter();
    metrics.hugetlb = sizes.map(|size| hugetlb_v2(folder, size)).collect();
    metrics
}

fn memory_v2(folder: &Path) -> v2::MemoryStat {
    let mut memory = v2::MemoryStat::new();
    let stat = Table::read(folder, "memory.stat");
    if stat.0.is_empty() {
        // The controller is not on here: limits of nothing would be no limits.
        return memory;
    }
    fill!(memory, stat:
        anon, file, kernel_stack, slab, sock, shmem, file_mapped, file_dirty, file_writeback,
        anon_thp, inactive_anon, active_anon, inactive_file, active_file, unevictable,
        slab_reclaimable, slab_unreclaimable, pgfault, pgmajfault, workingset_refault,
        workingset_activate, workingset_nodereclaim, pgrefill, pgscan, pgsteal, pgactivate,
        pgdeactivate, pglazyfree, pglazyfreed, thp_fault_alloc, thp_collapse_alloc,
    );
    memory.usage = number(folder, "memory.current");
    memory.usage_limit = limit_v2(folder, "memory.max");
    memory.max_usage = number(folder, "memory.peak");
    memory.swap_usage = number(folder, "memory.swap.current");
    memory.swap_limit = limit_v2(folder, "memory.swap.max");
    memory.swap_max_usage = number(folder, "memory.swap.peak");
    memory.psi = pressure(folder, "memory.pressure");
    memory
}

/// A limit as containerd tells it: the largest number for `max`, 0 for a controller that is not
/// on.
fn limit_v2(folder: &Path, file: &str) -> u64 {
    match text(folder, file).trim() {
        "max" => u64::MAX,
        number => number.parse().unwrap_or(0),
    }
}

/// `some avg10=0.12 avg60=0.05 avg300=0.01 total=123` and the same for `full` (kernel,
/// `accounting/psi.rst`); nothing on a kernel that does not measure it.
fn pressure(folder: &Path, file: &str) -> MessageField<v2::PSIStats> {
    let text = text(folder, file);
    let mut stats = v2::PSIStats::new();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let data = match fields.next() {
            Some("some") => stats.some.mut_or_insert_default(),
            Some("full") => stats.full.mut_or_insert_default(),
            _ => continue,
        };
        for (name, value) in fields.filter_map(|f| f.split_once('=')) {
            let share = || value.parse().unwrap_or_default();
            match name {
                "avg10" => data.avg10 = share(),
                "avg60" => data.avg60 = share(),
                "avg300" => data.avg300 = share(),
                "total" => data.total = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
    }
    (!text.is_empty()).then_some(stats).into()
}

/// `mlx4_0 hca_handle=2 hca_object=2000` a device; `max` is the largest number.
fn rdma_v2(text: &str) -> Vec<v2::RdmaEntry> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let mut entry =
                v2::RdmaEntry { device: fields.next()?.to_owned(), ..v2::RdmaEntry::default() };
            for (name, value) in fields.filter_map(|f| f.split_once('=')) {
                let value = match value {
                    "max" => u32::MAX,
                    number => number.parse().unwrap_or(0),
                };
                match name {
                    "hca_handle" => entry.hca_handles = value,
                    "hca_object" => entry.hca_objects = value,
                    _ => {}
                }
            }
            Some(entry)
        })
        .collect()
}

fn hugetlb_v2(folder: &Path, pagesize: String) -> v2::HugeTlbStat {
    let file = |what: &str| format!("hugetlb.{pagesize}.{what}");
    v2::HugeTlbStat {
        current: number(folder, &file("current")),
        max: limit_v2(folder, &file("max")),
        failcnt: Table::read(folder, &file("events")).get("max"),
        pagesize,
        ..v2::HugeTlbStat::default()
    }
}

/// The sizes of huge pages that a cgroup counts, such as `2MB`, by the names of its files.
fn page_sizes(folder: &Path, what: &str) -> Vec<String> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut sizes: Vec<String> = files
        .filter_map(|file| {
            let name = file.file_name();
            let (size, of) = name.to_str()?.strip_prefix("hugetlb.")?.split_once('.')?;
            (of == what).then(|| size.to_owned())
        })
        .collect();
    sizes.sort_unstable();
    sizes
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6` a device.
fn io_v2(stat: &str) -> Vec<v2::IOEntry> {
    stat.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (major, minor) = fields.next()?.split_once(':')?;
            let mut entry = v2::IOEntry {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
                ..v2::IOEntry::default()
            };
            for (name, value) in fields.filter_map(|f| f.split_once('=')) {
                let value = value.parse().unwrap_or(0);
                match name {
                    "rbytes" => entry.rbytes = value,
                    "wbytes" => entry.wbytes = value,
                    "rios" => entry.rios = value,
                    "wios" => entry.wios = value,
                    _ => {}
                }
            }
            Some(entry)
        })
        .collect()
}

/// Tells when a process of a cgroup was killed for want of memory.
pub(crate) struct OomWatch {
    notify: AsyncFd<OwnedFd>,
    folder: PathBuf,
    unified: bool,
    kills: u64,
}

impl OomWatch {
    /// By an eventfd registered in `cgroup.event_control` (kernel, `cgroup-v1/memory.rst`).
    fn v1(folder: &Path) -> io::Result<Self> {
        let notify = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let control = fs::File::open(folder.join("memory.oom_control"))?;
        let registration = format!("{} {}", notify.as_raw_fd(), control.as_raw_fd());
        fs::write(folder.join("cgroup.event_control"), registration)?;
        Ok(Self { notify: watched(notify)?, folder: folder.to_owned(), unified: false, kills: 0 })
    }

    /// By inotify on `memory.events` and, since nobody is told of a cgroup's removal, on
    /// `cgroup.events`, which tells that its last process is gone (kernel, `cgroup-v2.rst`).
    fn v2(folder: &Path) -> io::Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let notify = inotify::init(flags)?;
        let events = folder.join("memory.events");
        let kills = Table::read(folder, "memory.events").get("oom_kill");
        for file in [&events, &folder.join("cgroup.events")] {
            inotify::add_watch(&notify, file, inotify::WatchFlags::MODIFY)?;
        }
        Ok(Self { notify: watched(notify)?, folder: folder.to_owned(), unified: true, kills })
    }

    /// Waits for the next kill; `None` once the cgroup is gone or, on v2, empty.
    pub(crate) async fn next(&mut self) -> Option<()> {
        loop {
            if self.unified {
                // A kill and the end may have come in one notification: the kill is told first.
                let kills = Table::read(&self.folder, "memory.events").get("oom_kill");
                if kills > self.kills {
                    self.kills = kills;
                    return Some(());
                }
                if !self.folder.exists()
                    || text(&self.folder, "cgroup.events").lines().any(|l| l == "populated 0")
                {
                    return None;
                }
            }
            {
                let mut ready = self.notify.readable().await.ok()?;
                let mut events = [0_u8; 4096];
                while rustix::io::read(self.notify.get_ref().as_fd(), &mut events).is_ok() {}
                ready.clear_ready();
            }
            // On v1 a cgroup that is removed makes a last notification.
            if !self.unified {
                return self.folder.exists().then_some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1_MOUNTS: &str = "\
25 19 0:20 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
26 19 0:21 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
27 19 0:22 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn v1_and_hybrid_hosts_use_the_controllers() {
        let cgroup = Cgroup::parse(
            "4:memory:/kube/pod\n3:cpu,cpuacct:/kube/pod\n1:name=systemd:/x\n0::/u\n",
            V1_MOUNTS,
        );
        let Some(Cgroup::V1(controllers)) = cgroup else { panic!("{cgroup:?}") };
        assert_eq!(
            controllers,
            [
                ("memory".to_owned(), PathBuf::from("/sys/fs/cgroup/memory/kube/pod")),
                ("cpu".to_owned(), PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/kube/pod")),
                ("cpuacct".to_owned(), PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/kube/pod")),
            ]
        );
    }

    #[test]
    fn v2_hosts_use_the_unified_folder() {
        let mounts = "27 19 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            Cgroup::parse("0::/kube/pod\n", mounts),
            Some(Cgroup::V2("/sys/fs/cgroup/kube/pod".into()))
        );
    }

    #[test]
    fn v2_statistics_are_read_from_a_recorded_cgroup() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
        write("cpu.stat", "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_bursts 3\n");
        let of_cpu = "some avg10=1.50 avg60=0.25 avg300=0.01 total=77\n";
        write("cpu.pressure", of_cpu);
        write("io.pressure", &format!("{of_cpu}full avg10=0.00 avg60=2.00 avg300=0.00 total=9\n"));
        write("memory.stat", "anon 4096\nfile 8192\nworkingset_nodereclaim 6\n");
        write("memory.peak", "20000\n");
        write("memory.swap.max", "0\n");
        write("rdma.current", "mlx4_0 hca_handle=2 hca_object=2000\n");
        write("rdma.max", "mlx4_0 hca_handle=max hca_object=7\n");
        for (what, value) in [("current", "2097152\n"), ("max", "max\n"), ("events", "max 4\n")] {
            write(&format!("hugetlb.2MB.{what}"), value);
        }
        write("hugetlb.2MB.rsvd.current", "0\n");
        write("memory.current", "12288\n");
        write("memory.max", "max\n");
        write("memory.events", "low 0\noom 2\noom_kill 1\n");
        write("pids.current", "3\n");
        write("pids.max", "max\n");
        write("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2\n");
        let metrics = metrics_v2(folder.path());
        assert_eq!(metrics.cpu.usage_usec, 1500);
        assert_eq!((metrics.memory.anon, metrics.memory.usage), (4096, 12288));
        assert_eq!(metrics.memory.usage_limit, u64::MAX);
        assert_eq!(metrics.memory_events.oom_kill, 1);
        assert_eq!((metrics.pids.current, metrics.pids.limit), (3, u64::MAX));
        assert_eq!((metrics.cpu.nr_bursts, metrics.cpu.psi.some.total), (3, 77));
        assert!((metrics.cpu.psi.some.avg10 - 1.5).abs() < f64::EPSILON);
        assert!(metrics.cpu.psi.full.is_none() && metrics.memory.psi.is_none());
        assert_eq!(metrics.io.psi.full.total, 9);
        assert_eq!((metrics.memory.max_usage, metrics.memory.swap_limit), (20000, 0));
        assert_eq!(metrics.memory.workingset_nodereclaim, 6);
        assert_eq!(metrics.rdma.current[0].hca_objects, 2000);
        assert_eq!(metrics.rdma.limit[0].hca_handles, u32::MAX);
        let [pages] = metrics.hugetlb.as_slice() else { panic!("{:?}", metrics.hugetlb) };
        assert_eq!((pages.pagesize.as_str(), pages.current), ("2MB", 2_097_152));
        assert_eq!((pages.max, pages.failcnt), (u64::MAX, 4));
        assert_eq!(metrics.io.usage[0].wbytes, 20);
        let packed = Cgroup::V2(folder.path().into()).metrics();
        assert_eq!(packed.type_url, "io.containerd.cgroups.v2.Metrics");
    }

    #[test]
    fn a_v2_cgroup_without_controllers_has_no_limits_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = metrics_v2(folder.path());
        assert_eq!((metrics.memory.usage_limit, metrics.pids.limit), (0, 0));
        assert!(metrics.memory_events.is_none() && metrics.hugetlb.is_empty());
    }

    #[test]
    fn v1_huge_pages_are_counted_by_size() {
        let folder = tempfile::tempdir().unwrap();
        for (what, value) in
            [("usage_in_bytes", "8"), ("max_usage_in_bytes", "9"), ("failcnt", "1")]
        {
            fs::write(folder.path().join(format!("hugetlb.1GB.{what}")), value).unwrap();
        }
        let cgroup = Cgroup::V1(vec![("hugetlb".into(), folder.path().into())]);
        let pages = &cgroup.metrics_v1().hugetlb[0];
        assert_eq!((pages.pagesize.as_str(), pages.usage), ("1GB", 8));
        assert_eq!((pages.max, pages.failcnt), (9, 1));
    }

    #[test]
    fn v2_kills_are_told_by_the_counter_and_the_end_by_the_last_process() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let events = folder.path().join("memory.events");
            fs::write(&events, "oom 0\noom_kill 0\n").unwrap();
            let of_cgroup = folder.path().join("cgroup.events");
            fs::write(&of_cgroup, "populated 1\nfrozen 0\n").unwrap();
            let mut watch = OomWatch::v2(folder.path()).unwrap();
            fs::write(&events, "oom 1\noom_kill 1\n").unwrap();
            assert_eq!(watch.next().await, Some(()));
            // A limit that is reached and kills nobody is no event.
            fs::write(&events, "oom 2\noom_kill 1\n").unwrap();
            let quiet = tokio::time::timeout(std::time::Duration::from_millis(50), watch.next());
            assert!(quiet.await.is_err());
            fs::write(&events, "oom 3\noom_kill 2\n").unwrap();
            fs::write(&of_cgroup, "populated 0\nfrozen 0\n").unwrap();
            assert_eq!(watch.next().await, Some(()));
            assert_eq!(watch.next().await, None);
        });
    }

    #[test]
    fn this_process_has_a_cgroup_with_statistics() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let cgroup = Cgroup::of(pid).unwrap();
        assert!(cgroup.metrics().type_url.starts_with("io.containerd.cgroups.v"));
    }
}
