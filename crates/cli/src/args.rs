//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use portcullis_audit::Head;
use portcullis_policy::Period;
use portcullis_types::{Action, Class, Digest, Engine, ImageRef, Severity, Timestamp};

use crate::exit;

/// The last gate before a container runs: decide by image and policy what may start on this node.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, after_help = exit::HELP, max_term_width = 100)]
#[command(propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Work on the installation below this folder, not on this node's
    #[arg(long, global = true, env = "PORTCULLIS_ROOT", value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Print for people or for programs
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Colour the actions; on a terminal alone, and not where NO_COLOR is set, if it is left out
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub(crate) color: Color,
}

/// When actions are coloured. The values have no documentation of their own, with which every help
/// would have its long form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
    /// Of scan alone: SARIF 2.1.0
    Sarif,
    /// Of scan alone: CycloneDX 1.6
    Cyclonedx,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say whether this node is protected, and by what
    #[command(after_help = "Examples:\n  portcullis status\n  portcullis status --output json")]
    Status,
    /// Check, publish and show policies
    #[command(after_help = "Examples:\n  portcullis policy check\n  portcullis policy apply")]
    #[command(subcommand)]
    Policy(Policy),
    /// Read images, say what is wrong with them, and store it
    #[command(after_help = "\
A target is the name of an image that containerd, Podman or CRI-O has, a folder in OCI's layout, an archive
of docker save or of a layout (plain, gzip or zstd), or the folder of a root filesystem.

An image is read layer by layer, in a process that may do nothing else, and each layer once on this node.
Vulnerabilities are looked for by the advisories of portcullis db, malicious files by the lists and rules
in /etc/portcullis/malware and by clamd if it runs. What is found becomes the image's verdict; a root
filesystem has none.

Exit code 6 with --fail-on if something as bad was found.

Examples:
  portcullis scan registry.example.com/web:1.4
  portcullis scan web.tar
  portcullis scan ./layout --image web:1.4 --severity critical,high
  portcullis scan / --class baseline,malware
  portcullis scan web.tar --no-store --output cyclonedx > web.cdx.json")]
    Scan(Box<Scan>),
    /// Take in scanners' reports: JSON of Trivy and Grype, SARIF, CycloneDX
    #[command(
        after_help = "Examples:\n  trivy image -f json -o web.json registry.example.com/web:1.4\n  \
        portcullis import web.json\n  \
        grype -o json registry.example.com/web:1.4 > web-grype.json\n  \
        portcullis import web-grype.json\n  \
        portcullis import web.sarif --image sha256:1f2e... --scanned-at 2026-11-20T08:00:00Z"
    )]
    Import(Import),
    /// Take in what changes daily: EPSS and KEV
    #[command(
        after_help = "Examples:\n  portcullis feed update epss_scores-current.csv.gz\n  portcullis feed status"
    )]
    #[command(subcommand)]
    Feed(Feed),
    /// Take in advisories of OSV, and ask them
    #[command(
        after_help = "Examples:\n  portcullis db update https://mirror.example/osv --ecosystem PyPI\n  \
        portcullis db update ./osv\n  portcullis db query PyPI django 4.2.1"
    )]
    #[command(subcommand)]
    Db(Db),
    /// Check VEX documents, and say what their statements do
    #[command(
        after_help = "Examples:\n  portcullis vex check web.openvex.json\n  portcullis vex explain CVE-2024-3094"
    )]
    #[command(subcommand)]
    Vex(Vex),
    /// Look at what is known about images
    #[command(
        after_help = "Examples:\n  portcullis verdict list\n  portcullis verdict show sha256:1f2e..."
    )]
    #[command(subcommand)]
    Verdict(Verdict),
    /// Look at what was decided
    #[command(
        after_help = "Examples:\n  portcullis events list --status open\n  portcullis events show 01JD3V8Q2M"
    )]
    #[command(subcommand)]
    Events(Events),
    /// Say what a door would decide about an image
    #[command(after_help = "Example:\n  portcullis decide --image sha256:1f2e... \
        --reference registry.example.com/web:1.4 --namespace prod-web")]
    Decide(Box<Decide>),
    /// Explain a decision: each finding, why it counts or not, and what would let the image start
    #[command(after_help = "Examples:\n  portcullis explain 01JD3V8Q2M\n  \
        portcullis explain --image sha256:1f2e... --namespace prod-web --all")]
    Explain(Box<Explain>),
    /// Replay recorded starts against other policies, and say what would change
    #[command(after_help = "Examples:\n  portcullis simulate --policies ./policies --since 7d\n  \
        portcullis simulate --policies ./policies --since 2026-11-01T00:00:00Z --exit-code")]
    Simulate(Simulate),
    /// Find every way past the gate on this node, and what is wrong with it
    #[command(after_help = "\
