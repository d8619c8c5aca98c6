//! How an image was built, from its history. Nothing of a step is quoted: it may hold secrets.

use super::history::{Step, step};
use super::shell::{Command, Pipeline, pipelines};
use crate::Config;
use crate::issues::Issues;

pub(super) fn check(config: &Config, issues: &mut Issues) {
    let mut has_added = false;
    for (index, line) in config.history.iter().enumerate() {
        let mut say = |id: &str, what: &str| {
            issues.add(id, None, &format!("step {}: {what}", index + 1));
        };
        match step(line) {
            Step::Other { word: "ADD", rest } => {
                add(rest, !has_added, &mut say);
                has_added = true;
            }
            Step::Other { .. } => {}
            Step::Run { script, .. } => {
                let pipelines = pipelines(script);
                for pipeline in &pipelines {
                    run(pipeline, &mut say);
                }
                alone(&pipelines, &mut say);
            }
        }
    }
}

/// `ADD`: of an address, or where COPY would do. The first one is how an image begins.
fn add(rest: &str, is_first: bool, say: &mut impl FnMut(&str, &str)) {
    let words: Vec<_> =
        rest.split_whitespace().filter(|word| !word.starts_with("--") && *word != "in").collect();
    let Some((target, sources)) = words.split_last() else { return };
    let is_remote = |source: &&str| {
        ["http://", "https://", "git@", "git://", "ssh://"].iter().any(|s| source.starts_with(s))
    };
    let is_checked = rest.split_whitespace().any(|word| word.starts_with("--checksum="));
    let is_archive = |source: &&str| {
        let ends = [".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tar.zst"];
        ends.iter().any(|end| source.ends_with(end))
    };
    if sources.iter().any(is_remote) {
        if !is_checked {
            say("add-remote", "ADD of an address without a checksum");
        }
    } else if !is_first && *target != "/" && !sources.iter().all(is_archive) {
        say("add-instead-of-copy", "ADD of local files");
    }
}

fn run(pipeline: &Pipeline, say: &mut impl FnMut(&str, &str)) {
    for command in pipeline {
        if let Some(what) = upgrade(command) {
            say("package-upgrade", what);
        }
        if let Some(what) = unverified(command) {
            say("unverified-packages", what);
        }
        if let Some(what) = password(command) {
            say("password-in-build", what);
        }
        if executes_download(command) {
            say("download-executed", "a shell runs what is downloaded");
        }
    }
    for (place, command) in pipeline.iter().enumerate() {
        let before = pipeline.get(..place).unwrap_or_default();
        // Only the nearest few: what comes between is `tee`, `gunzip` and the like.
        let has = |is: fn(&Command) -> bool| before.iter().rev().take(4).any(is);
        if reads_script(command) && has(is_download) {
            say("download-executed", "what is downloaded is piped into an interpreter");
        }
        let is_told = command.name() == "chpasswd"
            || (command.name() == "passwd" && command.arguments().any(|word| word == "--stdin"));
        if is_told && has(|command| matches!(command.name(), "echo" | "printf")) {
            say("password-in-build", "a password is written into a command");
        }
    }
}

fn is_download(command: &Command) -> bool {
    matches!(command.name(), "curl" | "wget" | "fetch" | "aria2c")
}

/// Whether a command runs what it reads.
fn reads_script(command: &Command) -> bool {
    let mut arguments = command.arguments().filter(|word| !word.contains('>'));
    if command.is_shell() {
        // `sh -s -- arguments`, `bash -`, `bash -x`; but not `sh script` and `sh -c text`.
        return match arguments.find(|word| !word.starts_with('-') || word.ends_with(['c', 's'])) {
            None => true,
            Some(word) => word.starts_with('-') && word.ends_with('s'),
        };
    }
    let name = command.name().trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    // With arguments, these work on data: `python3 -m json.tool`, `perl -ne …`.
    matches!(name, "python" | "perl" | "ruby" | "node" | "php")
        && arguments.next().is_none_or(|word| matches!(word, "-" | "--"))
}

/// `sh -c "$(curl …)"`, `bash <(curl …)`, `eval "$(wget …)"`.
fn executes_download(command: &Command) -> bool {
    let runs = command.is_shell() || matches!(command.name(), "eval" | "source" | ".");
    runs && command.arguments().any(|word| {
        ["$(", "<(", "`"].iter().any(|opening| {
            word.split_once(opening).is_some_and(|(_, inner)| {
                let inner = inner.trim_start();
                ["curl ", "wget "].iter().any(|download| inner.starts_with(download))
            })
        })
    })
}

