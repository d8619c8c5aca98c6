//! Command lines: those that engines write, and those that nobody should.

/// A command line, and what a wrapper must ask for by it (bundle and id), if anything. None of these
/// may be refused.
pub type Ordinary = (&'static [&'static str], Option<(&'static str, &'static str)>);

/// What engines write, as recorded from them.
pub const ORDINARY: &[Ordinary] = &[
    // containerd's shim, and ours.
    (
        &[
            "--root",
            "/run/runc/k8s.io",
            "--log",
            "/b/log.json",
            "--log-format",
            "json",
            "--systemd-cgroup",
            "create",
            "--bundle",
            "/b",
            "--pid-file",
            "/b/init.pid",
            "--console-socket",
            "/tmp/pty",
            "c1",
        ],
        Some(("/b", "c1")),
    ),
    (
        &[
            "--root",
            "/run/runc/k8s.io",
            "--log",
            "/b/log.json",
            "--log-format",
            "json",
            "restore",
            "--image-path",
            "/i",
            "--work-path",
            "/w",
            "--detach",
            "--bundle",
            "/b",
            "--pid-file",
            "/b/init.pid",
            "c1",
        ],
        Some(("/b", "c1")),
    ),
    // conmon, for CRI-O and Podman.
    (
        &["--root=/run/crio", "create", "--bundle", "/b", "--pid-file", "/b/pidfile", "c1"],
        Some(("/b", "c1")),
    ),
    (
        &["--systemd-cgroup", "create", "--no-pivot", "--bundle", "/b", "--pid-file", "/p", "c1"],
        Some(("/b", "c1")),
    ),
    // People.
    (&["run", "-b", "/b", "c1"], Some(("/b", "c1"))),
    (&["run", "c1"], Some(("", "c1"))),
    (&["--root", "/r", "start", "c1"], None),
    (&["--root", "/r", "delete", "--force", "c1"], None),
    (&["--root", "/r", "kill", "--all", "c1", "9"], None),
    (&["--root", "/r", "state", "c1"], None),
    (&["--root", "/r", "exec", "--process", "/p", "--detach", "--pid-file", "/q", "c1"], None),
    (&["--root", "/r", "exec", "c1", "git", "create", "x"], None),
    (&["features"], None),
    (&["--version"], None),
    (&[], None),
];

/// Pieces of which [`line_of`] makes command lines.
const PIECES: [&str; 63] = [
    "create",
    "run",
    "restore",
    "state",
    "exec",
    "help",
    "h",
    "create ",
    " run",
    "c1",
    "c2",
    "",
    "-",
    "--",
    "---",
    " ",
    "=",
    "-b",
    "--bundle",
    "b1",
    "b2",
    "--bundle=b1",
    "-b=b2",
    "-bb1",
    "--bun",
    "--b",
    "---bundle",
    " --bundle",
    "--root",
    "--root=r1",
    "r1",
    "--roo",
    "--rootless",
    "auto",
    "--debug",
    "--debug=false",
    "--debug=maybe",
    "--log",
    "--log=l1",
    "--log-format",
    "json",
    "--systemd-cgroup",
    "--no-pivot",
    "--no-p",
    "--pid-file",
    "--pid-file=p1",
    "--preserve-fds",
    "0",
    "--no-new-keyring",
    "-d",
    "--detach",
    "--keep",
    "-h",
    "--help",
    "--help=false",
    "--version",
    "--version=false",
    "-f",
    "--config",
    "--console-socket",
    "--image-path",
    "-v=0",
    "--unknown",
];

/// A command line made of bytes: each chooses a piece, and the upper half of them glues it to the
/// piece before. At most 24 pieces.
pub fn line_of(bytes: &[u8]) -> Vec<String> {
    let mut line: Vec<String> = Vec::new();
    for byte in bytes.iter().take(24) {
        let piece = PIECES[usize::from(byte & 0x7f) % PIECES.len()];
        match line.last_mut().filter(|_| byte & 0x80 != 0) {
            Some(last) => last.push_str(piece),
            None => line.push(piece.to_owned()),
        }
    }
    line
}
