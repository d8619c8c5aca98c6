//! Lock files and metadata, cut from the form in which their tools write them.

use crate::support::{check, found};
use portcullis_languages::{LanguageError, Reader};

#[test]
fn npm_packages() {
    let reader = Reader::NpmPackage;
    check(reader, r#"{"name":"a","version":"1.2.3","license":"MIT"}"#, &["a 1.2.3 [MIT]"]);
    let old = r#"{"name":"@s/a","version":"1.0.0","licenses":[{"type":"BSD","url":"u"}]}"#;
    check(reader, old, &["@s/a 1.0.0 [BSD]"]);
    check(reader, r#"{"name":"a","version":"1.0.0","license":{"type":"ISC"}}"#, &["a 1.0.0 [ISC]"]);
    check(reader, r#"{"name":"a","version":"1.0.0","version":"2.0.0"}"#, &["a 2.0.0"]);
    check(reader, "\u{feff}{\"name\":\"a\",\"version\":\"1.0.0\"}", &["a 1.0.0"]);
    for nothing in [
        r#"{"type":"module"}"#,
        r#"{"name":"a"}"#,
        r#"{"version":"1.0.0"}"#,
        r#"{"name":"a b","version":"1.0.0"}"#,
        r#"{"name":"a","version":"{{version}}"}"#,
        r#"{"name":["a"],"version":1}"#,
        "[]",
    ] {
        check(reader, nothing, &[]);
    }
    for damaged in ["", "{", "{\"name\":\"a\",\"version\":\"1\"", "\u{0}"] {
        let error = found(reader, "package.json", damaged.as_bytes()).unwrap_err();
        assert!(matches!(error, LanguageError::Json(_)), "{damaged}");
    }
}

#[test]
fn npm_locks() {
    let version_1 = r#"{ "name": "app", "version": "1.0.0", "lockfileVersion": 1, "dependencies": {
        "a": { "version": "1.0.0", "requires": { "b": "^1" }, "dependencies": {
            "b": { "version": "1.1.0", "dev": true, "dependencies": { "c": { "version": "3.0.0" } } } } },
        "b": { "version": "2.0.0", "dev": true },
        "alias": { "version": "npm:@s/real@4.0.0" },
        "folder": { "version": "file:../folder" },
        "git": { "version": "git+ssh://git@host/a.git#0123" },
        "tarball": { "version": "https://host/a-1.0.0.tgz" } } }"#;
    let wanted = ["@s/real 4.0.0", "a 1.0.0", "b 1.1.0 (dev)", "b 2.0.0 (dev)", "c 3.0.0"];
    check(Reader::NpmLock, version_1, &wanted);
    let version_2 = r#"{ "lockfileVersion": 2, "packages": {
        "": { "name": "app", "version": "1.0.0", "dependencies": { "a": "^1" } },
        "packages/own": { "name": "own", "version": "9.0.0" },
        "node_modules/own": { "resolved": "packages/own", "link": true },
        "node_modules/a": { "version": "1.0.0", "license": "MIT", "dependencies": { "b": "1" } },
        "node_modules/a/node_modules/@s/b": { "version": "2.0.0", "dev": true },
        "node_modules/@s/b": { "version": "2.0.0" },
        "packages/own/node_modules/c": { "version": "3.0.0", "devOptional": true },
        "node_modules/alias": { "name": "real", "version": "4.0.0", "dev": true } },
      "dependencies": { "old": { "version": "8.0.0" } } }"#;
    let wanted = ["@s/b 2.0.0", "a 1.0.0 [MIT]", "c 3.0.0", "real 4.0.0 (dev)"];
    check(Reader::NpmLock, version_2, &wanted);
    check(Reader::NpmLock, r#"{"lockfileVersion":3,"packages":{}}"#, &[]);
    assert!(found(Reader::NpmLock, "package-lock.json", b"{").is_err());
    let below = r#"{"dependencies":{"a":"#;
    let deep = format!("{}0{}", below.repeat(10_000), "}}".repeat(10_000));
    assert!(found(Reader::NpmLock, "package-lock.json", deep.as_bytes()).is_err());
}

