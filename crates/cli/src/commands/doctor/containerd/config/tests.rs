//! What each generation loads, by small configurations, and by the real `config dump` where the
//! engines are there.

use std::path::PathBuf;
use std::process::Command;

use portcullis_testkit::cache::cache;

use super::super::super::files::testing::Node;
use super::*;

const V16: Version = Version(1, 6, 20);
const V17: Version = Version(1, 7, 24);
const V21: Version = Version(2, 1, 9);
const V23: Version = Version(2, 3, 4);

/// `default; handler=type|path|binary,…` of what is loaded.
fn summary(cri: &Cri) -> String {
    let text = |written: &Option<Written>| written.as_ref().map_or("", |(t, _)| t).to_owned();
    let handlers: Vec<String> = cri
        .handlers
        .iter()
        .map(|(name, h)| format!("{name}={}|{}|{}", text(&h.kind), text(&h.path), text(&h.binary)))
        .collect();
    format!("{}; {}", cri.default.0, handlers.join(","))
}

const MAIN: &str = "/etc/containerd/config.toml";
const OLD: &str = "plugins.\"io.containerd.grpc.v1.cri\".containerd";
const NEW: &str = "plugins.'io.containerd.cri.v1.runtime'.containerd";

/// A configuration with `{OLD}` and `{NEW}` filled in.
fn filled(text: &str) -> String {
    text.replace("{OLD}", OLD).replace("{NEW}", NEW)
}

