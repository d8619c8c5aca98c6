//! Where things stand on a node, all below one root.

use std::path::{Path, PathBuf};

/// The paths of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// Paths below `root`, which is `/` on a node.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The settings file.
    pub fn settings(&self) -> PathBuf {
        self.root.join("etc/portcullis/portcullis.toml")
    }

    /// Policies as people write them: `*.yaml` in this folder.
    pub fn policies(&self) -> PathBuf {
        self.root.join("etc/portcullis/policies")
    }

    /// The published policy sets, with the link `current` to the one in force.
    pub fn published(&self) -> PathBuf {
        self.root.join("var/lib/portcullis/policy")
    }

    /// The verdict store.
    pub fn verdicts(&self) -> PathBuf {
        self.root.join("var/lib/portcullis/verdicts")
    }

    /// VEX documents: `*.json` in this folder.
    pub fn vex(&self) -> PathBuf {
        self.root.join("etc/portcullis/vex")
    }

    /// EPSS and KEV as they were taken in.
    pub fn feeds(&self) -> PathBuf {
        self.root.join("var/lib/portcullis/feeds")
    }

    /// The vulnerability database.
    pub fn advisories(&self) -> PathBuf {
        self.root.join("var/lib/portcullis/advisories")
    }

    /// What scans have read of layers and images.
    pub fn inventories(&self) -> PathBuf {
        self.root.join("var/lib/portcullis/inventories")
    }

    /// Lists of malicious files and rules of YARA.
    pub fn malware(&self) -> PathBuf {
        self.root.join("etc/portcullis/malware")
    }

    /// The agent's socket.
    pub fn agent(&self) -> PathBuf {
        self.root.join("run/portcullis/agent.sock")
    }

    /// What the agent remembers: of images and containers, and what it has yet to tell.
    pub fn followed(&self) -> PathBuf {
        self.root.join("var/lib/portcullis/agent")
    }

    /// The ledger's folder.
    pub fn events(&self) -> PathBuf {
        self.root.join("var/lib/portcullis/events")
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self::below("/")
    }
}
