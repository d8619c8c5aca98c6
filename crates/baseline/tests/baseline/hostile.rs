//! Whatever an image holds, nothing panics, and what comes out is bounded and clean.

use portcullis_baseline::passwords::{Budget, WordList, try_all, weak};
use portcullis_baseline::{
    Config, ITEMS, Mode, Options, check, wants_mode, wants_presence, wants_text,
};
use proptest::prelude::*;

use crate::common::Fake;

const PATHS: &[&str] = &[
    "etc/passwd",
    "etc/shadow",
    "etc/group",
    "etc/gshadow",
    "etc/login.defs",
    "etc/hosts.equiv",
    "etc/ld.so.preload",
    "etc/sudoers",
    "etc/sudoers.d/a",
    "etc/pam.d/su",
    "etc/ssh/sshd_config",
    "etc/ssh/sshd_config.d/a.conf",
    "root/.ssh/authorized_keys",
    "root/.rhosts",
];

/// Pieces of real files, which a mutation puts together anew.
const PIECES: &[&str] = &[
    "root:x:0:0:root:/root:/bin/sh\n",
    "a::1:1::/:\n",
    "+::::::\n",
    "root:$6$a$b:1:0:99999:7:::\n",
    "b:$1$abcdefgh$G//4keteveJp0qb8z2DxG/:99999999999999999999:::::\n",
    "shadow:x:42:a,b,,a\n",
    "4294967296",
    "-1",
    ":",
    ",",
    "\n",
    "\0",
    "\\\n",
    "\"",
    "=",
    "#",
    "+ +\n",
    "é",
    "\u{202e}",
    "ALL=(ALL:ALL) NOPASSWD: ALL\n",
    "a ALL",
    "%wheel ",
    "Defaults ",
    "!authenticate",
    "Include /etc/ssh/sshd_config.d/*.conf\n",
    "Match User a\n",
    "PermitRootLogin yes\n",
    "auth sufficient pam_permit.so\n",
    "ENCRYPT_METHOD MD5\n",
    "$y$j75$",
    "$2b$04$",
    "_J9..",
];

const SHELL: &[&str] = &[
    "RUN ",
    "|1 A_TOKEN=bcd ",
    "/bin/sh -c ",
    "#(nop) ",
    "ADD ",
    "in /",
    "curl x",
    "|",
    "sh",
    "&&",
    "$(",
    ")",
    "<(",
    "`",
    "'",
    "\"",
    "\\",
    "\n",
    "chpasswd",
    "echo ",
    "bash -c ",
    " ",
    ";",
    "é",
    "apt-get upgrade",
    "--",
    "-",
    "sudo -u ",
    "A=",
    "ENV PASSWORD=x1 ",
    "https://u:p1@h/",
];

fn soup(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece =
        prop_oneof![4 => prop::sample::select(pieces).prop_map(str::to_owned), 1 => "\\PC{0,3}"];
    prop::collection::vec(piece, 0..40).prop_map(|parts| parts.concat())
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => soup(PIECES).prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn images(
        texts in prop::collection::vec((prop::sample::select(PATHS), bytes()), 0..6),
        modes in prop::collection::vec(("[a-z/.]{0,20}", any::<u32>(), any::<bool>()), 0..6),
        files in prop::collection::vec("\\PC{0,30}", 0..4),
        history in prop::collection::vec(soup(SHELL), 0..4),
        env in prop::collection::vec(soup(SHELL), 0..4),
        user in "\\PC{0,10}",
    ) {
        let mut image = Fake::default();
        for (path, text) in &texts {
            image.text(path, text);
        }
        for (path, mode, capabilities) in &modes {
            image.inode(path, Mode { mode: *mode, uid: 1, gid: 2, capabilities: *capabilities });
        }
        for path in &files {
            image.file(path);
        }
        image.config = Config {
            user, env: env.clone(), volumes: files.clone(), tags: files, history,
            exposed_ports: env, healthcheck: Some(Vec::new()),
        };
        // No more work than this on passwords: the test runs without optimisation.
        let options = Options { budget: Budget::new(2000), today: Some(i64::MAX), ..Options::default() };
        let report = check(&image, &options);
        prop_assert_eq!(&report, &check(&image, &options), "the answer is always the same");
        prop_assert!(report.issues.len() <= ITEMS.len() * 101);
        let mut keys = std::collections::HashSet::new();
        for issue in &report.issues {
            prop_assert!(keys.insert((issue.item.id, issue.path.clone())), "twice: {:?}", issue);
            prop_assert!(issue.detail.len() < 400 && !issue.detail.chars().any(char::is_control));
            let path = issue.path.as_deref().unwrap_or("/");
            prop_assert!(path.starts_with('/') && !path.chars().any(char::is_control));
        }
    }

    #[test]
    fn paths(path in "(etc/|var/|usr/|app/|\\.ssh/|\\.git/|bin/|é|[a-z.]{0,8}|/){0,8}", mode in any::<u32>()) {
        // No path, however odd, is a reason to panic.
        let _ = (wants_text(&path), wants_presence(&path));
        let _ = wants_mode(&path, &Mode { mode, ..Mode::default() });
        prop_assert!(wants_text(&path).is_none_or(|most| most <= 1 << 20));
    }

    #[test]
    fn hashes(hash in prop_oneof![
        "(\\$(1|3|5|6|7|y|2b|gy|sha1)\\$)?(rounds=[0-9]{1,12}\\$)?[./0-9A-Za-z$]{0,70}",
        "\\$y\\$[./0-9A-Za-z]{1,6}\\$[./0-9A-Za-z]{0,10}\\$[./0-9A-Za-z]{43}",
        "\\$7\\$[./0-9A-Za-z]{11,20}\\$[./0-9A-Za-z]{43}",
        "\\$2b\\$[0-9]{2}\\$[./0-9A-Za-z]{53}",
        "\\PC{0,30}",
    ], account in "\\PC{0,80}") {
        let mut budget = Budget::new(3000);
        let outcome = weak(&hash, &account, &WordList::new(), &mut budget);
        prop_assert!(budget.left() <= 3000, "{:?}", outcome);
    }
}

#[test]
fn many_accounts_share_the_budget() {
    let hash = "$1$abcdefgh$AAAAAAAAAAAAAAAAAAAAAA";
    let names: Vec<String> = (0..20_000).map(|n| format!("a{n}")).collect();
    let entries: Vec<_> = names
        .iter()
        .map(|account| portcullis_baseline::passwords::Entry { account, hash })
        .collect();
    let mut budget = Budget::new(100_000);
    let outcomes = try_all(&entries, &WordList::new(), &mut budget);
    assert_eq!(outcomes.len(), entries.len());
    assert_eq!(budget.left(), 0);
    assert_eq!(portcullis_baseline::passwords::Summary::of(&outcomes).cut, entries.len());
}

#[test]
fn the_order_of_files_changes_nothing() {
    let report = |names: [&str; 3]| {
        let mut image = Fake::default();
        for name in names {
            image.file(&format!("var/lib/apt/lists/{name}_Packages"));
        }
        check(&image, &Options::default())
    };
    assert_eq!(report(["a", "b", "c"]), report(["c", "b", "a"]));
}