/// The first words that are no options. Some options have a word of their own.
fn plain(command: &Command) -> impl Iterator<Item = &str> {
    let mut skips = false;
    command.arguments().filter(move |word| {
        let is_value = std::mem::take(&mut skips);
        skips = matches!(
            *word,
            "-o" | "-t"
                | "-c"
                | "-X"
                | "--installroot"
                | "--releasever"
                | "--repo"
                | "--repoid"
                | "--enablerepo"
                | "--disablerepo"
                | "--setopt"
                | "--repository"
                | "-p"
                | "--root"
        );
        !is_value && !word.starts_with('-') && !word.contains('>')
    })
}

fn upgrade(command: &Command) -> Option<&'static str> {
    let mut words = plain(command);
    let (what, has_names) = (words.next()?, words.next().is_some());
    match (command.name(), what) {
        ("apt-get" | "apt" | "aptitude", "dist-upgrade" | "full-upgrade") => {
            Some("apt-get dist-upgrade")
        }
        ("apt-get" | "apt" | "aptitude", "upgrade" | "safe-upgrade") if !has_names => {
            Some("apt-get upgrade")
        }
        ("apk", "upgrade") if !has_names => Some("apk upgrade"),
        ("yum" | "dnf" | "dnf5" | "microdnf" | "tdnf", "update" | "upgrade" | "distro-sync")
            if !has_names =>
        {
            Some("dnf update")
        }
        ("zypper", "update" | "up" | "dist-upgrade" | "dup") if !has_names => Some("zypper update"),
        _ => None,
    }
}

/// Lists fetched in a step of their own: the next step takes them from the cache, however old.
fn alone(pipelines: &[Pipeline], say: &mut impl FnMut(&str, &str)) {
    let commands = || pipelines.iter().flatten();
    let of_apt = |command: &Command, words: &[&str]| {
        matches!(command.name(), "apt-get" | "apt" | "aptitude")
            && plain(command).next().is_some_and(|word| words.contains(&word))
    };
    let updates = commands().any(|command| of_apt(command, &["update"]));
    let others = commands().any(|command| {
        of_apt(
            command,
            &[
                "install",
                "upgrade",
                "dist-upgrade",
                "full-upgrade",
                "satisfy",
                "build-dep",
                "download",
                "source",
            ],
        ) || command.is_shell()
            || matches!(command.name(), "rm" | "apt-cache" | "debootstrap")
            || command.words.iter().any(|word| word.contains("install"))
    });
    if updates && !others {
        say("package-lists-alone", "apt-get update in a step of its own");
    }
}

fn unverified(command: &Command) -> Option<&'static str> {
    let has = |words: &[&str]| command.arguments().any(|word| words.contains(&word));
    match command.name() {
        "apt-get" | "apt" | "aptitude"
            if has(&[
                "--allow-unauthenticated",
                "--force-yes",
                "--allow-insecure-repositories",
            ]) =>
        {
            Some("apt-get without signatures")
        }
        "apk" if has(&["--allow-untrusted"]) => Some("apk --allow-untrusted"),
        "yum" | "dnf" | "dnf5" | "microdnf" | "tdnf"
            if has(&["--nogpgcheck", "--no-gpgchecks"]) =>
        {
            Some("dnf --nogpgcheck")
        }
        "zypper" if has(&["--no-gpg-checks"]) => Some("zypper --no-gpg-checks"),
        "rpm" if has(&["--nosignature", "--nodigest"]) => Some("rpm --nosignature"),
        "pip" | "pip3" if has(&["--trusted-host"]) => Some("pip --trusted-host"),
        "curl" if has(&["-k", "--insecure"]) => Some("curl --insecure"),
        "wget" if has(&["--no-check-certificate"]) => Some("wget --no-check-certificate"),
        _ => None,
    }
}

