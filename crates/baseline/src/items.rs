//! The table of what is checked.

use portcullis_types::Severity;

/// What kind of thing is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Accounts and groups.
    Accounts,
    /// Passwords and their hashes.
    Passwords,
    /// Who gets in without a password.
    Trust,
    /// Rights of files and folders.
    Permissions,
    /// Services and their settings.
    Services,
    /// How the image is run.
    Configuration,
    /// How the image was built, and what the build left behind.
    Build,
}

impl Group {
    /// All groups, in the order of the table.
    pub const ALL: &'static [Self] = &[
        Self::Accounts,
        Self::Passwords,
        Self::Trust,
        Self::Permissions,
        Self::Services,
        Self::Configuration,
        Self::Build,
    ];

    /// Its heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Accounts => "Accounts and groups",
            Self::Passwords => "Passwords",
            Self::Trust => "Trust",
            Self::Permissions => "Permissions",
            Self::Services => "Services",
            Self::Configuration => "Configuration",
            Self::Build => "Build",
        }
    }
}

/// One thing to check. Ids are part of policies and never change their meaning.
#[derive(Debug, PartialEq, Eq)]
pub struct Item {
    /// What policies call it, in lower case with hyphens.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing it is.
    pub group: Group,
    /// What was found, as half a sentence.
    pub title: &'static str,
    /// Why it matters.
    pub reason: &'static str,
    /// How to mend it, for whoever builds the image.
    pub remedy: &'static str,
}

/// The item with this id.
pub fn item(id: &str) -> Option<&'static Item> {
    ITEMS.iter().find(|item| item.id == id)
}

macro_rules! items {
    ($($group:ident $severity:ident $id:literal { $title:literal $reason:literal $remedy:literal })+) => {
        /// All that is checked, by groups.
        pub static ITEMS: &[Item] = &[$(Item {
            id: $id,
            severity: Severity::$severity,
            group: Group::$group,
            title: $title,
            reason: $reason,
            remedy: $remedy,
        }),+];
    };
}