Reads the configurations of containerd, CRI-O, Docker, Podman and kubelet, and the gate's own files.
It asks no engine and changes nothing; with --root it examines an image that does not run.

bypass   a container starts past the gate though nobody on the node asked for that
error    the gate or an engine does not work as it is set up
warning  a way past the gate for who owns an engine's socket, or something that will break

Exit code 5 if there is a bypass or an error, with --strict if there is a warning too.

Examples:
  portcullis doctor
  portcullis doctor --root /mnt/image --containerd-version 1.7.24
  portcullis doctor --strict --output json")]
    Doctor(Doctor),
    /// Say which running containers could not be started again, and why
    #[command(after_help = "\
Asks each engine of the node what it runs, and judges each container as if it were started now, by the
policies in force or by those of a folder that are not applied yet. containerd and Docker answer by
containerd's socket, CRI-O and Podman by their storage and the kernel; a [wrapper.NAME] of the settings
says where these are. The containers of a user without root are seen from within: podman unshare.

Exit code 4 if a container would be blocked.

Examples:
  portcullis preflight
  portcullis preflight --policies ./stricter
  portcullis preflight --engine podman --output json")]
    Preflight(Preflight),
    /// Check the settings file
    #[command(after_help = "Example:\n  portcullis config check")]
    #[command(subcommand)]
    Config(Config),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  portcullis completions bash > \
        /usr/share/bash-completion/completions/portcullis")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages
    #[command(after_help = "Example:\n  portcullis man /usr/local/share/man/man1")]
    Man {
        /// Into this folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Print the JSON Schema of what a command prints with --output json
    #[command(after_help = "Examples:\n  portcullis schema\n  portcullis schema events list\n\n\
        Without a command, those that have a schema are listed.")]
    Schema {
        /// The command, as it is typed
        #[arg(value_name = "COMMAND")]
        command: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Db {
    /// Build the vulnerability database anew from advisories of OSV
    #[command(after_help = "\
Takes folders in the layout in which OSV publishes (<ecosystem>/all.zip), archives, and single
records. The ecosystems that are in them take the place of what was known of them; all others stay.
It is built beside the one in force: if anything fails, that one stays.

Archives and records may be URLs too. Any other URL is that of a mirror in the same layout. Of it are
taken the ecosystems that --ecosystem names; without it those that the database has, which is what a
timer wants; on a node without a database all, if they are at most ten. What has not changed since
it was fetched is not fetched again. A release (Debian:12) may stand for its ecosystem; of other
releases nothing is known then, and their images never count as clean.

A mirror is believed: take https. Proxies are those of HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and
NO_PROXY, and are asked for a tunnel (CONNECT) for http too. A login may stand in the URL,
https://USER:PASSWORD@HOST/. What breaks off is tried three times.

Examples:
  portcullis db update ./osv
  portcullis db update https://mirror.example/osv --ecosystem Debian --ecosystem PyPI
  portcullis db update https://mirror.example/osv")]
    Update(Box<DbUpdate>),
    /// Judge all images that were scanned here by what is known now, without reading a layer
    #[command(after_help = "\
db update does it at its end. Do it yourself after a change of the lists in /etc/portcullis/malware, or of
/etc/portcullis/passwords.txt; new rules of YARA need a new scan.

Example:
  portcullis db rematch")]
    Rematch,
    /// Say how old the vulnerability database is, and what is in it
    #[command(after_help = "Example:\n  portcullis db status")]
    Status,
    /// Read the whole vulnerability database, and compare it with its checksums
    #[command(after_help = "Example:\n  portcullis db verify")]
    Verify,
    /// List the advisories that say that a version of a package is affected
    #[command(after_help = "\
An ecosystem without its release asks for all releases.

Examples:
  portcullis db query PyPI django 4.2.1
  portcullis db query AlmaLinux:8 openssl-libs 1:1.1.1k-5.el8_5")]
    Query {
        /// The ecosystem, by its name in the OSV schema
        ecosystem: String,
        /// The package
        name: String,
        /// Its version
        #[arg(id = "of", value_name = "VERSION", allow_hyphen_values = true)]
        version: String,
    },
    /// Say how two versions stand to each other, as the ecosystem's own tools have it
    #[command(after_help = "\
Prints <, = or >. Ecosystems are those of the OSV schema, with or without a release: Debian:12, Alpine,
Red Hat, npm, PyPI, Maven, crates.io and so on.

With --file, each line of the file is a claim, A < B, A = B or A > B; empty lines and lines that begin
with # or // are passed over. Exit code 1 if a claim is wrong.

Examples:
  portcullis db compare Debian 2.36-9+deb12u4 2.36-9+deb12u10
  portcullis db compare Maven --file maven-versions.txt")]
    Compare(Compare),
}

#[derive(Debug, Args)]
pub(crate) struct DbUpdate {
    /// Folders, archives, records, and URLs
    #[arg(required = true, value_name = "SOURCE")]
    pub(crate) sources: Vec<PathBuf>,
    /// Take this ecosystem of the mirror; can be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) ecosystem: Vec<String>,
    /// Take all ecosystems that the mirror lists in ecosystems.txt
    #[arg(long, conflicts_with = "ecosystem")]
    pub(crate) all_ecosystems: bool,
    /// Most bytes of a file that is fetched; K, M and G may follow
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "4G")]
    pub(crate) max_size: u64,
    #[command(flatten)]
    pub(crate) fetch: Fetch,
}

