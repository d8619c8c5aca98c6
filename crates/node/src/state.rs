//! Is a node protected, and by what: said once, for all who show it.

use std::fmt;
use std::path::Path;

use portcullis_audit::Ledger;
use portcullis_gate::published::{self, LoadError};
use portcullis_settings::Settings;
use portcullis_store::{Depth, FileStore, VerdictStore};
use portcullis_types::{Timestamp, with_causes};
use serde::{Deserialize, Serialize};

use crate::feeds::{KnownFeeds, Lying};
use crate::publish::drift;

/// Where `install.sh` puts the shim, below the root.
pub const SHIM: &str = "usr/local/bin/containerd-shim-portcullis-v2";

/// And the wrappers, for engines that call one.
const WRAPPERS: [&str; 4] = [
    "usr/local/bin/portcullis-runc",
    "usr/local/bin/portcullis-runc-crio",
    "usr/local/bin/portcullis-runc-podman",
    "usr/local/bin/portcullis-runc-docker",
];

fn has_door(root: &Path) -> bool {
    [SHIM].iter().chain(&WRAPPERS).any(|door| root.join(door).exists())
}

/// Where journald takes records.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// The states that HSS shows for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// A policy is in force and the door is installed.
    Protected,
    /// The door is installed, no policy is in force.
    EnabledNotConfigured,
    /// No door is installed on this node.
    Unprotected,
    /// Installed, but something is broken.
    Error,
}

impl NodeState {
    /// All, in order.
    pub const ALL: [Self; 4] =
        [Self::Protected, Self::EnabledNotConfigured, Self::Unprotected, Self::Error];

    /// As it is written in JSON, in metrics and in conditions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::EnabledNotConfigured => "enabled-not-configured",
            Self::Unprotected => "unprotected",
            Self::Error => "error",
        }
    }

    /// As it is told to people, with what is to be done.
    pub fn words(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::EnabledNotConfigured => "enabled, not configured",
            Self::Unprotected => "unprotected: no door is installed (run install.sh)",
            Self::Error => "error",
        }
    }
}

/// What a problem is about, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemKind {
    /// The published set is damaged or not to be trusted.
    PolicySet,
    /// The files differ from the set in force, or have faults.
    PolicyDrift,
    /// The verdict store cannot be read.
    Store,
    /// A feed is damaged.
    Feed,
    /// The ledger cannot be read.
    Ledger,
    /// There is no journal.
    Journal,
}

/// Something that is wrong with a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it is about.
    pub kind: ProblemKind,
    /// What is wrong, and what is to be done.
    pub message: String,
}

impl Problem {
    /// A problem.
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// How a node stands.
#[derive(Debug, Clone)]
pub struct NodeStatus {
    /// In a word.
    pub state: NodeState,
    /// What is wrong, in the order of the kinds.
    pub problems: Vec<Problem>,
    /// The digest of the policy set in force.
    pub policy_set: Option<String>,
    /// The names of the policies in force.
    pub policies: Vec<String>,
    /// VEX statements in force.
    pub vex_statements: usize,
    /// The feeds that lie there.
    pub feeds: Vec<Lying>,
    /// Images that the store knows, damaged ones too; none if it cannot be read.
    pub verdicts: Option<usize>,
    /// How many of them are damaged.
    pub damaged_verdicts: usize,
    /// When the image was scanned whose newest scan is the oldest of all.
    pub oldest_scan: Option<Timestamp>,
    /// When the last scan was.
    pub newest_scan: Option<Timestamp>,
    /// Whether there is a journal.
    pub journal: bool,
}

impl NodeStatus {
    /// Whether there is a problem of this kind.
    pub fn has(&self, kind: ProblemKind) -> bool {
        self.problems.iter().any(|problem| problem.kind == kind)
    }

    /// One problem more, in its place.
    pub fn add(&mut self, problem: Problem) {
        let at = self.problems.partition_point(|other| other.kind <= problem.kind);
        self.problems.insert(at, problem);
    }
}

/// How the node of these settings stands; their root says where it is. Reads the policy files, the
/// published set, the heads of all verdicts and the feeds, and changes nothing. The ledger is
/// opened, and not read.
pub fn node_state(settings: &Settings) -> NodeStatus {
    node_state_again(settings, &mut KnownFeeds::default())
}

/// The same, for whoever asks again and again.
pub fn node_state_again(settings: &Settings, feeds: &mut KnownFeeds) -> NodeStatus {
    let paths = settings.paths();
    let mut status = NodeStatus {
        state: NodeState::Error,
        problems: Vec::new(),
        policy_set: None,
        policies: Vec::new(),
        vex_statements: 0,
        feeds: feeds.lying(&paths),
        verdicts: None,
        damaged_verdicts: 0,
        oldest_scan: None,
        newest_scan: None,
        journal: Path::new(JOURNAL).exists(),
    };
    let mut is_broken = false;
    match published::load(&paths.published()) {
        Ok(set) => {
            status.policy_set = Some(set.digest().to_string());
            status.policies = set.policies().map(|p| p.metadata.name.clone()).collect();
            status.vex_statements = set.vex().statements().len();
            if let Some(drift) = drift(&paths, &set) {
                status.add(Problem::new(ProblemKind::PolicyDrift, drift));
            }
        }
        Err(LoadError::Missing(_)) => {}
        Err(error) => {
            is_broken = true;
            status.add(Problem::new(ProblemKind::PolicySet, with_causes(&error)));
        }
    }
    status.look_at_verdicts(&FileStore::open(paths.verdicts()));
    let damaged: Vec<String> = status.feeds.iter().filter_map(|feed| feed.error.clone()).collect();
    for message in damaged {
        status.add(Problem::new(ProblemKind::Feed, message));
    }
    if let Err(error) = Ledger::new(paths.events(), settings.max_event_bytes).records(None) {
        status.add(Problem::new(ProblemKind::Ledger, with_causes(&error)));
    }
    if !status.journal {
        let message = "the journal's socket is not there: events go to the file alone";
        status.add(Problem::new(ProblemKind::Journal, message));
    }
    status.state = match (has_door(paths.root()), is_broken) {
        (false, _) => NodeState::Unprotected,
        (true, true) => NodeState::Error,
        (true, false) if status.policies.is_empty() => NodeState::EnabledNotConfigured,
        (true, false) => NodeState::Protected,
    };
    status
}

impl NodeStatus {
    fn look_at_verdicts(&mut self, store: &FileStore) {
        let listed = match store.list(Depth::Heads) {
            Ok(listed) => listed,
            Err(error) => return self.add(Problem::new(ProblemKind::Store, with_causes(&error))),
        };
        self.verdicts = Some(listed.len());
        for listed in listed {
            let Ok(summary) = listed.entry else {
                self.damaged_verdicts += 1;
                continue;
            };
            let Some(newest) = summary.reports.iter().map(|(report, _)| report.scanned_at).max()
            else {
                continue;
            };
            self.oldest_scan = Some(self.oldest_scan.map_or(newest, |oldest| oldest.min(newest)));
            self.newest_scan = Some(self.newest_scan.map_or(newest, |other| other.max(newest)));
        }
    }
}