#[test]
fn yarn_locks() {
    let version_1 = "# yarn lockfile v1\n\n\n\"@s/a@^1.0.0\", \"@s/a@~1.1.0\":\n  version \"1.1.0\"\n  \
        resolved \"https://host/a.tgz#0123\"\n  dependencies:\n    version \"^9.9.9\"\n    b \"^2.0.0\"\n\n\
        b@^2.0.0, b@2.x:\r\n  version \"2.0.0\"\r\n\n\"alias@npm:@t/real@^3.0.0\":\n  version \"3.0.0\"\n\n\
        \"own@file:./own\":\n  version \"0.0.0\"\n\nlinked@link:x:\n  version \"0.0.0\"\n";
    check(Reader::YarnLock, version_1, &["@s/a 1.1.0", "@t/real 3.0.0", "b 2.0.0"]);
    let berry = "__metadata:\n  version: 8\n  cacheKey: 10\n\n\"@s/a@npm:^1.0.0, @s/a@npm:^1.1.0\":\n  \
        version: 1.1.0\n  resolution: \"@s/a@npm:1.1.0\"\n  dependencies:\n    b: \"npm:^2.0.0\"\n  \
        checksum: 10/01\n  languageName: node\n  linkType: hard\n\n\"alias@npm:real@^3.0.0\":\n  \
        version: 3.0.0\n  resolution: \"real@npm:3.0.0\"\n\n\"app@workspace:.\":\n  version: \
        0.0.0-use.local\n  resolution: \"app@workspace:.\"\n\n\"p@patch:p@npm%3A5.0.0#x\":\n  version: \
        5.0.0\n  resolution: \"p@patch:p@npm%3A5.0.0#x::version=5.0.0&hash=0\"\n";
    check(Reader::YarnLock, berry, &["@s/a 1.1.0", "p 5.0.0", "real 3.0.0"]);
    check(Reader::YarnLock, "", &[]);
}

#[test]
fn pnpm_locks() {
    let version_6 = "lockfileVersion: '6.0'\n\ndependencies:\n  a:\n    specifier: ^1\n    version: \
        1.0.0\n\npackages:\n\n  /a@1.0.0(b@2.0.0):\n    resolution: {integrity: sha512-x}\n    \
        dependencies:\n      b: 2.0.0\n    dev: false\n\n  /@s/b@2.0.0:\n    dev: true\n\n  \
        file:own:\n    name: own\n    version: 1.0.0\n\n  '@host/x/tar/0123':\n    name: tarball\n    \
        version: 7.0.0\n    dev: false\n";
    check(Reader::PnpmLock, version_6, &["@s/b 2.0.0 (dev)", "a 1.0.0", "tarball 7.0.0"]);
    let version_9 = "lockfileVersion: '9.0'\n\npackages:\n\n  '@s/b@2.0.0':\n    resolution: {}\n\n  \
        a@1.0.0:\n    resolution: {}\n    deprecated: x\n\nsnapshots:\n\n  z@9.0.0(a@1.0.0): {}\n";
    check(Reader::PnpmLock, version_9, &["@s/b 2.0.0", "a 1.0.0"]);
    check(Reader::PnpmLock, "lockfileVersion: 5.4\npackages:\n  /a/1.0.0_b@1:\n", &["a 1.0.0"]);
}

#[test]
fn python_metadata() {
    let reader = Reader::PythonMetadata;
    let text = "Metadata-Version: 2.1\nName: A.b\nVersion: 1.2.3\nLicense: MIT\nClassifier: x\n\n\
        Name: other\nVersion: 9\n";
    check(reader, text, &["A.b 1.2.3 [MIT]"]);
    let text =
        "Name: a\r\nVersion: 1\r\nLicense: long\r\n  text\r\nLicense-Expression: MIT OR ISC\r\n";
    check(reader, text, &["a 1 [MIT OR ISC]"]);
    check(reader, "NAME: a\nversion: 1.0\nVersion: 2.0\n", &["a 1.0"]);
    check(reader, "Name: a\nSummary: x\n Version: 9\nVersion: 1.0\n", &["a 1.0"]);
    check(reader, b"Name: a\nVersion: 1.0\nAuthor: \xe9\n", &["a 1.0"]);
    check(reader, "Name: UNKNOWN\nVersion: 0.0.0\n", &[]);
    check(reader, "", &[]);
    for damaged in ["Name: a\n\nVersion: 1\n", "Version: 1\n", "x"] {
        let error = found(reader, "METADATA", damaged.as_bytes()).unwrap_err();
        assert!(matches!(error, LanguageError::Damaged(_)), "{damaged}");
    }
}

