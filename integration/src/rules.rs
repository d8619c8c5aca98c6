//! The policies and the evidence of a node for one case, and what can be wrong with them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::engine::own_binaries;
use crate::evidence::{Vulnerability, write_report};
use crate::image::BuiltImage;
use crate::node::Node;
use crate::run::Run;
use crate::starter::Settings;

/// A policy that refuses what is critical and can be mended.
pub const BLOCK_CRITICAL: &str =
    "rules: [{ class: vulnerability, severity: [critical], fixable: true, action: block }]";

const JOURNAL: &str = "/run/systemd/journal/socket";

/// What is in force on a node and known on it; all of it is gone when this is dropped.
#[derive(Debug)]
pub struct Rules<'a> {
    node: &'a Node,
    settings: &'a Settings,
}

impl<'a> Rules<'a> {
    /// A node on which this is in force, and nothing is known of any image.
    ///
    /// # Errors
    /// When the policy is not valid, or the node's folders cannot be written.
    pub fn new(node: &'a Node, settings: &'a Settings, spec: &str) -> Result<Self> {
        let rules = Self { node, settings };
        rules.forget();
        fs::create_dir_all(rules.policies())?;
        fs::create_dir_all(rules.verdicts())?;
        rules.apply(spec)?;
        Ok(rules)
    }

    /// Takes away all that Portcullis has and wrote on the node.
    fn forget(&self) {
        for folder in [self.node.etc_portcullis(), self.node.var_lib_portcullis()] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let _gone_is_well = match path.is_dir() && !path.is_symlink() {
                    true => fs::remove_dir_all(path),
                    false => fs::remove_file(path),
                };
            }
        }
        let _shown_by_the_next_case = self.settings.reset();
    }

    /// The folder of the policies.
    pub fn policies(&self) -> PathBuf {
        self.node.etc_portcullis().join("policies")
    }

    /// The folder of the verdicts.
    pub fn verdicts(&self) -> PathBuf {
        self.node.var_lib_portcullis().join("verdicts")
    }

    /// The folder of the policies in force.
    pub fn published(&self) -> PathBuf {
        self.node.var_lib_portcullis().join("policy")
    }

    /// The file of the policies in force.
    ///
    /// # Errors
    /// When there is none.
    pub fn in_force(&self) -> Result<PathBuf> {
        let current = self.published().join("current");
        Ok(self.published().join(fs::read_link(current).context("no policy is in force")?))
    }

    /// The settings of the door.
    pub fn settings(&self) -> &Settings {
        self.settings
    }

    /// Our command line.
    pub fn portcullis(&self, args: &[&str]) -> Run {
        self.node.run(own_binaries().join("portcullis")).args(args)
    }

    /// The policy `test` with this specification.
    pub fn document(spec: &str) -> String {
        format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: ProtectionPolicy\n\
             metadata: {{ name: test }}\nspec:\n  {}\n",
            spec.replace('\n', "\n  ")
        )
    }

    /// Puts the only policy into force.
    ///
    /// # Errors
    /// When it is not valid.
    pub fn apply(&self, spec: &str) -> Result<()> {
        fs::write(self.policies().join("test.yaml"), Self::document(spec))?;
        self.portcullis(&["policy", "apply"]).ok().map(drop)
    }

    /// Takes in what a scanner found in an image.
    ///
    /// # Errors
    /// When it is refused.
    pub fn knows(&self, image: &BuiltImage, found: &[Vulnerability]) -> Result<()> {
        let file = self.node.folder().join("report.json");
        write_report(&file, image, found)?;
        self.portcullis(&["import", &file.display().to_string()]).ok().map(drop)
    }

    /// The decisions so far, oldest first; with `all`, their outcomes, too.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn events(&self, all: bool) -> Result<Vec<Value>> {
        let flags: &[&str] = if all { &["--all"] } else { &[] };
        let list = self.portcullis(&["--output", "json", "events", "list", "--each"]);
        let list = list.args(flags).ok()?;
        Ok(serde_json::from_str(&list.text())?)
    }

    /// The event of the last decision about a container.
    ///
    /// # Errors
    /// When there is none.
    pub fn decision(&self, container: &str) -> Result<Value> {
        let mut events = self.events(false)?;
        events.retain(|e| e["request"]["containerId"] == container);
        events.pop().with_context(|| format!("no event of {container}"))
    }
}

impl Drop for Rules<'_> {
    fn drop(&mut self) {
        let socket = self.node.outside(JOURNAL);
        let away = socket.with_extension("away");
        if away.exists() {
            let _shown_by_the_next_case = fs::rename(away, socket);
        }
        self.forget();
    }
}