items! {
    Accounts High "account-uid0-not-root" {
        "An account that is not root has UID 0"
        "The system knows rights by the number, not by the name: such an account is root under \
         another name, and nobody looks for it there."
        "Give the account a UID of its own, or remove it: `usermod -u 1000 NAME`, `userdel NAME`."
    }
    Accounts Medium "account-duplicate-name" {
        "An account name is there more than once"
        "Programs take the first entry or the last; which password and which rights count is \
         chance, and an account can hide behind another."
        "Leave one line for each name in /etc/passwd and /etc/shadow; `pwck -r` lists the others."
    }
    Accounts Medium "account-duplicate-uid" {
        "Several accounts share a UID"
        "Accounts with one UID are one account for the kernel: each may read and change all that \
         the others own, and nobody can tell who did what."
        "Give each account a UID of its own and change the owner of its files with `chown`."
    }
    Accounts Medium "account-in-privileged-group" {
        "An unprivileged account is in a privileged group"
        "Members of groups such as root, wheel, sudo, disk or docker become root, or read and \
         write what only root should."
        "Take the account out of the group: `gpasswd -d NAME GROUP`; give it a primary group of \
         its own with `usermod -g`."
    }
    Accounts Medium "root-group-not-0" {
        "The primary group of root is not GID 0"
        "Files that root makes then belong to a group that others may be members of."
        "Set it back: `usermod -g 0 root`."
    }
    Accounts High "shadow-group-member" {
        "The group shadow has members"
        "Members of this group read /etc/shadow, and with it all password hashes, which can then \
         be guessed at leisure."
        "Empty the group: `gpasswd -M '' shadow`; programs that need it have the set-group-ID bit."
    }
    Accounts Low "account-group-missing" {
        "The primary group of an account is not in /etc/group"
        "Whoever makes a group with this GID later gets the rights of the account's files."
        "Add the group with `groupadd -g GID NAME`, or give the account one that exists."
    }
    Accounts Medium "group-duplicate-name" {
        "A group name is there more than once"
        "Programs take the first entry or the last; who is a member is chance."
        "Leave one line for each name in /etc/group; `grpck -r` lists the others."
    }
    Accounts Medium "group-duplicate-gid" {
        "Several groups share a GID"
        "Groups with one GID are one group for the kernel: members of one have the rights of the \
         others."
        "Give each group a GID of its own and change the group of its files with `chgrp`."
    }
    Accounts High "nis-entry-passwd" {
        "/etc/passwd has an old \"+\" or \"-\" entry"
        "Such lines bring in accounts of a NIS server; a program that does not know them takes \
         \"+\" for an account, at worst without a password and with UID 0."
        "Remove lines that begin with `+` or `-`."
    }
    Accounts High "nis-entry-shadow" {
        "/etc/shadow has an old \"+\" or \"-\" entry"
        "Such lines bring in passwords of a NIS server; a program that does not know them takes \
         \"+\" for an account, at worst without a password."
        "Remove lines that begin with `+` or `-`."
    }
    Accounts Medium "nis-entry-group" {
        "/etc/group has an old \"+\" or \"-\" entry"
        "Such lines bring in groups of a NIS server, with members that the image does not know."
        "Remove lines that begin with `+` or `-`."
    }

    Passwords Critical "account-empty-password" {
        "An account with a shell has an empty password"
        "Anybody becomes this account by its name alone: with su, at a console, over SSH if empty \
         passwords are allowed there (CVE-2019-5021 was this for root)."
        "Lock the account: `passwd -l NAME`, or put `*` into the second field of /etc/shadow."
    }
    Passwords Medium "account-empty-password-no-shell" {
        "An account without a shell has an empty password"
        "It cannot work at a terminal, but services that ask only for a password let it in."
        "Lock the account: `passwd -l NAME`, or put `*` into the second field of /etc/shadow."
    }
    Passwords Critical "account-weak-password" {
        "The password of an account is one of the commonest, or made from its name"
        "Whoever attacks tries these first. A password in an image is the same in each of its \
         containers."
        "Lock the account with `passwd -l NAME`; containers need no passwords. Build without \
         `chpasswd`."
    }
    Passwords High "account-password-in-passwd" {
        "/etc/passwd holds a password or a hash"
        "Everybody may read /etc/passwd. A hash there can be guessed at leisure, and a plain text \
         is known to all who have the image."
        "Put `x` into the second field and lock the account: `pwconv && passwd -l NAME`."
    }
    Passwords High "password-in-build" {
        "The build writes a password into a command"
        "The command stays in the image's history, which everybody with the image can read."
        "Build without passwords. If an account must have one, set it when the container starts, \
         from a secret that is mounted."
    }
    Passwords Medium "account-duplicate-hash" {
        "Several accounts have the same password hash"
        "The same hash is the same password: who knows one has all. A hash that was copied also \
         stays good when the first account's is changed."
        "Lock the accounts, or set passwords of their own."
    }
    Passwords Medium "account-weak-hash" {
        "A password is hashed with a weak algorithm"
        "DES, MD5, SHA-1 and NT hashes are guessed billions of times a second; even good \
         passwords do not last."
        "Lock the account, or set the password again with `ENCRYPT_METHOD YESCRYPT` or `SHA512` \
         in /etc/login.defs."
    }
    Passwords Low "weak-hash-default" {
        "New passwords are hashed with a weak algorithm"
        "Each password that is set in a container is guessed as fast as in the last century."
        "Set `ENCRYPT_METHOD YESCRYPT` or `SHA512` in /etc/login.defs, and `yescrypt` or `sha512` \
         for pam_unix.so in /etc/pam.d."
    }
    Passwords Low "account-password-never-expires" {
        "The password of an account has no validity period"
        "A password that leaked stays good for ever."
        "Lock the account, or set a period: `chage -M 90 NAME`."
    }
    Passwords Medium "account-password-changed-in-future" {
        "The password of an account was changed in the future"
        "Until that day the validity period does not count, so the password is good for longer \
         than anybody meant."
        "Set the day right: `chage -d $(date +%F) NAME`; mind the clock of the machine that builds."
    }
    Passwords Low "account-password-not-tried" {
        "A password hash could not be tried against the word list"
        "Trying it costs more time or memory than a scan has, so nobody knows whether its \
         password is weak."
        "Lock the account; containers need no passwords. Or allow the scan more work."
    }
    Passwords Low "group-password" {
        "A group has a password"
        "Whoever knows it gets the group's rights with newgrp, and members share it."
        "Remove it: `gpasswd -r GROUP`."
    }
    Passwords Medium "shadow-readable" {
        "Everybody may read the password hashes"
        "Hashes that everybody in the container reads can be guessed at leisure."
        "`chmod 640 /etc/shadow /etc/gshadow`, with owner root and group shadow or root."
    }

    Trust Critical "trust-anybody" {
        "A trust file lets every host in"
        "A line \"+\" trusts all hosts: anybody who reaches rlogin, rsh or SSH with host trust \
         is let in without a password."
        "Remove the file."
    }
    Trust High "trust-hosts" {
        "Other hosts are trusted without a password"
        "Files such as hosts.equiv and .rhosts believe what other hosts say of their users; who \
         takes an address over is let in."
        "Remove hosts.equiv, shosts.equiv, .rhosts and .shosts, and pam_rhosts from /etc/pam.d."
    }
    Trust High "trust-root" {
        "Root-level trust is preset"
        "Keys and hosts that root trusts are the same in every container of the image: who has \
         the key is root in all of them."
        "Remove .rhosts, .shosts and .ssh/authorized_keys from root's home folder."
    }
    Trust Medium "trust-authorized-keys" {
        "Keys are preset that may log in"
        "They are the same in every container of the image, and nobody can take them back from \
         an image that is out."
        "Remove authorized_keys; mount keys when the container starts, if it needs any."
    }
    Trust High "sudo-without-password" {
        "sudo runs every command without a password"
        "Whoever breaks into the account is root at once; a user other than root then protects \
         nothing."
        "Remove `NOPASSWD: ALL`, or name the commands that are needed."
    }
    Trust High "pam-permits-anybody" {
        "PAM lets in whoever asks"
        "`auth sufficient pam_permit.so` means that no password is asked for."
        "Remove the line from the file in /etc/pam.d."
    }

    Permissions Medium "setid-file" {
        "A program runs with the rights of its owner or group"
        "A set-user-ID or set-group-ID program gives rights to whoever runs it; no distribution \
         that we know installs this one so. Attackers leave such files to come back."
        "`chmod ug-s FILE`, or remove it; then start with `no-new-privileges`."
    }
    Permissions Low "setid-stock" {
        "A program of the distribution runs with the rights of its owner or group"
        "A container seldom needs it, and a mistake in it gives root to whoever runs it."
        "`find / -xdev -perm /6000 -type f -exec chmod ug-s {} +` as the last step of the build."
    }
    Permissions Medium "capabilities-file" {
        "A program has file capabilities"
        "It gives some of root's rights to whoever runs it; no distribution that we know installs \
         this one so."
        "`setcap -r FILE`; give capabilities to the container instead."
    }
    Permissions Low "capabilities-stock" {
        "A program of the distribution has file capabilities"
        "It gives some of root's rights to whoever runs it, and a container seldom needs it."
        "`setcap -r FILE`, or remove the package."
    }
    Permissions High "writable-path-folder" {
        "Everybody may write to a folder that programs are looked for in"
        "Whoever runs anything in the container can put a program there that root runs next."
        "`chmod o-w FOLDER`, also for the folders above it."
    }
    Permissions High "writable-program" {
        "Everybody may change a program or a library"
        "Whoever runs anything in the container can change what root runs next."
        "`chmod o-w FILE`."
    }
    Permissions High "writable-etc" {
        "Everybody may write below /etc"
        "Whoever runs anything in the container can change the settings of what root runs."
        "`chmod -R o-w /etc`."
    }
    Permissions Medium "tmp-without-sticky" {
        "A folder for temporary files has no sticky bit"
        "Everybody may remove and replace the files of all others there."
        "`chmod 1777 /tmp /var/tmp`."
    }

    Services Medium "sshd-present" {
        "An SSH server is in the image"
        "It is one more door, with keys and passwords of its own, past everything that guards \
         `exec` into a container."
        "Remove the package; use `kubectl exec` or the engine's `exec`."
    }
    Services High "sshd-root-login" {
        "The SSH server lets root log in with a password"
        "Guessing one password is enough to be root."
        "`PermitRootLogin no` in /etc/ssh/sshd_config, before any other value of it."
    }
    Services High "sshd-empty-passwords" {
        "The SSH server takes empty passwords"
        "Every account without a password is open to the network."
        "`PermitEmptyPasswords no` in /etc/ssh/sshd_config."
    }
    Services Medium "ssh-port-exposed" {
        "The image exposes port 22"
        "It is made to be logged into over the network, which goes past everything that guards \
         `exec` into a container."
        "Remove `EXPOSE 22` and the SSH server."
    }
    Services High "ld-so-preload" {
        "A library is loaded into every program"
        "/etc/ld.so.preload is how rootkits hide: the library runs in each program of the \
         container and can change what it sees."
        "Remove /etc/ld.so.preload; set LD_PRELOAD for the one program that needs it."
    }
    Services Low "sudo-present" {
        "sudo or doas is in the image"
        "A container does not change users; what is there for it only helps who breaks in. It \
         also passes on signals badly."
        "Remove the package; use `USER` in the Dockerfile, or gosu in an entrypoint."
    }

    Configuration Medium "user-root" {
        "The container runs as root"
        "Who breaks into the program is root in the container, and one mistake of the kernel or \
         the runtime away from root on the node."
        "Make an account and set it: `USER 10001`. In Kubernetes, `runAsNonRoot: true`."
    }
    Configuration Low "no-healthcheck" {
        "The image says nothing of its health"
        "The engine cannot tell a program that hangs from one that works. Kubernetes has probes \
         instead and does not use it."
        "`HEALTHCHECK CMD …` in the Dockerfile, or probes in Kubernetes."
    }
    Configuration High "env-credential" {
        "The environment holds a credential"
        "Everybody who has the image reads it with `inspect`, each process of the container has \
         it, and logs and crash reports show it."
        "Remove the variable from the Dockerfile and change the credential; give it as a mounted \
         secret when the container starts."
    }
    Configuration Medium "sensitive-volume" {
        "A volume covers a folder of the system"
        "The engine makes a volume of it at every start: what the image has there goes stale, or \
         the host's own is mounted by habit."
        "Remove the VOLUME; name a folder for data, such as /data."
    }
    Configuration Low "tag-latest" {
        "The image goes by the tag latest, or by none"
        "Nobody can say which version runs, and two nodes may run different ones."
        "Use a tag with a version, and a digest where it counts."
    }

    Build High "build-argument-credential" {
        "The history holds a credential"
        "Build arguments and variables that were set and unset again stay in the image's history, \
         which everybody with the image can read."
        "Change the credential; give it with `RUN --mount=type=secret`."
    }
    Build Medium "credential-file" {
        "A file is there that holds credentials by its name"
        "Everybody who has the image can read it, even if a later layer removes it."
        "Remove it in the step that makes it, change the credential, and name it in .dockerignore."
    }
    Build Medium "download-executed" {
        "The build runs what it downloads"
        "Whoever controls the address, or the way to it, controls the image; nobody can say later \
         what was run."
        "Download to a file, check its checksum or signature, then run it."
    }
    Build Medium "unverified-packages" {
        "The build does not check what it downloads"
        "Without signatures and certificates, whoever sits in between decides what is installed."
        "Add the key or the certificate of the source instead of switching the check off."
    }
    Build Medium "add-remote" {
        "ADD downloads without a checksum"
        "What comes from the address may be something else tomorrow, and nothing notices."
        "`ADD --checksum=sha256:… URL`, or download and check in one RUN."
    }
    Build Low "add-instead-of-copy" {
        "ADD is used where COPY would do"
        "ADD unpacks archives and follows addresses, which a file's name alone can set off."
        "Use COPY."
    }
    Build Low "package-upgrade" {
        "The build upgrades all packages"
        "Two builds of the same Dockerfile differ, and the layer doubles what it replaces."
        "Take a newer base image; install packages by name and version."
    }
    Build Low "package-lists-alone" {
        "Package lists are fetched in a step of their own"
        "The step is taken from the cache later, and old packages are installed from old lists."
        "`RUN apt-get update && apt-get install …` in one step."
    }
    Build Low "package-cache" {
        "A cache of packages is left in the image"
        "It makes the image larger and is of no use in it."
        "Remove it in the same step: `rm -rf /var/lib/apt/lists/*`, `apk add --no-cache`, \
         `dnf clean all`."
    }
    Build Low "needless-file" {
        "A file is there that only the build needs"
        "Dockerfiles, histories and repositories tell how the image is made, and .git holds all \
         that was ever committed."
        "Name it in .dockerignore, or copy only what the program needs."
    }
    Build Medium "file-not-read-wholly" {
        "A file is too long to be checked"
        "No such file is this long; what stands behind its beginning was not looked at."
        "See why it is so long, and shorten it."
    }
}
