//! Each item finds what it is for, and lets pass what looks like it.

use portcullis_baseline::{Group, ITEMS, Mode, item};
use portcullis_types::Severity;

use crate::common::{Fake, TODAY};

/// An item, an image that has the issue, and the nearest one that has not.
type Case = (&'static str, fn(&mut Fake), fn(&mut Fake));

/// sha512crypt of a random password, by `openssl passwd -6 -salt 'rounds=1000$Xq3pTz81'`.
const GOOD: &str = "$6$rounds=1000$Xq3pTz81$FCeafb8tqjjKs6gwGHBqV2iGip68nyju1UVGpKcrDSSrbB9WMs4NlITkFy2FSqWW4EM8V9aini4dXOvdyiaL30";
/// The same of another.
const OTHER: &str = "$6$rounds=1000$Xq3pTz82$T2prbRHRslHbaR/dZ9tmDt7i1rElMDkS8Vq6/Htqmvosi1h7j7/1sJXLUfh.VcXZ3Sc6m8IUbeDr6SZXcyjSM.";
/// md5crypt of `password`, by `perl -e 'print crypt(…)'` with libxcrypt.
const PASSWORD: &str = "$1$abcdefgh$G//4keteveJp0qb8z2DxG/";

fn passwd(text: &'static str) -> impl Fn(&mut Fake) {
    move |image| {
        image.text("etc/passwd", text);
    }
}

fn with(image: &mut Fake, path: &str, text: &str) {
    passwd("root:x:0:0:root:/root:/bin/sh\na:x:1000:1000::/home/a:/bin/sh\n")(image);
    image.text(path, text);
}

/// Root's line of the shadow file.
fn shadow(image: &mut Fake, fields: &str) {
    with(image, "etc/shadow", &format!("root:{fields}\n"));
}

const CASES: &[Case] = &[
    (
        "account-uid0-not-root",
        |i| passwd("root:x:0:0::/root:/bin/sh\ntoor:x:00:0::/root:/bin/sh\n")(i),
        |i| passwd("root:x:0:0::/root:/bin/sh\ntoor:x:10:0::/root:/bin/sh\n")(i),
    ),
    (
        "account-duplicate-name",
        |i| passwd("a:x:1:1::/:/bin/sh\na:x:2:2::/:/bin/sh\n")(i),
        |i| passwd("a:x:1:1::/:/bin/sh\nA:x:2:2::/:/bin/sh\n# a:x:1:1::/:\n")(i),
    ),
    (
        "account-duplicate-uid",
        |i| passwd("a:x:1:1::/:/bin/sh\nb:x:1:2::/:/bin/sh\n")(i),
        |i| passwd("a:x:1:1::/:/bin/sh\nb:x:11:1::/:/bin/sh\n")(i),
    ),
    (
        "account-in-privileged-group",
        |i| with(i, "etc/group", "root:x:0:\nwheel:x:10:root,a\n"),
        |i| with(i, "etc/group", "root:x:0:root\nwheel:x:10:root\naudio:x:11:a\n"),
    ),
    (
        "root-group-not-0",
        |i| passwd("root:x:0:1::/root:/bin/sh\n")(i),
        |i| passwd("root:x:0:0::/root:/bin/sh\na:x:1:1::/:/bin/sh\n")(i),
    ),
    (
        "shadow-group-member",
        |i| with(i, "etc/group", "shadow:x:42:a\n"),
        |i| with(i, "etc/group", "shadow:x:42:\nshadowy:x:43:a\n"),
    ),
    (
        "account-group-missing",
        |i| with(i, "etc/group", "root:x:0:\n"),
        |i| with(i, "etc/group", "root:x:0:\na:x:1000:\n"),
    ),
    (
        "group-duplicate-name",
        |i| with(i, "etc/group", "a:x:1:\na:x:2:\n"),
        |i| with(i, "etc/group", "a:x:1:\nb:x:2:a,a\n"),
    ),
    (
        "group-duplicate-gid",
        |i| with(i, "etc/group", "a:x:1:\nb:x:01:\n"),
        |i| with(i, "etc/group", "a:x:1:\nb:x:2:\n"),
    ),
    (
        "nis-entry-passwd",
        |i| passwd("root:x:0:0::/root:/bin/sh\n+::0:0:::\n")(i),
        |i| passwd("root:x:0:0:+:/root:/bin/sh\n#+::::::\n")(i),
    ),
    (
        "nis-entry-shadow",
        |i| with(i, "etc/shadow", "root:*:1::::::\n+::::::::\n"),
        |i| with(i, "etc/shadow", "root:*:1::::::\n"),
    ),
    (
        "nis-entry-group",
        |i| with(i, "etc/group", "root:x:0:\n+:::\n"),
        |i| with(i, "etc/group", "root:x:0:\nc++:x:9:\n"),
    ),
    ("account-empty-password", |i| shadow(i, ":0:0:99999:7:::"), |i| shadow(i, "*::0:::::")),
    (
        "account-empty-password-no-shell",
        |i| {
            passwd("a:x:1:1::/:/sbin/nologin\n")(i);
            i.text("etc/shadow", "a::0:0:99999:7:::\n");
        },
        |i| {
            passwd("a:x:1:1::/:/sbin/nologin\n")(i);
            i.text("etc/shadow", "a:!:0:0:99999:7:::\n");
        },
    ),
    (
        "account-weak-password",
        |i| shadow(i, &format!("{PASSWORD}:1:0:90:7:::")),
        // Locked, so that nobody gets in with it.
        |i| shadow(i, &format!("!{PASSWORD}:1:0:90:7:::")),
    ),
    (
        "account-password-in-passwd",
        |i| passwd("a:hunter2:1:1::/:/bin/sh\n")(i),
        |i| passwd("a:x:1:1::/:/bin/sh\nb:*:2:2::/:/bin/sh\nc:!:3:3::/:/bin/sh\n")(i),
    ),
    (
        "password-in-build",
        |i| {
            i.step("RUN /bin/sh -c echo root:hunter2 | chpasswd # buildkit");
        },
        |i| {
            i.step("RUN /bin/sh -c chpasswd < /run/secrets/passwords # buildkit");
        },
    ),
    (
        "account-duplicate-hash",
        |i| {
            passwd("a:x:1:1::/:/bin/sh\nb:x:2:2::/:/bin/sh\n")(i);
            i.text("etc/shadow", format!("a:{GOOD}:1:0:90:7:::\nb:{GOOD}:1:0:90:7:::\n"));
        },
        |i| {
            passwd("a:x:1:1::/:/bin/sh\nb:x:2:2::/:/bin/sh\nc:x:3:3::/:\nd:x:4:4::/:\n")(i);
            let locked = "c:*:1:0:90:7:::\nd:*:1:0:90:7:::\n";
            i.text("etc/shadow", format!("a:{GOOD}:1:0:90:7:::\nb:{OTHER}:1::90::::\n{locked}"));
        },
    ),
    (
        "account-weak-hash",
        |i| shadow(i, "$1$x$0Gkb6HFW2nQkZUCn98Ow70:1:0:90:7:::"),
        |i| shadow(i, &format!("{GOOD}:1:0:90:7:::")),
    ),
    (
        "weak-hash-default",
        |i| {
            i.text("etc/login.defs", "ENCRYPT_METHOD MD5\n");
        },
        |i| {
            i.text(
                "etc/login.defs",
                "#ENCRYPT_METHOD DES\nMD5_CRYPT_ENAB no\nENCRYPT_METHOD SHA512\n",
            );
            i.text(
                "etc/pam.d/common-password",
                "password [success=1] pam_unix.so obscure yescrypt\n",
            );
        },
    ),
    (
        "account-password-never-expires",
        |i| shadow(i, &format!("{GOOD}:1:0:99999:7:::")),
        |i| shadow(i, &format!("{GOOD}:1:0:90:7:::\nbin:*:1:0:99999:7:::")),
    ),
    (
        "account-password-changed-in-future",
        |i| shadow(i, &format!("*:{}:0:90:7:::", TODAY + 2)),
        |i| shadow(i, &format!("*:{}:0:90:7:::", TODAY + 1)),
    ),
    (
        "account-password-not-tried",
        |i| shadow(i, "$6$rounds=999999999$abcd$AAAA:1:0:90:7:::"),
        |i| shadow(i, &format!("{GOOD}:1:0:90:7:::")),
    ),
    (
        "group-password",
        |i| {
            i.text("etc/gshadow", format!("a:{GOOD}::\n"));
        },
        |i| {
            i.text("etc/gshadow", "root:*::\nb:!::a\nc:::\n");
        },
    ),
    (
        "shadow-readable",
        |i| {
            i.mode("etc/shadow", 0o100_644);
        },
        |i| {
            i.mode("etc/shadow", 0o100_640).mode("etc/passwd", 0o100_644);
        },
    ),
    (
        "trust-anybody",
        |i| {
            i.text("etc/hosts.equiv", "+ +\n");
        },
        |i| {
            i.text("etc/hosts.equiv", "# + +\nhost +\n");
        },
    ),
    (
        "trust-hosts",
        |i| with(i, "home/a/.rhosts", "host\n"),
        |i| {
            with(i, "etc/hosts.equiv", "# This file is empty.\n\n");
            i.text("root/.ssh/authorized_keys", "ssh-ed25519 AAAA a\n");
        },
    ),
    (
        "trust-root",
        |i| with(i, "root/.ssh/authorized_keys", "# mine\nssh-ed25519 AAAA a\n"),
        |i| {
            with(i, "root/.ssh/authorized_keys", "# none\n\n");
            i.text("home/a/.ssh/authorized_keys", "ssh-ed25519 AAAA a\n");
        },
    ),
    (
        "trust-authorized-keys",
        |i| with(i, "home/a/.ssh/authorized_keys", "ssh-ed25519 AAAA a\n"),
        |i| with(i, "home/a/.ssh/known_hosts", "host ssh-ed25519 AAAA a\n"),
    ),
    (
        "sudo-without-password",
        |i| {
            i.text("etc/sudoers.d/a", "a ALL=(ALL:ALL) NOPASSWD: ALL\n");
        },
        |i| {
            let text = "root ALL=(ALL) NOPASSWD:ALL\n# %wheel ALL=(ALL) NOPASSWD: ALL\n%wheel \
                        ALL=(ALL) ALL\na ALL = NOPASSWD: /bin/true, PASSWD: ALL\nDefaults env_reset\n";
            i.text("etc/sudoers", text);
            i.text("etc/sudoers.d/a.rpmsave", "a ALL=(ALL:ALL) NOPASSWD: ALL\n");
        },
    ),
    (
        "pam-permits-anybody",
        |i| {
            i.text("etc/pam.d/su", "auth sufficient pam_permit.so\n");
        },
        |i| {
            let text = "auth sufficient pam_rootok.so\nauth required pam_permit.so\naccount \
                        sufficient pam_permit.so\n#auth sufficient pam_permit.so\n";
            i.text("etc/pam.d/su", text);
        },
    ),
    (
        "setid-file",
        |i| {
            i.mode("usr/bin/bash", 0o104_755);
        },
        |i| {
            i.mode("usr/bin/su", 0o104_755).mode("usr/bin/bash", 0o100_755);
            i.mode("var/mail", 0o042_775);
        },
    ),
    (
        "setid-stock",
        |i| {
            i.mode("bin/su", 0o104_755);
        },
        |i| {
            i.mode("bin/su", 0o100_755).mode("opt/su", 0o104_755);
        },
    ),
    (
        "capabilities-file",
        |i| {
            i.inode("app/server", Mode { mode: 0o100_755, capabilities: true, ..Mode::default() });
        },
        |i| {
            i.mode("app/server", 0o100_755);
        },
    ),
    (
        "capabilities-stock",
        |i| {
            i.inode(
                "usr/bin/ping",
                Mode { mode: 0o100_755, capabilities: true, ..Mode::default() },
            );
        },
        |i| {
            i.mode("usr/bin/ping", 0o100_755);
        },
    ),
    (
        "writable-path-folder",
        |i| {
            i.env("PATH=/opt/app/bin:/usr/bin").mode("opt/app", 0o040_777);
        },
        |i| {
            i.env("PATH=/opt/app/bin:/usr/bin").mode("opt/app", 0o041_777);
            i.mode("opt/data", 0o040_777).mode("usr/local/bin", 0o040_777);
        },
    ),
    (
        "writable-program",
        |i| {
            i.mode("usr/bin/tool", 0o100_777);
        },
        |i| {
            i.mode("usr/bin/tool", 0o100_775).mode("app/data", 0o100_666);
        },
    ),
    (
        "writable-etc",
        |i| {
            i.mode("etc/app.conf", 0o100_666);
        },
        |i| {
            i.mode("etc/app.conf", 0o100_664).mode("etc/mtab", 0o120_777);
        },
    ),
    (
        "tmp-without-sticky",
        |i| {
            i.mode("tmp", 0o040_777);
        },
        |i| {
            i.mode("tmp", 0o041_777).mode("app/tmp", 0o040_777);
        },
    ),
    (
        "sshd-present",
        |i| {
            i.file("usr/sbin/sshd");
        },
        |i| {
            i.file("usr/bin/ssh").file("etc/pam.d/sshd");
        },
    ),
    (
        "sshd-root-login",
        |i| {
            i.text("etc/ssh/sshd_config", "permitrootlogin = \"yes\"\n");
        },
        |i| {
            let main = "Include /etc/ssh/sshd_config.d/*.conf\n#PermitRootLogin yes\nPermitRootLogin yes\n";
            i.text("etc/ssh/sshd_config", main);
            i.text("etc/ssh/sshd_config.d/a.conf", "PermitRootLogin no\n");
        },
    ),
    (
        "sshd-empty-passwords",
        |i| {
            i.text(
                "etc/ssh/sshd_config",
                "PermitEmptyPasswords no\nMatch User a\nPermitEmptyPasswords yes\n",
            );
        },
        |i| {
            i.text("etc/ssh/sshd_config", "PermitEmptyPasswords no\nPermitEmptyPasswords yes\n");
            // Nobody includes it.
            i.text("etc/ssh/sshd_config.d/a.conf", "PermitEmptyPasswords yes\n");
        },
    ),
    (
        "ssh-port-exposed",
        |i| i.config.exposed_ports = vec!["22/tcp".to_owned()],
        |i| i.config.exposed_ports = vec!["2222/tcp".to_owned(), "22/udp".to_owned()],
    ),
    (
        "ld-so-preload",
        |i| {
            i.text("etc/ld.so.preload", "/usr/lib/libx.so\n");
        },
        |i| {
            i.text("etc/ld.so.preload", "\n# nothing\n");
        },
    ),
    (
        "sudo-present",
        |i| {
            i.file("usr/bin/sudo");
        },
        |i| {
            i.file("etc/sudoers").file("usr/share/doc/sudo");
        },
    ),
    (
        "user-root",
        |i| {
            passwd("admin:x:0:0::/:/bin/sh\n")(i);
            i.config.user = "admin:1000".to_owned();
        },
        |i| {
            passwd("admin:x:10:0::/:/bin/sh\n")(i);
            i.config.user = "admin:0".to_owned();
        },
    ),
    (
        "no-healthcheck",
        |i| i.config.healthcheck = Some(vec!["NONE".to_owned()]),
        |i| i.config.healthcheck = Some(vec!["CMD".to_owned(), "true".to_owned()]),
    ),
    (
        "env-credential",
        |i| {
            i.env("DB_PASSWORD=hunter2");
        },
        |i| {
            i.env("DB_PASSWORD_FILE=/run/secrets/db").env("DB_PASSWORD=").env("GPG_KEY=A0");
        },
    ),
    (
        "sensitive-volume",
        |i| i.config.volumes = vec!["/var/run/docker.sock".to_owned()],
        |i| i.config.volumes = vec!["/var/lib/data".to_owned(), "/etc/app".to_owned()],
    ),
    (
        "tag-latest",
        |i| i.config.tags = vec!["registry.test:5000/app".to_owned()],
        |i| i.config.tags = vec!["registry.test:5000/app:1".to_owned()],
    ),
    (
        "build-argument-credential",
        |i| {
            i.step("RUN |1 NPM_TOKEN=abcdef0123 /bin/sh -c npm ci # buildkit");
        },
        |i| {
            // dockle#202 and dockle#250: a command is no variable.
            i.step("RUN /bin/sh -c sed 's!access.log = /proc/self/fd/2!!' && PASSWORD=abc make");
            i.step("RUN /bin/sh -c apk add libcrypto3=3.1.4-r1 # buildkit");
            i.step("ARG NPM_TOKEN");
        },
    ),
    (
        "credential-file",
        |i| {
            i.file("root/.aws/credentials");
        },
        |i| {
            i.file("etc/ssl/certs/ca.pem").file("app/node_modules/a/.env").file("app/env");
        },
    ),
    (
        "download-executed",
        |i| {
            i.step("RUN /bin/sh -c curl -fsSL https://example.org/x | sh # buildkit");
        },
        |i| {
            i.step("RUN /bin/sh -c curl -fsSL https://example.org/x | tar xz # buildkit");
        },
    ),
    (
        "unverified-packages",
        |i| {
            i.step("RUN /bin/sh -c dnf -y --nogpgcheck install a");
        },
        |i| {
            i.step("RUN /bin/sh -c dnf -y install a");
        },
    ),
    (
        "add-remote",
        |i| {
            i.step("ADD https://example.org/a.tar.gz /opt # buildkit");
        },
        |i| {
            i.step("ADD --checksum=sha256:00 https://example.org/a.tar.gz /opt # buildkit");
        },
    ),
    (
        "add-instead-of-copy",
        |i| {
            i.step("ADD file:0 in / ").step("/bin/sh -c #(nop) ADD dir:0 in /app ");
        },
        |i| {
            i.step("/bin/sh -c #(nop) ADD file:0 in / ").step("COPY a /app # buildkit");
        },
    ),
    (
        "package-upgrade",
        |i| {
            i.step("/bin/sh -c apt-get update && apt-get upgrade -y");
        },
        |i| {
            i.step("/bin/sh -c apt-get update && apt-get install -y a");
        },
    ),
    (
        "package-lists-alone",
        |i| {
            i.step("/bin/sh -c apt-get update");
        },
        |i| {
            i.step("/bin/sh -c apt-get update && apt-get install -y a");
        },
    ),
    (
        "package-cache",
        |i| {
            i.file("var/lib/apt/lists/deb.debian.org_debian_dists_bookworm_InRelease");
        },
        |i| {
            i.file("var/lib/apt/lists/lock").file("var/cache/dnf/last_makecache");
        },
    ),
    (
        "needless-file",
        |i| {
            i.file("app/.git/HEAD").file("app/.git/config");
        },
        |i| {
            i.file("app/.gitignore").file("usr/lib/python3/x/.git/HEAD");
        },
    ),
    (
        "file-not-read-wholly",
        |i| {
            i.text("etc/passwd", "#\n".repeat(600_000));
        },
        |i| {
            i.text("etc/passwd", "#\n".repeat(1000));
        },
    ),
];

#[test]
fn every_item_finds_what_it_is_for_and_nothing_else() {
    let mut rest: Vec<_> = ITEMS.iter().map(|item| item.id).collect();
    for (id, bad, good) in CASES {
        let at = rest.iter().position(|item| item == id);
        rest.remove(at.unwrap_or_else(|| panic!("{id}: no such item, or two cases of it")));
        for (make, wanted) in [(bad, true), (good, false)] {
            let mut image = Fake::default();
            make(&mut image);
            let ids = image.ids();
            assert_eq!(
                ids.contains(id),
                wanted,
                "{id}, {}: {ids:?}",
                if wanted { "bad" } else { "good" }
            );
        }
    }
    assert!(rest.is_empty(), "items without a case: {rest:?}");
}

#[test]
fn the_table_is_in_order() {
    let mut before = Group::Accounts;
    for entry in ITEMS {
        let is_id = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        assert!(entry.id.bytes().all(is_id), "{}", entry.id);
        assert_eq!(item(entry.id).map(|found| found as *const _), Some(entry as *const _));
        assert!(entry.group >= before, "{}: groups are together", entry.id);
        before = entry.group;
        assert_ne!(entry.severity, Severity::Unknown, "{}", entry.id);
        assert!(!entry.title.ends_with('.') && !entry.title.contains('\n'), "{}", entry.id);
        for text in [entry.reason, entry.remedy] {
            assert!(text.ends_with('.') && text.len() >= 9, "{}: {text}", entry.id);
            assert!(!text.contains("  "), "{}: {text}", entry.id);
        }
    }
    assert_eq!(item("no-such-item"), None);
}

#[test]
fn nothing_secret_is_quoted() {
    let mut image = Fake::default();
    image.text("etc/passwd", "root:hunter2:0:0::/root:/bin/sh\na:x:1:1::/:/bin/sh\n");
    image.text("etc/shadow", format!("a:{PASSWORD}:1:0:99999:7:::\n"));
    image.env("DB_PASSWORD=hunter2").env("URL=https://a:hunter2@host/");
    image.step("RUN |1 NPM_TOKEN=hunter2 /bin/sh -c echo root:hunter2 | chpasswd");
    image.step("ADD https://a:hunter2@host/x /x # buildkit");
    let issues = image.check().issues;
    assert!(issues.len() > 8, "{issues:?}");
    for issue in issues {
        for secret in ["hunter2", "G//4keteveJp0qb8z2DxG/", "password1"] {
            assert!(!issue.detail.contains(secret), "{issue:?}");
        }
    }
}

#[test]
fn one_issue_for_an_item_and_a_path() {
    let mut image = Fake::default();
    let mut text = String::from("root:x:0:0::/root:/bin/sh\n");
    (0..50_000).for_each(|n| text.push_str(&format!("a{n}::0:0:::\n")));
    image.text("etc/passwd", text);
    let issues = image.check().issues;
    let of = |id: &str| issues.iter().filter(|issue| issue.item.id == id).collect::<Vec<_>>();
    let found = of("account-uid0-not-root");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path.as_deref(), Some("/etc/passwd"));
    assert!(found[0].detail.starts_with("account a0; account a1; "), "{}", found[0].detail);
    assert!(found[0].detail.ends_with(" more"), "{}", found[0].detail);
    assert!(issues.iter().all(|issue| issue.detail.len() < 400));
}

#[test]
fn odd_bytes_hide_no_account() {
    let mut image = Fake::default();
    image.text("etc/passwd", b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0:\xff\xfe:/:/bin/sh\n");
    assert!(image.ids().contains(&"account-uid0-not-root"));
    // A UID that is 0 for musl.
    let mut image = Fake::default();
    image.text("etc/passwd", "root:x:0:0::/root:/bin/sh\ntoor:x:4294967296:0:::\n");
    assert!(image.ids().contains(&"account-uid0-not-root"));
}