/// Something that is wrong with a node.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// What it is.
    pub name: &'static str,
    /// The cause that a decision then has.
    pub cause: &'static str,
    /// Says what shall be done about it: in the policy or in the settings.
    pub configure: fn(&Rules, &str) -> Result<()>,
    /// Breaks the node.
    pub inflict: fn(&Rules) -> Result<()>,
}

fn on_failure(rules: &Rules, cause: &str, action: &str) -> Result<()> {
    rules.apply(&format!("onFailure: {{ {cause}: {action} }}"))
}

fn setting(rules: &Rules, key: &str, action: &str) -> Result<()> {
    rules.settings.write(&format!("{key} = \"{action}\"\n"))?;
    rules.apply("description: nothing")
}

/// Turns one bit of every file below.
fn damage(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            damage(&path)?;
            continue;
        }
        let mut bytes = fs::read(&path)?;
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
        fs::write(path, bytes)?;
    }
    Ok(())
}

/// All that can be wrong with the policies, the evidence or the record of a node, on every engine.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "an_image_that_nobody_scanned",
        cause: "unscanned",
        configure: |rules, action| rules.apply(&format!("unscanned: {{ action: {action} }}")),
        inflict: |rules| {
            fs::remove_dir_all(rules.verdicts())?;
            Ok(fs::create_dir(rules.verdicts())?)
        },
    },
    Fault {
        name: "an_old_scan",
        cause: "stale",
        configure: |rules, action| {
            rules.apply(&format!("stale: {{ maxAge: 1s, action: {action} }}"))
        },
        inflict: |_| Ok(()),
    },
    Fault {
        name: "a_scan_that_looked_for_less",
        cause: "noData",
        configure: |rules, action| {
            rules.apply(&format!(
                "rules: [{{ class: malware, action: block }}]\nonFailure: {{ noData: {action} }}"
            ))
        },
        inflict: |_| Ok(()),
    },
    Fault {
        name: "a_store_that_is_a_file",
        cause: "storeUnreadable",
        configure: |rules, action| on_failure(rules, "storeUnreadable", action),
        inflict: |rules| {
            fs::remove_dir_all(rules.verdicts())?;
            Ok(fs::write(rules.verdicts(), "not a folder")?)
        },
    },
    Fault {
        name: "a_store_that_is_gone",
        cause: "storeUnreadable",
        configure: |rules, action| on_failure(rules, "storeUnreadable", action),
        inflict: |rules| Ok(fs::remove_dir_all(rules.verdicts())?),
    },
    Fault {
        name: "a_damaged_verdict",
        cause: "storeCorrupt",
        configure: |rules, action| on_failure(rules, "storeCorrupt", action),
        inflict: |rules| damage(&rules.verdicts().join("sha256")),
    },
    Fault {
        name: "no_place_for_a_record",
        cause: "auditUnavailable",
        configure: |rules, action| on_failure(rules, "auditUnavailable", action),
        inflict: |rules| {
            let events = rules.node.var_lib_portcullis().join("events");
            let _none_yet = fs::remove_dir_all(&events);
            fs::write(events, "not a folder")?;
            let socket = rules.node.outside(JOURNAL);
            Ok(fs::rename(&socket, socket.with_extension("away"))?)
        },
    },
    Fault {
        name: "damaged_policies",
        cause: "policyInvalid",
        configure: |rules, action| setting(rules, "policyInvalid", action),
        inflict: |rules| Ok(fs::write(rules.in_force()?, "{}")?),
    },
    Fault {
        name: "policies_that_anyone_may_write",
        cause: "policyInvalid",
        configure: |rules, action| setting(rules, "policyInvalid", action),
        inflict: |rules| {
            Ok(fs::set_permissions(rules.in_force()?, PermissionsExt::from_mode(0o666))?)
        },
    },
    Fault {
        name: "a_condition_that_fails",
        cause: "internal",
        configure: |rules, action| {
            rules.settings.write(&format!("internal = \"{action}\"\n"))?;
            rules.apply("rules: [{ when: 'image.labels[\"none\"] == \"x\"', action: alarm }]")
        },
        inflict: |_| Ok(()),
    },
];

/// A gate that has no time. How far an engine's answers come by then is a matter of luck; what they
/// claim counts. An engine whose files are read may even be quick enough.
pub const NO_TIME: Fault = Fault {
    name: "no_time",
    cause: "deadline",
    configure: |rules, action| {
        rules.apply(&format!("onFailure: {{ deadline: {action}, identityClaimed: allow }}"))
    },
    inflict: |rules| rules.settings.write("[gate]\ndeadline = \"1ms\"\n"),
};