/// How files are fetched.
#[derive(Debug, Args)]
pub(crate) struct Fetch {
    /// Certificates (PEM) of authorities to trust when fetching, beside those of this node
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Seconds to wait for a connection, and for a server that sends nothing
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
}

/// A number of bytes: `4G`.
fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let shift = match unit {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err("it must be a number of bytes, like 500M or 4G".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "it must begin with a number".to_owned())?;
    number.checked_mul(1 << shift).filter(|n| *n > 0).ok_or_else(|| "it is no size".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// The ecosystem
    pub(crate) ecosystem: String,
    /// The first version
    #[arg(required_unless_present = "file", requires = "b", allow_hyphen_values = true)]
    pub(crate) a: Option<String>,
    /// The second version
    #[arg(allow_hyphen_values = true)]
    pub(crate) b: Option<String>,
    /// Check the lines of this file
    #[arg(long, value_name = "FILE", conflicts_with = "a")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Check policy files, and report every fault with its place
    #[command(after_help = "Example:\n  portcullis policy check production.yaml")]
    Check {
        /// Files or folders; the node's policy folder if none is given
        paths: Vec<PathBuf>,
    },
    /// Point out what is well-formed in policies and yet hardly meant
    #[command(after_help = "\
Errors defeat a policy or harm the node, warnings are hardly meant, notes are often on purpose.
Recorded starts of this node are decided again by the policies, with what is known of their images
now, to see what is never used and whether a pause image would be blocked.

Exit code 1 if there are errors, with --strict if there are warnings too.

Examples:
  portcullis policy lint
  portcullis policy lint --strict --since 2026-10-01T00:00:00Z production.yaml")]
    Lint {
        /// Files or folders; the node's policy folder if none is given
        paths: Vec<PathBuf>,
        /// Only recorded starts since this time (RFC 3339), or of the last 24h, 7d, 1d12h
        #[arg(long, value_name = "TIME", value_parser = since)]
        since: Option<Timestamp>,
        /// Fail on warnings too
        #[arg(long)]
        strict: bool,
    },
    /// Print the JSON Schema of a policy document, for editors and other tools
    #[command(after_help = "Example:\n  portcullis policy schema > portcullis-policy.schema.json")]
    Schema,
    /// List the templates of policies, or print one to start from
    #[command(after_help = "Example:\n  portcullis policy template balanced > \
        /etc/portcullis/policies/balanced.yaml")]
    Template {
        /// Which; without it they are listed
        name: Option<String>,
    },
    /// Check the node's policies and VEX documents, and put them into force
    #[command(after_help = "Example:\n  portcullis policy apply")]
    Apply,
    /// List the policies in force, and say what differs from the files
    #[command(after_help = "Example:\n  portcullis policy list")]
    List,
    /// Show a policy that is in force
    #[command(after_help = "Example:\n  portcullis policy show production")]
    Show {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScanEngine {
    Containerd,
    /// containers/storage: Podman and CRI-O
    Storage,
    Docker,
}

#[derive(Debug, Args)]
pub(crate) struct Scan {
    /// Images by name, layouts, archives, root filesystems
    #[arg(required = true, value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    /// Which of several images of a layout or archive, by its name or digest
    #[arg(long, value_name = "NAME")]
    pub(crate) image: Option<String>,
    /// Who has the images that are named; all are asked if it is left out
    #[arg(long, value_enum)]
    pub(crate) engine: Option<ScanEngine>,
    /// The graph root of containers/storage, if it is not that of Podman or CRI-O here
    #[arg(long, value_name = "DIR")]
    pub(crate) storage: Option<PathBuf>,
    /// Docker's data folder, if it is not /var/lib/docker or the one of the wrapper's settings
    #[arg(long, value_name = "DIR")]
    pub(crate) docker: Option<PathBuf>,
    /// The socket of containerd, if it is not /run/containerd/containerd.sock or, for Docker, the one
    /// of the wrapper's settings
    #[arg(long, value_name = "SOCKET")]
    pub(crate) address: Option<String>,
    /// The namespace of containerd's image; all are asked if it is left out
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Which platform of several; this node's own if it is left out
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Store nothing and use nothing that is stored of images
    #[arg(long)]
    pub(crate) no_store: bool,
    /// Show only findings of these severities
    #[arg(long, value_name = "SEVERITY", value_delimiter = ',')]
    pub(crate) severity: Vec<Severity>,
    /// Show only findings of these classes
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    pub(crate) class: Vec<Class>,
    /// Show all findings, not only the first
    #[arg(long)]
    pub(crate) all: bool,
    /// Exit with code 6 if a finding that is shown is as bad as this, or worse
    #[arg(long, value_name = "SEVERITY")]
    pub(crate) fail_on: Option<Severity>,
    /// Count what lock files ask for as if it were installed
    #[arg(long)]
    pub(crate) lock_files: bool,
    /// The socket of clamd, if it is at no usual place
    #[arg(long, value_name = "SOCKET", conflicts_with = "no_clamd")]
    pub(crate) clamd: Option<PathBuf>,
    /// Do not ask clamd, though it runs
    #[arg(long)]
    pub(crate) no_clamd: bool,
    /// Give an image up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Reports: JSON of Trivy or Grype, SARIF 2.1.0, CycloneDX JSON with vulnerabilities; which one
    /// is told by what is in it
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The image that the reports are about, if they do not say it themselves
    #[arg(long, value_name = "DIGEST")]
    pub(crate) image: Option<Digest>,
    /// When the scans were made (RFC 3339), for reports that do not say it themselves
    #[arg(long, value_name = "TIME")]
    pub(crate) scanned_at: Option<Timestamp>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Feed {
    /// Store feeds, and write what they say into all that is known about images
    #[command(after_help = "Examples:\n  \
        portcullis feed update https://epss.empiricalsecurity.com/epss_scores-current.csv.gz\n  \
        portcullis feed update epss_scores-current.csv.gz known_exploited_vulnerabilities.json")]
    Update {
        /// EPSS (CSV, plain or packed with gzip) and KEV (JSON), files or URLs; without one, what lies
        /// in the node's feeds folder is taken
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        fetch: Fetch,
        /// Take a feed that is older than the stored one, or of a day to come
        #[arg(long)]
        force: bool,
    },
    /// Show the feeds of this node and how old they are
    #[command(after_help = "Example:\n  portcullis feed status")]
    Status,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Vex {
    /// List the statements of this node's VEX documents
    #[command(after_help = "Example:\n  portcullis vex list")]
    List,
    /// Check VEX documents: OpenVEX, CSAF, CycloneDX
    #[command(after_help = "Example:\n  portcullis vex check web.openvex.json")]
    Check {
        /// Files or folders; the node's VEX folder if none is given
        paths: Vec<PathBuf>,
    },
    /// Say of each statement that names a vulnerability of an image whether it applies, and why not
    #[command(after_help = "Examples:\n  portcullis vex explain CVE-2024-3094\n  \
        portcullis vex explain 01JD3V8Q2M\n  \
        portcullis vex explain CVE-2024-3094 --image sha256:1f2e... --manifest sha256:77aa...")]
    Explain(Box<VexExplain>),
}

#[derive(Debug, Args)]
pub(crate) struct VexExplain {
    /// The event of a decision, and ids of vulnerabilities, which have a hyphen; ids alone are
    /// looked for in all images that are known
    #[arg(value_name = "CVE|EVENT", required_unless_present_any = START)]
    pub(crate) about: Vec<String>,
    #[command(flatten)]
    pub(crate) start: Start,
    /// List the statements that name no vulnerability of the image too, and all products
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verdict {
    /// List the images about which something is known
    #[command(after_help = "Example:\n  portcullis verdict list")]
    List,
    /// Show what is known about an image
    #[command(after_help = "Example:\n  portcullis verdict show sha256:1f2e...")]
    Show {
        /// Digest of its configuration (the image ID)
        image: Digest,
    },
    /// Forget what is known about an image
    #[command(after_help = "Example:\n  portcullis verdict rm sha256:1f2e...")]
    Rm {
        /// Digests of their configurations
        #[arg(required = true)]
        images: Vec<Digest>,
    },
    /// Push what is known about an image to the registry where it lives
    #[command(after_help = "\
The verdict becomes an artifact that refers to the image, where other nodes find it by the image. It is
signed with the key that [registry] signingKey names; unsigned, no node that has trustedKeys takes it.
What other nodes have signed is theirs to push. Logins are those of podman login and docker login, or of
[registry] authFile. See docs/verdicts.md.

Examples:
  portcullis verdict push sha256:1f2e...
  portcullis verdict push sha256:1f2e... --repository registry.example.com/web:1.4")]
    Push(Push),
    /// Pull what other nodes have pushed about an image
    #[command(after_help = "\
Taken is what a key of [registry] trustedKeys has signed and what is about this very image. How old it
is stays as its scanner said, so that a policy's stale sees it. What was scanned here stays.

Examples:
  portcullis verdict pull registry.example.com/web:1.4
  portcullis verdict pull registry.example.com/web:1.4 --platform linux/arm64")]
    Pull(Pull),
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Digest of its configuration (the image ID)
    pub(crate) image: Digest,
    /// Where it lives, with a tag, a digest or neither; a name that the verdict has if it is left out
    #[arg(long, value_name = "REFERENCE")]
    pub(crate) repository: Option<String>,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// The image, by its name at the registry
    pub(crate) reference: ImageRef,
    /// Which platform of several; this node's own if it is left out
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Take what nobody has signed, as if it were imported; only where no keys are trusted
    #[arg(long)]
    pub(crate) allow_unsigned: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

/// How long a registry is waited for.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Patience {
    /// Seconds that all of it may take
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Filter {
    /// Only events of this action
    #[arg(long, value_name = "ACTION")]
    pub(crate) action: Option<Action>,
    /// Only events of this Kubernetes namespace
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Only events of containers whose id begins like this
    #[arg(long, value_name = "ID")]
    pub(crate) container: Option<String>,
    /// Only events since this time (RFC 3339), or of the last 24h, 7d, 1d12h
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<Timestamp>,
    /// Outcomes, notices of the ledger and marks too, not decisions and violations alone
    #[arg(long)]
    pub(crate) all: bool,
}

/// What was done about an event, as a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Handling {
    /// Blocked or alarmed, and nothing was done about it
    Open,
    /// Dealt with
    Handled,
    /// Known, and nothing is to be done
    Ignored,
    /// The image was put on a whitelist
    Whitelisted,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Events {
    /// List events, the oldest first; equal ones that were repeated are one row
    #[command(after_help = "Examples:\n  portcullis events list --action block --since 24h\n  \
        portcullis events list --status open --output json\n\n\
        Columns: TIME of the latest, COUNT of equal ones, ACTION, STATUS, EVENT (id of the latest),\n\
        WHERE it was to start, and WHAT was decided below. A row that was handled is open again when\n\
        the same is decided once more; what is ignored or whitelisted stays so.")]
    List {
        #[command(flatten)]
        filter: Filter,
        /// Only events with this status
        #[arg(long, value_enum, value_name = "STATUS")]
        status: Option<Handling>,
        /// Each event in a row of its own
        #[arg(long)]
        each: bool,
        /// At most this many rows, the newest
        #[arg(long, default_value_t = 100, value_name = "COUNT")]
        limit: usize,
    },
    /// Show one event with everything that it records
    #[command(after_help = "Example:\n  portcullis events show 01JD3V8Q2M")]
    Show {
        /// Its id; a beginning that fits one event will do
        id: String,
    },
    /// Print events as they come, until interrupted
    #[command(after_help = "Example:\n  portcullis events follow --action block --all")]
    Follow {
        #[command(flatten)]
        filter: Filter,
    },
    /// Check that no record was changed, dropped or put in
    #[command(after_help = "Examples:\n  portcullis events verify\n  \
        portcullis events verify --no-journal --head 812:9f2c...\n\n\
        Exits with code 1 if there is a fault.")]
    Verify(Verify),
    /// Say of events that they are dealt with
    #[command(after_help = "Example:\n  \
        portcullis events handle 01JD3V8Q2M --note 'web was rebuilt on the new base'")]
    Handle(Marking),
    /// Say of events that they are known and nothing is to be done
    #[command(after_help = "Example:\n  \
        portcullis events ignore 01JD3V8Q2M 01JD3V9A7X --note 'a test of ours'")]
    Ignore(Marking),
    /// Put the image of an event on the whitelist of the policies that blocked it, by digest
    #[command(after_help = "Examples:\n  portcullis events whitelist 01JD3V8Q2M --dry-run\n  \
        portcullis events whitelist 01JD3V8Q2M --policy production --note 'OPS-112' --yes\n\n\
        The entry is written into the policy's file, which stays as it is otherwise, and the\n\
        policies are put into force. A whitelist takes vulnerabilities, baseline findings and\n\
        secrets out of the count; a failure cause or an image that is not authorized stays.\n\n\
        A policy that the cluster keeps, in a file kubernetes.NAME.yaml, is not changed here: the\n\
        command says what to do with kubectl instead.")]
    Whitelist(Whitelist),
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Compare with the journal, and fail if it cannot be read
    #[arg(long, conflicts_with_all = ["no_journal", "journal_file"])]
    pub(crate) journal: bool,
    /// Do not compare with the journal
    #[arg(long, conflicts_with = "journal_file")]
    pub(crate) no_journal: bool,
    /// Compare with a journal that was saved by journalctl -t portcullis -o json
    #[arg(long, value_name = "FILE")]
    pub(crate) journal_file: Option<PathBuf>,
    /// A record that is known to have been written: its number and its hash
    #[arg(long, value_name = "SEQ:HASH", value_parser = head)]
    pub(crate) head: Vec<Head>,
}

#[derive(Debug, Args)]
pub(crate) struct Marking {
    /// Ids of decisions; a beginning that fits one event will do
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Why, for whoever reads it later
    #[arg(long, value_name = "TEXT", value_parser = note)]
    pub(crate) note: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Whitelist {
    /// Id of a decision; a beginning that fits one event will do
    pub(crate) id: String,
    /// The policy to change; those whose answer was the action if none is given
    #[arg(long, value_name = "NAME")]
    pub(crate) policy: Vec<String>,
    /// The image's malware does not count either
    #[arg(long)]
    pub(crate) malware: bool,
    /// Dangerous settings of its starts do not count either
    #[arg(long)]
    pub(crate) workload: bool,
    /// Why, for whoever reads it later
    #[arg(long, value_name = "TEXT", value_parser = note)]
    pub(crate) note: Option<String>,
    /// Only show what would be changed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// A time, or how long ago.
fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let period: Period = text.parse().map_err(|_| {
        "write a time such as 2026-11-01T00:00:00Z, or how long ago: 24h, 7d, 1d12h".to_owned()
    })?;
    let seconds = i64::try_from(period.as_seconds()).unwrap_or(i64::MAX);
    let ago = jiff::SignedDuration::from_secs(seconds);
    Timestamp::now().checked_sub(ago).map_err(|_| "that is too long ago".to_owned())
}

fn head(text: &str) -> Result<Head, String> {
    let head = text.split_once(':').and_then(|(seq, hash)| {
        Some(Head { seq: seq.parse().ok().filter(|seq| *seq > 0)?, hash: hash.parse().ok()? })
    });
    head.ok_or_else(|| "write the record's number, a colon and 64 lowercase hex digits".to_owned())
}

/// A note stands in a record, which is bounded.
fn note(text: &str) -> Result<String, String> {
    const MAX_BYTES: usize = 1000;
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        text if text.len() > MAX_BYTES => Err(format!("it is longer than {MAX_BYTES} bytes")),
        text => Ok(text.to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Decide {
    #[command(flatten)]
    pub(crate) start: Start,
    /// Tell the decision by the exit code too
    #[arg(long)]
    pub(crate) exit_code: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The event of a decision; a beginning of its id that fits one event will do
    #[arg(conflicts_with_all = START, required_unless_present_any = START)]
    pub(crate) event: Option<String>,
    #[command(flatten)]
    pub(crate) start: Start,
    /// Show the findings that no rule matches too, and why not
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// The policy files to try
    #[arg(long, value_name = "DIR", required = true)]
    pub(crate) policies: PathBuf,
    /// Only starts since this time (RFC 3339), or of the last 24h, 7d, 1d12h
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<Timestamp>,
    /// Show starts that would be decided alike too
    #[arg(long)]
    pub(crate) all: bool,
    /// Exit with code 4 if a start that was let through would be blocked
    #[arg(long)]
    pub(crate) exit_code: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Preflight {
    /// Judge by the policy files in this folder, not by those in force
    #[arg(long, value_name = "DIR")]
    pub(crate) policies: Option<PathBuf>,
    /// Ask this engine (containerd, cri-o, podman, docker), not each that is on the node; may be
    /// repeated
    #[arg(long, value_name = "ENGINE")]
    pub(crate) engine: Vec<Engine>,
    /// containerd's socket
    #[arg(long, value_name = "SOCKET", default_value = "/run/containerd/containerd.sock")]
    pub(crate) address: String,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Show what is as it should be too
    #[arg(long)]
    pub(crate) all: bool,
    /// Fail on warnings too
    #[arg(long)]
    pub(crate) strict: bool,
    /// containerd's configuration, where it is told another than /etc/containerd/config.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) containerd_config: Option<String>,
    /// containerd's version, where it cannot be found out
    #[arg(long, value_name = "VERSION")]
    pub(crate) containerd_version: Option<String>,
}

/// What says which start is meant, where no event does.
const START: [&str; 5] = ["image", "manifest", "chain_id", "reference", "bundle"];

/// A start as the command line describes it.
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Digest of the image's configuration (the image ID)
    #[arg(long, value_name = "DIGEST")]
    pub(crate) image: Option<Digest>,
    /// Digest of a manifest or an index that leads to the image
    #[arg(long, value_name = "DIGEST")]
    pub(crate) manifest: Vec<Digest>,
    /// Chain ID of the image's layers
    #[arg(long, value_name = "DIGEST")]
    pub(crate) chain_id: Option<Digest>,
    /// A name of the image, as the engine's record holds it
    #[arg(long, value_name = "REFERENCE")]
    pub(crate) reference: Vec<ImageRef>,
    /// Kubernetes namespace of the pod
    #[arg(long, default_value = "", value_name = "NAME")]
    pub(crate) namespace: String,
    /// A label of the pod
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) labels: Vec<(String, String)>,
    /// The engine that asks
    #[arg(long, default_value = "containerd")]
    pub(crate) engine: Engine,
    /// The name of the node; this node's if it is not given
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// The container is a pod's sandbox, by the engine's record
    #[arg(long)]
    pub(crate) sandbox: bool,
    /// The bundle that would be started: its settings count, its annotations tell the names
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    /// The image is only claimed, by a name or an annotation; nothing is bound
    #[arg(long)]
    pub(crate) claimed: bool,
    /// Decide as if it were this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) now: Option<Timestamp>,
    /// Decide by the policy files in this folder, not by those in force
    #[arg(long, value_name = "DIR")]
    pub(crate) policies: Option<PathBuf>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Check the settings file, and report every fault with its key
    #[command(after_help = "Example:\n  portcullis config check /etc/portcullis/settings.toml")]
    Check {
        /// The file; the node's if it is not given
        file: Option<PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// All commands with their subcommands, built as for a command line.
    fn every(check: &mut impl FnMut(&str, &mut clap::Command)) {
        fn walk(
            name: &str,
            command: &mut clap::Command,
            check: &mut impl FnMut(&str, &mut clap::Command),
        ) {
            check(name, command);
            for below in command.get_subcommands_mut().filter(|c| c.get_name() != "help") {
                walk(&format!("{name} {}", below.get_name()), below, check);
            }
        }
        let mut cli = Cli::command();
        cli.build();
        walk("portcullis", &mut cli, check);
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_and_narrow_help() {
        let mut seen = 0;
        every(&mut |name, command| {
            for help in [command.render_help(), command.render_long_help()] {
                let help = help.to_string();
                let wide = help.lines().find(|line| line.chars().count() > 100);
                assert_eq!(wide, None, "{name}");
                let example = format!("\n  {name}");
                assert!(help.contains("Example") && help.contains(&example), "{name}: {help}");
            }
            let about = command.get_about().unwrap().to_string();
            assert!(!about.ends_with('.') || name == "portcullis", "{name}: {about}");
            assert!(about.starts_with(|c: char| c.is_uppercase()), "{name}: {about}");
            seen += 1;
        });
        assert!(seen > 35, "only {seen} commands");
    }

    #[test]
    fn completions_and_man_pages_are_about_every_command() {
        let folder = tempfile::tempdir().unwrap();
        crate::commands::write_man(folder.path()).unwrap();
        let shells =
            [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish];
        let scripts = shells.map(|shell| {
            (shell, String::from_utf8(crate::commands::completion_script(shell)).unwrap())
        });
        every(&mut |name, command| {
            let page = folder.path().join(format!("{}.1", name.replace(' ', "-")));
            let text = std::fs::read_to_string(&page).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(text.contains("Example"), "{name} has no example in its page");
            for (shell, script) in &scripts {
                let has = |word: &str| script.contains(word);
                assert!(has(command.get_name()), "{shell}: {name}");
                for long in command.get_arguments().filter_map(clap::Arg::get_long) {
                    assert!(has(long), "{shell}: {name} --{long}");
                }
            }
        });
        let bash = folder.path().join("bash");
        std::fs::write(&bash, &scripts[0].1).unwrap();
        let parsed = std::process::Command::new("bash").arg("-n").arg(&bash).status().unwrap();
        assert!(parsed.success());
    }
}
