//! The distributions' own images give no issue that is high or critical.
//!
//! The account files are written down from what the distributions publish: Debian's equal those of
//! base-passwd 3.6.1 plus `_apt`, Alpine's those of alpine-baselayout 3.6, AlmaLinux's those of
//! setup 2.13 with what systemd, dbus and tpm2-tss add, BusyBox's those of Buildroot's skeleton,
//! distroless has its own. The shadow files have the fields of the published images.

use portcullis_types::Severity;

use crate::common::Fake;

const DEBIAN_PASSWD: &str = "\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
sys:x:3:3:sys:/dev:/usr/sbin/nologin
sync:x:4:65534:sync:/bin:/bin/sync
games:x:5:60:games:/usr/games:/usr/sbin/nologin
man:x:6:12:man:/var/cache/man:/usr/sbin/nologin
lp:x:7:7:lp:/var/spool/lpd:/usr/sbin/nologin
mail:x:8:8:mail:/var/mail:/usr/sbin/nologin
news:x:9:9:news:/var/spool/news:/usr/sbin/nologin
uucp:x:10:10:uucp:/var/spool/uucp:/usr/sbin/nologin
proxy:x:13:13:proxy:/bin:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
backup:x:34:34:backup:/var/backups:/usr/sbin/nologin
list:x:38:38:Mailing List Manager:/var/list:/usr/sbin/nologin
irc:x:39:39:ircd:/run/ircd:/usr/sbin/nologin
_apt:x:42:65534::/nonexistent:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
";
const DEBIAN_GROUP: &str = "\
root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nlp:x:7:\nmail:x:8:
news:x:9:\nuucp:x:10:\nman:x:12:\nproxy:x:13:\nkmem:x:15:\ndialout:x:20:\nfax:x:21:\nvoice:x:22:
cdrom:x:24:\nfloppy:x:25:\ntape:x:26:\nsudo:x:27:\naudio:x:29:\ndip:x:30:\nwww-data:x:33:
backup:x:34:\noperator:x:37:\nlist:x:38:\nirc:x:39:\nsrc:x:40:\nshadow:x:42:\nutmp:x:43:
video:x:44:\nsasl:x:45:\nplugdev:x:46:\nstaff:x:50:\ngames:x:60:\nusers:x:100:\nnogroup:x:65534:
";
const ALPINE_PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
bin:x:1:1:bin:/bin:/sbin/nologin
daemon:x:2:2:daemon:/sbin:/sbin/nologin
lp:x:4:7:lp:/var/spool/lpd:/sbin/nologin
sync:x:5:0:sync:/sbin:/bin/sync
shutdown:x:6:0:shutdown:/sbin:/sbin/shutdown
halt:x:7:0:halt:/sbin:/sbin/halt
mail:x:8:12:mail:/var/mail:/sbin/nologin
news:x:9:13:news:/usr/lib/news:/sbin/nologin
uucp:x:10:14:uucp:/var/spool/uucppublic:/sbin/nologin
cron:x:16:16:cron:/var/spool/cron:/sbin/nologin
ftp:x:21:21::/var/lib/ftp:/sbin/nologin
sshd:x:22:22:sshd:/dev/null:/sbin/nologin
games:x:35:35:games:/usr/games:/sbin/nologin
ntp:x:123:123:NTP:/var/empty:/sbin/nologin
guest:x:405:100:guest:/dev/null:/sbin/nologin
nobody:x:65534:65534:nobody:/:/sbin/nologin
";
const ALPINE_GROUP: &str = "\
root:x:0:root\nbin:x:1:root,bin,daemon\ndaemon:x:2:root,bin,daemon\nsys:x:3:root,bin
adm:x:4:root,daemon\ntty:x:5:\ndisk:x:6:root\nlp:x:7:lp\nkmem:x:9:\nwheel:x:10:root
floppy:x:11:root\nmail:x:12:mail\nnews:x:13:news\nuucp:x:14:uucp\ncron:x:16:cron\naudio:x:18:
cdrom:x:19:\ndialout:x:20:root\nftp:x:21:\nsshd:x:22:\ninput:x:23:\ntape:x:26:root\nvideo:x:27:root
netdev:x:28:\nkvm:x:34:kvm\ngames:x:35:\nshadow:x:42:\nwww-data:x:82:\nusers:x:100:games
ntp:x:123:\nabuild:x:300:\nutmp:x:406:\nping:x:999:\nnogroup:x:65533:\nnobody:x:65534:
";
const ALMA_PASSWD: &str = "\
root:x:0:0:root:/root:/bin/bash
bin:x:1:1:bin:/bin:/sbin/nologin
daemon:x:2:2:daemon:/sbin:/sbin/nologin
adm:x:3:4:adm:/var/adm:/sbin/nologin
lp:x:4:7:lp:/var/spool/lpd:/sbin/nologin
sync:x:5:0:sync:/sbin:/bin/sync
shutdown:x:6:0:shutdown:/sbin:/sbin/shutdown
halt:x:7:0:halt:/sbin:/sbin/halt
mail:x:8:12:mail:/var/spool/mail:/sbin/nologin
operator:x:11:0:operator:/root:/sbin/nologin
games:x:12:100:games:/usr/games:/sbin/nologin
ftp:x:14:50:FTP User:/var/ftp:/sbin/nologin
nobody:x:65534:65534:Kernel Overflow User:/:/sbin/nologin
tss:x:59:59:Account used for TPM access:/:/usr/sbin/nologin
systemd-coredump:x:999:997:systemd Core Dumper:/:/sbin/nologin
dbus:x:81:81:System message bus:/:/sbin/nologin
";
const ALMA_GROUP: &str = "\
root:x:0:\nbin:x:1:\ndaemon:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nlp:x:7:\nmem:x:8:
kmem:x:9:\nwheel:x:10:\ncdrom:x:11:\nmail:x:12:\nman:x:15:\ndialout:x:18:\nfloppy:x:19:\ngames:x:20:
tape:x:33:\nvideo:x:39:\nftp:x:50:\nlock:x:54:\naudio:x:63:\nusers:x:100:\nnobody:x:65534:
utmp:x:22:\nutempter:x:35:\ntss:x:59:\ninput:x:999:\nkvm:x:36:\nrender:x:998:\nsystemd-journal:x:190:
systemd-coredump:x:997:\ndbus:x:81:
";
const BUSYBOX_PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
";
const BUSYBOX_GROUP: &str = "\
root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nlp:x:7:\nmail:x:8:
kmem:x:9:\nwheel:x:10:root\ncdrom:x:11:\ndialout:x:18:\nfloppy:x:19:\nvideo:x:28:\naudio:x:29:
tape:x:32:\nwww-data:x:33:\noperator:x:37:\nutmp:x:43:\nplugdev:x:46:\nstaff:x:50:\nlock:x:54:
netdev:x:82:\nusers:x:100:\nnobody:x:65534:
";