/// Files, the first being the main one, and what each generation makes of them: `None` where
/// containerd does not start.
type Case = (&'static str, &'static [(&'static str, &'static str)], [Option<&'static str>; 3]);

const CASES: &[Case] = &[
    ("nothing", &[(MAIN, "")], [Some("runc; runc=io.containerd.runc.v2||"); 3]),
    (
        "a handler that is named takes the built-in one away, up to 1.7",
        &[(
            MAIN,
            "version = 2\n[{OLD}.runtimes.p]\nruntime_type = 'io.containerd.portcullis.v2'\n",
        )],
        [
            Some("runc; p=io.containerd.portcullis.v2||"),
            Some("runc; p=io.containerd.portcullis.v2||"),
            Some("runc; p=io.containerd.portcullis.v2||,runc=io.containerd.runc.v2||"),
        ],
    ),
    (
        "a drop-in replaces the table, or is merged",
        &[
            (
                MAIN,
                "version = 2\nimports = ['/etc/containerd/conf.d/*.toml']\n[{OLD}]\n\
                 default_runtime_name = 'runc'\n[{OLD}.runtimes.runc]\n\
                 runtime_type = 'io.containerd.runc.v2'\n[{OLD}.runtimes.runc.options]\n\
                 BinaryName = '/x/runc'\n",
            ),
            (
                "/etc/containerd/conf.d/a.toml",
                "version = 2\n[{OLD}.runtimes.p]\nruntime_type = 'io.containerd.portcullis.v2'\n",
            ),
        ],
        [
            Some("runc; p=io.containerd.portcullis.v2||"),
            Some("runc; p=io.containerd.portcullis.v2||"),
            Some("runc; p=io.containerd.portcullis.v2||,runc=io.containerd.runc.v2||/x/runc"),
        ],
    ),
    (
        "a drop-in that only has the default takes all handlers away, up to 1.7",
        &[
            (
                MAIN,
                "version = 2\nimports = ['/etc/containerd/b.toml', '/etc/containerd/a.toml']\n\
                 [{OLD}.runtimes.p]\nruntime_type = 'io.containerd.runc.v2'\nruntime_path = '/p'\n",
            ),
            ("/etc/containerd/b.toml", "version = 2\n[{OLD}]\ndefault_runtime_name = 'x'\n"),
            ("/etc/containerd/a.toml", "version = 2\n[{OLD}]\ndefault_runtime_name = 'p'\n"),
        ],
        [
            Some("p; runc=io.containerd.runc.v2||"),
            Some("p; runc=io.containerd.runc.v2||"),
            Some("p; p=io.containerd.runc.v2|/p|,runc=io.containerd.runc.v2||"),
        ],
    ),
    (
        "imports of imports come later, and a circle ends",
        &[
            (
                MAIN,
                "version = 2\nimports = ['/etc/containerd/1.toml']\n[{OLD}]\n\
                 default_runtime_name = 'x'\n",
            ),
            (
                "/etc/containerd/1.toml",
                "version = 2\nimports = ['config.toml', '2.toml']\n[{OLD}]\n\
                 default_runtime_name = 'y'\n",
            ),
            ("/etc/containerd/2.toml", "version = 2\n[{OLD}]\ndefault_runtime_name = 'z'\n"),
        ],
        [
            Some("z; runc=io.containerd.runc.v2||"),
            Some("z; runc=io.containerd.runc.v2||"),
            Some("z; runc=io.containerd.runc.v2||"),
        ],
    ),
    (
        "format 3, merged key by key",
        &[
            (
                MAIN,
                "version = 3\nimports = ['/etc/containerd/conf.d/*.toml']\n[{NEW}]\n\
                 default_runtime_name = 'a'\n[{NEW}.runtimes.a]\n\
                 runtime_type = 'io.containerd.runc.v2'\nruntime_path = '/p/a'\n\
                 [{NEW}.runtimes.a.options]\nBinaryName = '/x/runc'\n",
            ),
            ("/etc/containerd/conf.d/n.toml", "[{NEW}.runtimes.a]\nruntime_path = '/p/b'\n"),
        ],
        [
            // 1.6 takes the number and knows none of the keys.
            Some("runc; runc=io.containerd.runc.v2||"),
            None,
            Some("a; a=io.containerd.runc.v2|/p/b|/x/runc,runc=io.containerd.runc.v2||"),
        ],
    ),
    (
        "a drop-in of format 2 under a file of format 3 is lost where the new table has its key",
        &[
            (
                MAIN,
                "version = 3\nimports = ['/etc/containerd/conf.d/*.toml']\n[{NEW}.runtimes.runc]\n\
                 runtime_type = 'io.containerd.runc.v2'\n[{NEW}.runtimes.runc.options]\n\
                 BinaryName = '/x/runc'\n",
            ),
            (
                "/etc/containerd/conf.d/p.toml",
                "version = 2\n[{OLD}.runtimes.p]\nruntime_type = 'io.containerd.portcullis.v2'\n",
            ),
        ],
        [
            Some("runc; p=io.containerd.portcullis.v2||"),
            Some("runc; p=io.containerd.portcullis.v2||"),
            Some("runc; runc=io.containerd.runc.v2||/x/runc"),
        ],
    ),
    (
        "without a version the keys of format 2 mean nothing",
        &[(MAIN, "[{OLD}]\ndefault_runtime_name = 'p'\n")],
        [
            Some("runc; runc=io.containerd.runc.v2||"),
            Some("runc; runc=io.containerd.runc.v2||"),
            Some("runc; runc=io.containerd.runc.v2||"),
        ],
    ),
    (
        "an import that is not there",
        &[(MAIN, "version = 2\nimports = ['/etc/containerd/none.toml']\n")],
        [None, None, Some("runc; runc=io.containerd.runc.v2||")],
    ),
];

fn node_of(files: &[(&str, &str)]) -> Node {
    let files: Vec<(&str, String)> = files.iter().map(|(p, t)| (*p, filled(t))).collect();
    Node::of(&files.iter().map(|(p, t)| (*p, t.as_str())).collect::<Vec<_>>())
}

#[test]
fn each_generation_loads_what_it_loads() {
    for (what, files, wanted) in CASES {
        let node = node_of(files);
        for (version, wanted) in [V16, V17, V21].into_iter().zip(wanted) {
            let Some(wanted) = wanted else { continue };
            let cri = Cri::load(&node.host, MAIN, version);
            assert_eq!(summary(&cri), *wanted, "{what}, {version}");
        }
    }
}

/// The engines that the integration tests use.
fn engines() -> Vec<(Version, PathBuf)> {
    let unpacked = |suite: &str| cache().join("engines").join(suite).join("usr/bin/containerd");
    let engines = [
        (V16, PathBuf::from("/usr/bin/containerd")),
        (V17, unpacked("trixie")),
        (V21, unpacked("sid")),
    ];
    let mut known = Vec::new();
    for (version, path) in engines {
        let said = Command::new(&path).arg("--version").output();
        let said = said.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        let place = path.display();
        let said = said.unwrap_or_else(|why| {
            panic!("{place}: {why}; integration/packages.sh gets what is lacking")
        });
        // The newest suite moves on; another generation has a table of its own to come.
        match said.contains(&format!("{}.{}.", version.0, version.1)) {
            true => known.push((version, path)),
            false => eprintln!("skipped: {place} is another generation: {said}"),
        }
    }
    // Those of this machine and of the suite that does not move.
    assert!(known.len() >= 2, "{known:?}");
    known
}

/// What the real containerd says that it loads is what the table above says.
#[test]
fn the_table_is_what_config_dump_says() {
    for (version, containerd) in engines() {
        for (what, files, wanted) in CASES {
            let node = node_of(files);
            let root = node.folder.path().display().to_string();
            for (path, _) in *files {
                let file = node.folder.path().join(path.trim_start_matches('/'));
                let text = std::fs::read_to_string(&file).unwrap();
                std::fs::write(&file, text.replace("'/etc/", &format!("'{root}/etc/"))).unwrap();
            }
            let main = format!("{root}{MAIN}");
            let dump =
                Command::new(&containerd).args(["-c", &main, "config", "dump"]).output().unwrap();
            let at = [V16, V17, V21].iter().position(|v| *v == version).unwrap();
            let wanted = wanted[at];
            assert_eq!(dump.status.success(), wanted.is_some(), "{what}, {version}: {dump:?}");
            let Some(wanted) = wanted else { continue };
            // What is dumped is whole, so it is read as itself.
            let text = String::from_utf8(dump.stdout).unwrap();
            let dumped = Node::of(&[(MAIN, &text.replace("imports = ", "was = "))]);
            let cri = Cri::load(&dumped.host, MAIN, version);
            assert_eq!(summary(&cri), wanted, "{what}, {version}");
        }
    }
}

#[test]
fn since_2_3_each_file_is_migrated_by_itself() {
    let node = node_of(CASES[6].1);
    let cri = Cri::load(&node.host, MAIN, V23);
    let wanted = "runc; p=io.containerd.portcullis.v2||,runc=io.containerd.runc.v2||/x/runc";
    assert_eq!(summary(&cri), wanted);
    let place = cri.handlers["p"].kind.as_ref().unwrap().1.as_ref().unwrap();
    assert_eq!(place.file, "/etc/containerd/conf.d/p.toml");
    assert_eq!(place.key, format!("{OLD}.runtimes.p.runtime_type"));
}

#[test]
fn problems_have_their_files() {
    let node = node_of(&[
        (MAIN, "version = 2\nimports = ['a.toml', '/none.toml', 'big/*.toml']\n[{OLD}]\nx = 1\n"),
        ("/etc/containerd/a.toml", "version = 2\n\nthis is not TOML\n"),
        ("/etc/containerd/big/b.toml", &format!("x = '{}'", "y".repeat(2 << 20))),
        ("/etc/containerd/big/c.toml", "version = 2\n[{OLD}.runtimes.p]\nruntime_type = 'x'\n"),
    ]);
    let cri = Cri::load(&node.host, MAIN, V17);
    let said: Vec<String> = cri.problems.iter().map(|p| format!("{p:?}")).collect();
    for (at, part) in
        [(0, "a.toml\", line: Some(3)"), (1, "none.toml"), (2, "b.toml\", line: None"), (3, "by")]
    {
        assert!(said[at].contains(part), "{said:#?}");
    }
    assert_eq!(said.len(), 4);
}

#[test]
fn hostile_texts_end_soon() {
    for text in [
        "[".repeat(100_000),
        "a.".repeat(100_000) + "b = 1",
        format!("version = 2\nimports = [{}]", "'/etc/*/*/*/*/*/*',".repeat(10_000)),
        "x = \"\u{0}".to_owned(),
    ] {
        let node = Node::of(&[(MAIN, &text)]);
        let begun = std::time::Instant::now();
        let _cri = Cri::load(&node.host, MAIN, V21);
        assert!(begun.elapsed().as_secs() < 10, "{}", &text[..20]);
    }
}

#[test]
fn versions_are_read() {
    for (text, wanted) in [
        ("1.6.20~ds1-1+deb12u3", Some(V16)),
        ("v2.1.9", Some(V21)),
        ("2.3", Some(Version(2, 3, 0))),
        ("2", None),
        ("x.y.z", None),
    ] {
        assert_eq!(text.parse::<Version>().ok(), wanted, "{text}");
    }
    for (version, knows) in
        [(V16, false), (Version(1, 6, 21), true), (Version(1, 7, 0), false), (V17, true)]
    {
        assert_eq!(version.knows_runtime_path(), knows, "{version}");
    }
}