#[test]
fn python_locks() {
    let reader = Reader::PythonLock;
    let poetry = "[[package]]\nname = \"a\"\nversion = \"1.0\"\ncategory = \"main\"\n\n[[package]]\n\
        name = \"b\"\nversion = \"2.0\"\ncategory = \"dev\"\n\n[[package]]\nname = \"c\"\nversion = \
        \"3.0\"\ngroups = [\"dev\"]\n\n[[package]]\nname = \"d\"\nversion = \"4.0\"\ngroups = [\"main\", \
        \"dev\"]\n\n[[package]]\nname = \"own\"\nversion = \"5.0\"\n[package.source]\ntype = \
        \"directory\"\nurl = \"../own\"\n\n[metadata]\nlock-version = \"2.0\"\n";
    check(reader, poetry, &["a 1.0", "b 2.0 (dev)", "c 3.0 (dev)", "d 4.0"]);
    let uv = "version = 1\n[[package]]\nname = \"a\"\nversion = \"1.0\"\nsource = { registry = \"r\" }\n\
        [[package]]\nname = \"own\"\nversion = \"0.1.0\"\nsource = { editable = \".\" }\n[[package]]\n\
        name = \"virtual\"\nsource = { virtual = \".\" }\n[[package]]\nname = \"b\"\nversion = \"2.0\"\n\
        source = { git = \"g\" }\n";
    check(reader, uv, &["a 1.0", "b 2.0"]);
    let pylock = "lock-version = \"1.0\"\n[[packages]]\nname = \"a\"\nversion = \"1.0\"\n[[packages]]\n\
        name = \"own\"\ndirectory = { path = \".\" }\nversion = \"1\"\n";
    check(reader, pylock, &["a 1.0"]);
    assert!(found(reader, "uv.lock", b"[[package]").is_err());
    let pipfile = r#"{"_meta":{},"default":{"a":{"hashes":[],"version":"==1.0"},"g":{"git":"x"}},
        "develop":{"b":{"version":"==2.0"},"a":{"version":"==1.0"}}}"#;
    check(Reader::PipfileLock, pipfile, &["a 1.0", "b 2.0 (dev)"]);
    let requirements = "# a\n-r other.txt\na==1.0 # x\nb[x]==2.0; python_version<'3'\nc>=3\n";
    check(Reader::Requirements, requirements, &["a 1.0", "b 2.0"]);
}

#[test]
fn go_modules() {
    let text = "module example.com/app\n\ngo 1.21\n\ntoolchain go1.21.5\n\nrequire example.com/one v1.0.0\n\n\
        require (\n\texample.com/a v1.1.0 // indirect\n\t\"example.com/b\" v0.0.0-20200101000000-0123456789ab\n\
        \texample.com/c v1.0.0\n\texample.com/d v1.0.0\n\texample.com/e/v2 v2.0.0+incompatible\n)\n\n\
        exclude example.com/x v1.0.0\n\nreplace example.com/c => ../c\n\nreplace (\n\
        \texample.com/d v1.0.0 => example.com/new v3.0.0\n\texample.com/a v9.0.0 => example.com/z v1.0.0\n)\n\
        retract v1.0.0\n";
    let wanted = [
        "example.com/a v1.1.0",
        "example.com/b v0.0.0-20200101000000-0123456789ab",
        "example.com/e/v2 v2.0.0+incompatible",
        "example.com/new v3.0.0",
        "example.com/one v1.0.0",
    ];
    check(Reader::GoMod, text, &wanted);
    check(Reader::GoMod, "module std\nrequire golang.org/x/net v0.1.0\n", &[]);
}

#[test]
fn cargo_locks() {
    let text = "version = 4\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\ndependencies = [\"a\"]\n\
        [[package]]\nname = \"a\"\nversion = \"1.0.0+x\"\n\
        source = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"0\"\n\
        [[package]]\nname = \"b\"\nversion = \"2.0.0\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n\
        [[package]]\nname = \"g\"\nversion = \"3.0.0\"\nsource = \"git+https://host/g#0\"\n\
        [[package]]\nname = \"p\"\nversion = \"4.0.0\"\nsource = \"registry+https://host/private\"\n";
    check(Reader::CargoLock, text, &["a 1.0.0+x", "b 2.0.0"]);
    assert!(found(Reader::CargoLock, "Cargo.lock", b"= 1").is_err());
}

#[test]
fn ruby_gems() {
    let reader = Reader::GemSpec;
    let stub = "# -*- encoding: utf-8 -*-\n# stub: nokogiri 1.13.3 x86_64-linux lib\n# stub: ext/nokogiri/extconf.rb\n\n\
        Gem::Specification.new do |s|\n  s.name = \"other\".freeze\n  s.version = \"9\"\n  \
        s.licenses = [\"MIT\".freeze]\n  s.summary = \"a = b\".freeze\n";
    check(reader, stub, &["nokogiri 1.13.3 [MIT]"]);
    let plain = "Gem::Specification.new do |spec|\n  spec.name = 'a'\n  spec.version = \
        Gem::Version.new(\"1.0.rc1\")\n  spec.licenses = [\"MIT\".freeze, \"Ruby\".freeze]\nend\n";
    check(reader, plain, &["a 1.0.rc1"]);
    assert!(found(reader, "a.gemspec", b"s.version = A::VERSION\ns.name = \"a\"").is_err());
    let lock = "GIT\n  remote: https://host/g\n  specs:\n    g (1.0)\n\nPATH\n  remote: .\n  specs:\n    \
        own (0.1.0)\n\nGEM\n  remote: https://host/\n  specs:\n    a (1.0.0)\n      b (>= 2)\n    \
        b (2.0.0-x86_64-linux)\n    b (2.0.0)\n\nPLATFORMS\n  ruby\n\nDEPENDENCIES\n  a (= 1.0.0)\n    x (9)\n";
    check(Reader::GemfileLock, lock, &["a 1.0.0", "b 2.0.0"]);
}