/// All accounts of a passwd file with these fields in the shadow file; the first is root's.
fn shadow(passwd: &str, root: &str, others: &str) -> String {
    passwd
        .lines()
        .filter_map(|line| line.split(':').next())
        .map(|name| format!("{name}:{}\n", if name == "root" { root } else { others }))
        .collect()
}

/// Looks at the account files alone, then at a whole image with the mode bits and the history of
/// its kind.
fn check_stock(
    passwd: &str,
    group: &str,
    shadow: &str,
    of_accounts: &[&str],
    whole: fn(&mut Fake),
) {
    let mut image = Fake::default();
    image.config.user = "10001".to_owned();
    image.config.healthcheck = Some(vec!["CMD".to_owned(), "true".to_owned()]);
    image.text("etc/passwd", passwd).text("etc/group", group);
    if !shadow.is_empty() {
        image.text("etc/shadow", shadow).mode("etc/shadow", 0o100_640);
    }
    assert_eq!(image.ids(), of_accounts);

    image.config.user.clear();
    image.config.healthcheck = None;
    image.mode("tmp", 0o041_777).mode("var/tmp", 0o041_777);
    image.env("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    whole(&mut image);
    let issues = image.check().issues;
    assert!(issues.iter().any(|issue| issue.item.id == "user-root"));
    for issue in issues {
        assert!(issue.item.severity > Severity::High, "{issue:?}");
        assert_ne!(issue.item.id, "setid-file", "{issue:?}");
    }
}

#[test]
fn debian() {
    let field = "*:19000:0:99999:7:::";
    let shadow = shadow(DEBIAN_PASSWD, field, field);
    check_stock(DEBIAN_PASSWD, DEBIAN_GROUP, &shadow, &[], |i| {
        for path in ["chfn", "chsh", "gpasswd", "mount", "newgrp", "passwd", "su", "umount"] {
            i.mode(&format!("usr/bin/{path}"), 0o104_755);
        }
        for path in ["usr/bin/chage", "usr/bin/expiry", "usr/sbin/unix_chkpwd"] {
            i.mode(path, 0o102_755);
        }
        i.mode("var/local", 0o042_775).mode("run/lock", 0o041_777);
        i.text("etc/login.defs", "PASS_MAX_DAYS 99999\nENCRYPT_METHOD YESCRYPT\n");
        i.text("etc/pam.d/common-auth", "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n");
        i.step("/bin/sh -c #(nop) ADD file:0 in / ").step("/bin/sh -c #(nop)  CMD [\"bash\"]");
    });
}

#[test]
fn ubuntu() {
    // A person's account, and `sudo` for it, as published since 24.04.
    let passwd = format!("{DEBIAN_PASSWD}ubuntu:x:1000:1000:Ubuntu:/home/ubuntu:/bin/bash\n");
    let group = DEBIAN_GROUP
        .replace("sudo:x:27:", "sudo:x:27:ubuntu")
        .replace("adm:x:4:", "adm:x:4:ubuntu");
    let group = format!("{group}ubuntu:x:1000:\n");
    let mut shadow = shadow(DEBIAN_PASSWD, "*:20090:0:99999:7:::", "*:20090:0:99999:7:::");
    shadow.push_str("ubuntu:!:20090:0:99999:7:::\n");
    check_stock(&passwd, &group, &shadow, &["account-in-privileged-group"], |i| {
        i.step("ARG RELEASE").step("ARG LAUNCHPAD_BUILD_ARCH");
        i.step("/bin/sh -c #(nop) ADD file:0 in / ");
    });
}

#[test]
fn alpine() {
    let shadow = shadow(ALPINE_PASSWD, "*::0:::::", "!::0:::::");
    check_stock(ALPINE_PASSWD, ALPINE_GROUP, &shadow, &[], |i| {
        i.step("ADD alpine-minirootfs-3.20.3-x86_64.tar.gz / # buildkit");
        i.mode("bin/bbsuid", 0o104_111);
    });
    // What CVE-2019-5021 was.
    let mut image = Fake::default();
    image.text("etc/passwd", ALPINE_PASSWD).text("etc/shadow", shadow.replace("root:*:", "root::"));
    let issues = image.check().issues;
    assert_eq!(issues[0].item.id, "account-empty-password");
    assert_eq!(issues[0].item.severity, Severity::Critical);
}

#[test]
fn almalinux() {
    let shadow = shadow(ALMA_PASSWD, "!locked::0:99999:7:::", "*:18849:0:99999:7:::");
    let shadow = shadow.replace("dbus:*:18849:0:99999:7:::", "dbus:!!:19000::::::");
    check_stock(ALMA_PASSWD, ALMA_GROUP, &shadow, &[], |i| {
        i.text("etc/sudoers", "root\tALL=(ALL) \tALL\n%wheel\tALL=(ALL)\tALL\n# %wheel\tALL=(ALL)\tNOPASSWD: ALL\n#includedir /etc/sudoers.d\n");
        for path in ["chage", "gpasswd", "mount", "newgrp", "su", "umount"] {
            i.mode(&format!("usr/bin/{path}"), 0o104_755);
        }
        for path in ["pam_timestamp_check", "unix_chkpwd", "grub2-set-bootflag"] {
            i.mode(&format!("usr/sbin/{path}"), 0o104_755);
        }
        i.mode("usr/libexec/dbus-1/dbus-daemon-launch-helper", 0o104_750);
        i.mode("usr/libexec/utempter/utempter", 0o102_711);
        i.mode("usr/libexec/openssh/ssh-keysign", 0o102_555);
        i.text("etc/login.defs", "PASS_MAX_DAYS\t99999\nENCRYPT_METHOD SHA512\n");
        i.step("/bin/sh -c #(nop) ADD file:0 in / ");
    });
}

#[test]
fn busybox() {
    let shadow = shadow(BUSYBOX_PASSWD, "*:10933:0:99999:7:::", "*:10933:0:99999:7:::");
    check_stock(BUSYBOX_PASSWD, BUSYBOX_GROUP, &shadow, &[], |i| {
        i.step("BusyBox 1.36.1 (glibc), Debian 12");
    });
}

#[test]
fn distroless() {
    let passwd = "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n";
    let group = "root:x:0:\nnobody:x:65534:\ntty:x:5:\nstaff:x:50:\nnonroot:x:65532:\n";
    check_stock(passwd, group, "", &[], |i| {
        i.step("bazel build @debian12//:base-files");
        i.env("SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt");
    });
}

#[test]
fn known_images_with_odd_variables() {
    // php, wordpress, keycloak, bitnami and the like: dockle#130, #202, #250.
    let mut image = Fake::default();
    for entry in [
        "GPG_KEYS=39B641343D8C104B2B146DC3F9C39DC0B9698544 E60913E4DF209907D8E30D96659A97C9CF2A795A",
        "WORDPRESS_CLI_GPG_KEY=63AF7AA15067C05616FDDD88A3A2E8F226F0BC06",
        "PHPIZE_DEPS=autoconf dpkg-dev file g++ gcc libc-dev make pkg-config re2c",
        "PHP_SHA256=0000000000000000000000000000000000000000000000000000000000000000",
        "KC_RUN_IN_CONTAINER=true",
        "ALLOW_EMPTY_PASSWORD=no",
        "GF_PATHS_HOME=/usr/share/grafana",
        "PASSENGER_VERSION=6",
        "POSTGRES_PASSWORD=",
        "NJS_RELEASE=1~bookworm",
    ] {
        image.env(entry);
    }
    image.step("RUN /bin/sh -c set -eux; { echo '[www]'; echo 'access.log = /proc/self/fd/2'; echo 'clear_env = no'; } | tee php-fpm.d/docker.conf # buildkit");
    let ids = image.ids();
    assert!(
        !ids.contains(&"env-credential") && !ids.contains(&"build-argument-credential"),
        "{ids:?}"
    );
}
