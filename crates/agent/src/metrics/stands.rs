//! Gauges of how the node stands, from a look at its files once a minute.

use portcullis_node::{NodeState, NodeStatus, ProblemKind};
use portcullis_types::Timestamp;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Labels, Named, gauges, label, whole};

/// Most ecosystems that are told of.
const MAX_ECOSYSTEMS: usize = 100;

/// What a look at the node found.
#[derive(Debug, Clone)]
pub(crate) struct Stand {
    /// As `portcullis status` shows it.
    pub(crate) status: NodeStatus,
    /// What the node's database has, in the order of the names.
    pub(crate) databases: Vec<Advisories>,
    /// What is degraded.
    pub(crate) degraded: Vec<Degraded>,
}

/// The advisories of an ecosystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advisories {
    /// Which.
    pub(crate) ecosystem: String,
    /// Of when they are, as scan reports say it: when the newest was changed.
    pub(crate) date: Timestamp,
    /// When they were read, or known to be what would be read again.
    pub(crate) read: Timestamp,
}

/// A reason for which the node does less than it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Degraded {
    /// There is no journal.
    Journal,
    /// The ledger cannot be read or written.
    Ledger,
    /// The verdict store cannot be read.
    Store,
    /// No policy set is in force, or it is damaged.
    PolicySet,
    /// The advisories are damaged, or older than seven days.
    Database,
    /// A feed is damaged.
    Feed,
    /// The settings file cannot be used.
    Settings,
    /// What is to be fetched cannot be.
    Updates,
}

impl Degraded {
    const ALL: [Self; 8] = [
        Self::Journal,
        Self::Ledger,
        Self::Store,
        Self::PolicySet,
        Self::Database,
        Self::Feed,
        Self::Settings,
        Self::Updates,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Ledger => "ledger",
            Self::Store => "store",
            Self::PolicySet => "policy-set",
            Self::Database => "database",
            Self::Feed => "feed",
            Self::Settings => "settings",
            Self::Updates => "updates",
        }
    }
}

#[derive(Debug)]
pub(super) struct Stands {
    state: Family<Labels<1>, Gauge>,
    degraded: Family<Labels<1>, Gauge>,
    set: Family<Named, Gauge>,
    policies: Gauge,
    vex: Gauge,
    drift: Gauge,
    verdicts: Gauge,
    damaged: Gauge,
    oldest: Family<Labels<0>, Gauge>,
    newest: Family<Labels<0>, Gauge>,
    databases: Family<Named, Gauge>,
    reads: Family<Named, Gauge>,
    feeds: Family<Named, Gauge>,
    looked: Gauge,
}

impl Stands {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let r = registry;
        let mut gauge = |name: &str, help: &str| -> Gauge {
            let gauge = Gauge::default();
            r.register(name, help, gauge.clone());
            gauge
        };
        let policies = gauge("policies", "Policies in force");
        let vex = gauge("vex_statements", "VEX statements in force");
        let drift = gauge("policy_drift", "Whether the policy files differ from the set in force");
        let verdicts = gauge("store_verdicts", "Images that the verdict store knows");
        let damaged = gauge("store_damaged_verdicts", "Verdicts that are damaged");
        let looked = gauge("node_looked_timestamp_seconds", "When the node's files were looked at");
        let named = |r: &mut Registry, name: &str, help: &str| {
            let family = Family::<Named, Gauge>::default();
            r.register(name, help, family.clone());
            family
        };
        let single = |r: &mut Registry, name: &str, help: &str| {
            let family = Family::<Labels<0>, Gauge>::default();
            r.register(name, help, family.clone());
            family
        };
        Self {
            policies,
            vex,
            drift,
            verdicts,
            damaged,
            looked,
            state: gauges(r, "node_state", "The node's state: 1 for the one that it is in"),
            degraded: gauges(r, "degraded", "Whether the node does less than it should, by reason"),
            set: named(r, "policy_set_info", "The policy set in force"),
            oldest: single(
                r,
                "store_oldest_scan_timestamp_seconds",
                "When the image was scanned whose last scan is the oldest",
            ),
            newest: single(r, "store_newest_scan_timestamp_seconds", "When the last scan was"),
            databases: named(
                r,
                "database_timestamp_seconds",
                "When the newest advisory of the ecosystem was changed",
            ),
            reads: named(
                r,
                "database_read_timestamp_seconds",
                "When the advisories of the ecosystem were read, or known to be current",
            ),
            feeds: named(r, "feed_timestamp_seconds", "Date of the feed"),
        }
    }

    pub(super) fn set(&self, stand: &Stand) {
        let Stand { status, databases, degraded } = stand;
        for state in NodeState::ALL {
            let is_it = i64::from(state == status.state);
            self.state.get_or_create(&[("state", state.name())]).set(is_it);
        }
        for reason in Degraded::ALL {
            let is_so = i64::from(degraded.contains(&reason));
            self.degraded.get_or_create(&[("reason", reason.name())]).set(is_so);
        }
        self.set.clear();
        if let Some(digest) = &status.policy_set {
            self.set.get_or_create(&[("digest", digest.clone())]).set(1);
        }
        self.policies.set(whole(status.policies.len()));
        self.vex.set(whole(status.vex_statements));
        self.drift.set(i64::from(status.has(ProblemKind::PolicyDrift)));
        self.verdicts.set(whole(status.verdicts.unwrap_or(0)));
        self.damaged.set(whole(status.damaged_verdicts));
        for (gauge, time) in
            [(&self.oldest, status.oldest_scan), (&self.newest, status.newest_scan)]
        {
            gauge.clear();
            if let Some(time) = time {
                gauge.get_or_create(&[]).set(time.as_second());
            }
        }
        self.databases.clear();
        self.reads.clear();
        for Advisories { ecosystem, date, read } in databases.iter().take(MAX_ECOSYSTEMS) {
            let labels = [("ecosystem", label(ecosystem))];
            self.databases.get_or_create(&labels).set(date.as_second());
            self.reads.get_or_create(&labels).set(read.as_second());
        }
        self.feeds.clear();
        for feed in &status.feeds {
            if let (Some(name), Some(date)) = (feed.name, feed.date) {
                self.feeds.get_or_create(&[("feed", name.to_owned())]).set(date.as_second());
            }
        }
        self.looked.set(Timestamp::now().as_second());
    }
}