#[test]
fn composer_and_nuget() {
    let lock = r#"{"packages":[{"name":"s/yaml","version":"v5.4.1","license":["MIT"]},
        {"name":"s/branch","version":"dev-main"}],
        "packages-dev":[{"name":"p/unit","version":"9.0.0","license":["A","B"]}]}"#;
    check(Reader::ComposerLock, lock, &["p/unit 9.0.0 (dev)", "s/yaml v5.4.1 [MIT]"]);
    let installed = r#"{"packages":[{"name":"s/yaml","version":"v5.4.1"},
        {"name":"p/unit","version":"9.0.0"}],"dev":true,"dev-package-names":["p/unit"]}"#;
    check(Reader::ComposerInstalled, installed, &["p/unit 9.0.0 (dev)", "s/yaml v5.4.1"]);
    let installed = r#" [{"name":"s/yaml","version":"v5.4.1"}]"#;
    check(Reader::ComposerInstalled, installed, &["s/yaml v5.4.1"]);
    let deps = r#"{"runtimeTarget":{"name":".NETCoreApp,Version=v6.0","signature":""},
      "targets":{".NETCoreApp,Version=v5.0":{},".NETCoreApp,Version=v6.0":{
        "App/1.0.0":{"dependencies":{"A":"1.0.0"},"runtime":{"App.dll":{}}},
        "A/1.0.0":{"runtime":{"lib/net6.0/A.dll":{"fileVersion":"1.0"}}},
        "N/2.0.0":{"native":{"n.so":{}}},
        "T/3.0.0":{"runtimeTargets":{"runtimes/t.dll":{}}},
        "System.Net.Http/4.1.0":{"dependencies":{}},
        "Empty/1.0.0":{"runtime":{"lib/netstandard1.0/_._":{}}},
        "runtimepack.Microsoft.NETCore.App.Runtime.linux-x64/6.0.1":{"runtime":{"x.dll":{}}}}},
      "libraries":{"App/1.0.0":{"type":"project"},"A/1.0.0":{"type":"package"},
        "N/2.0.0":{"type":"package"},"T/3.0.0":{"type":"Package"},"Other/5.0.0":{"type":"package"},
        "System.Net.Http/4.1.0":{"type":"package"},"Empty/1.0.0":{"type":"package"},
        "Ref/1.0.0.0":{"type":"referenceassembly"},
        "runtimepack.Microsoft.NETCore.App.Runtime.linux-x64/6.0.1":{"type":"runtimepack"}}}"#;
    let wanted = [
        "A 1.0.0",
        "Microsoft.NETCore.App.Runtime.linux-x64 6.0.1",
        "N 2.0.0",
        "Other 5.0.0",
        "T 3.0.0",
    ];
    check(Reader::NuGetDeps, deps, &wanted);
    let lock = r#"{"version":1,"dependencies":{"net6.0":{"A":{"type":"Direct","resolved":"1.0.0"},
        "own":{"type":"Project"}},"net6.0/linux-x64":{"A":{"type":"Direct","resolved":"1.0.0"}}}}"#;
    check(Reader::NuGetLock, lock, &["A 1.0.0"]);
}

#[test]
fn what_is_too_large_is_told() {
    let large = vec![b' '; (16 << 20) + 1];
    for reader in [Reader::NpmLock, Reader::YarnLock, Reader::CargoLock, Reader::GoMod] {
        let error = found(reader, "file", &large).unwrap_err();
        assert!(matches!(error, LanguageError::TooLarge { .. }), "{reader:?}");
    }
    let mut limits = portcullis_languages::Limits::default();
    limits.packages = 2;
    let lock = b"a@1:\n  version \"1.0.0\"\nb@1:\n  version \"1.0.0\"\nc@1:\n  version \"1.0.0\"\n";
    let cursor = std::io::Cursor::new(lock);
    let size = lock.len() as u64;
    let error = portcullis_languages::read(Reader::YarnLock, "yarn.lock", cursor, size, &limits);
    assert!(matches!(error, Err(LanguageError::TooMany(2))));
}