/// A hash or password as an argument.
fn password(command: &Command) -> Option<&'static str> {
    let is_account = matches!(command.name(), "useradd" | "usermod");
    let has = command
        .arguments()
        .any(|word| matches!(word, "-p" | "--password") || word.starts_with("--password="));
    // A locked one, and what a variable holds elsewhere, are no passwords.
    let is_none = command.arguments().any(|word| {
        let value = word.strip_prefix("--password=").unwrap_or(word);
        matches!(value, "*" | "!" | "!!" | "x" | "")
    });
    (is_account && has && !is_none).then_some("useradd with a password")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a step is called, without its number.
    fn check_step(line: &str, wanted: &[&str]) {
        let first = "/bin/sh -c #(nop) ADD file:0 in /".to_owned();
        let config = Config { history: vec![first, line.to_owned()], ..Config::default() };
        let mut issues = Issues::default();
        check(&config, &mut issues);
        let ids: Vec<_> = issues.finish().iter().map(|issue| issue.item.id).collect();
        assert_eq!(ids, wanted, "{line}");
    }

    #[test]
    fn additions() {
        check_step("ADD . /app # buildkit", &["add-instead-of-copy"]);
        check_step("/bin/sh -c #(nop) ADD dir:0 in /app ", &["add-instead-of-copy"]);
        check_step("ADD --chown=1:1 a.txt /app/ # buildkit", &["add-instead-of-copy"]);
        check_step("ADD https://example.org/a /a # buildkit", &["add-remote"]);
        check_step("ADD --checksum=sha256:0 https://example.org/a /a # buildkit", &[]);
        check_step("ADD rootfs.tar.gz / # buildkit", &[]);
        check_step("ADD a.tar.xz /opt # buildkit", &[]);
        check_step("COPY . /app # buildkit", &[]);
        check_step("ADD", &[]);
    }

    #[test]
    fn packages() {
        check_step("/bin/sh -c apt-get update && apt-get -y upgrade", &["package-upgrade"]);
        check_step("RUN /bin/sh -c apt update; apt -o A=b dist-upgrade", &["package-upgrade"]);
        check_step("RUN /bin/sh -c apk -U upgrade --no-cache", &["package-upgrade"]);
        check_step("RUN /bin/sh -c dnf -y update && dnf clean all", &["package-upgrade"]);
        check_step("RUN /bin/sh -c yum update -y openssl", &[]);
        check_step("RUN /bin/sh -c apk upgrade libcrypto3", &[]);
        check_step("RUN /bin/sh -c apt-get update && apt-get install -y a=1", &[]);
        check_step("RUN /bin/sh -c echo apt-get upgrade", &[]);
        check_step("RUN /bin/sh -c apt-get update", &["package-lists-alone"]);
        check_step("RUN /bin/sh -c apt-get update && ./install.sh", &[]);
        check_step("RUN /bin/sh -c apk update", &[]);
        check_step("RUN /bin/sh -c apk add --allow-untrusted a.apk", &["unverified-packages"]);
        check_step("RUN /bin/sh -c curl -k -o a https://a", &["unverified-packages"]);
        check_step("RUN /bin/sh -c rm -k; grep -k a", &[]);
    }

    #[test]
    fn downloads() {
        let found = &["download-executed"];
        check_step("RUN /bin/sh -c curl -fsSL https://a | bash -", found);
        check_step("RUN /bin/sh -c curl https://a | sudo -E sh -s -- --yes", found);
        check_step("RUN /bin/sh -c wget -O- https://a 2>/dev/null | tee a | sh", found);
        check_step("RUN /bin/bash -o pipefail -c curl https://a | python3 -", found);
        check_step("RUN /bin/sh -c curl https://a | php -- --install-dir=/usr/bin", found);
        check_step("RUN /bin/sh -c sh -c \"$(curl -fsSL https://a)\"", found);
        check_step("RUN /bin/sh -c bash <(curl https://a)", found);
        check_step("RUN /bin/sh -c bash -c 'curl https://a | sh'", found);
        check_step("RUN /bin/sh -c curl https://a | tar xz", &[]);
        check_step("RUN /bin/sh -c curl https://a | python3 -m json.tool", &[]);
        check_step("RUN /bin/sh -c curl https://a | perl -ne print", &[]);
        check_step("RUN /bin/sh -c curl -o a https://a && sh a", &[]);
        check_step("RUN /bin/sh -c cat a | sh", &[]);
        check_step("RUN /bin/sh -c echo 'curl https://a | sh'", &[]);
        check_step("RUN /bin/sh -c A=$(curl https://a) sh b", &[]);
    }

    #[test]
    fn passwords() {
        let found = &["password-in-build"];
        check_step("RUN /bin/sh -c echo 'root:hunter2' | chpasswd", found);
        check_step("RUN /bin/sh -c echo hunter2 | passwd --stdin root", found);
        check_step("RUN /bin/sh -c useradd -m -p hunter2 a", found);
        check_step("RUN /bin/sh -c usermod -p '*' root", &[]);
        check_step("RUN /bin/sh -c chpasswd < /run/secrets/a", &[]);
        check_step("RUN /bin/sh -c useradd -m a", &[]);
        check_step("RUN /bin/sh -c mkdir -p /a", &[]);
    }
}
