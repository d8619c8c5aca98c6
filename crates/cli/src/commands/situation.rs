//! A start with everything that a decision is made from, as the command line or an event gives it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use portcullis_engines::{Again, Found};
use portcullis_gate::Gate;
use portcullis_policy::{InForce, PolicySet};
use portcullis_types::{
    Cause, Decision, Event, Evidence, Failure, Identity, Kind, Lookup, Name, Request, Surety,
    Timestamp, Workload,
};
use serde::Deserialize;

use crate::args::Start;
use crate::context::Context;

/// What decides: the policies in force on this node or those of a folder, and its settings.
pub(super) struct Judge {
    gate: Gate,
    pub(super) set: Option<PolicySet>,
    /// The published set cannot be used, or is not there.
    problems: Vec<Failure>,
}

/// A start that can be judged.
pub(super) struct Situation {
    pub(super) request: Request,
    pub(super) identity: Identity,
    pub(super) evidence: Evidence,
    pub(super) now: Timestamp,
}

impl Judge {
    /// By the policy files of a folder, or by those in force.
    pub(super) fn new(context: &Context, folder: Option<&Path>) -> Result<Self> {
        let gate = Gate::new(context.settings.clone());
        let mut evidence = Evidence::of(Lookup::NotRead);
        let set = match folder {
            Some(folder) => Some(set_of(context, folder)?),
            None => gate.load_policies(&mut evidence),
        };
        Ok(Self { gate, set, problems: evidence.failures })
    }

    /// What decides, for the functions of the policy crate.
    pub(super) fn in_force(&self) -> InForce<'_> {
        self.gate.in_force(self.set.as_ref())
    }

    /// The decision about a start.
    pub(super) fn decide(&self, start: &Situation) -> Decision {
        let Situation { request, identity, evidence, now } = start;
        portcullis_policy::decide(&self.in_force(), request, identity, evidence, *now)
    }

    /// A start as the command line describes it.
    pub(super) fn of_args(&self, context: &Context, args: &Start) -> Result<Situation> {
        let identity = identity(args)?;
        let request = request(context, args)?;
        let mut evidence = self.gate.evidence_for(&identity);
        evidence.workload = match &args.bundle {
            // Without a bundle it is the image alone that is asked about.
            None => Workload::Read(Vec::new()),
            Some(folder) => portcullis_gate::workload_of(folder),
        };
        evidence.failures.extend(self.problems.iter().cloned());
        let now = args.now.unwrap_or_else(Timestamp::now);
        Ok(Situation { request, identity, evidence, now })
    }

    /// A start as an engine tells it by the deadline.
    pub(super) fn of_running(
        &self,
        found: &Found<'_>,
        deadline: Instant,
        now: Timestamp,
    ) -> Situation {
        let Again { request, identity, mut evidence } = found.again(&self.gate, deadline);
        evidence.failures.extend(self.problems.iter().cloned());
        Situation { request, identity, evidence, now }
    }

    /// A start as an event records it, with what is known of its image now.
    pub(super) fn of_event(&self, event: &Event, now: Timestamp) -> Situation {
        let mut evidence = self.gate.evidence_for(&event.image);
        evidence.workload = match &event.workload {
            Some(settings) => Workload::Read(settings.clone()),
            None => Workload::NotRead("the event has none".to_owned()),
        };
        evidence.image.clone_from(&event.image_config);
        // What was slow or broken on the way then is part of that start; the state of the store
        // and of the policies is read anew.
        let of_then = |f: &&Failure| matches!(f.cause, Cause::Deadline | Cause::Internal);
        evidence.failures.extend(event.failures.iter().filter(of_then).cloned());
        evidence.failures.extend(self.problems.iter().cloned());
        let (request, identity) = (event.request.clone(), event.image.clone());
        Situation { request, identity, evidence, now }
    }
}

/// What is given counts as bound, and a reference as held by the engine's record, unless
/// `--claimed` is said.
fn identity(args: &Start) -> Result<Identity> {
    let has_digest = args.image.is_some() || args.chain_id.is_some() || !args.manifest.is_empty();
    if !has_digest && args.reference.is_empty() {
        bail!(
            "nothing names an image: give --image DIGEST (or --manifest, --chain-id, --reference)"
        );
    }
    let surety = match (args.claimed, has_digest) {
        (false, true) => Surety::Bound,
        _ => Surety::Claimed,
    };
    let held = surety == Surety::Bound;
    let names = args.reference.iter().map(|reference| Name {
        reference: reference.clone(),
        held,
        asked: true,
    });
    Ok(Identity {
        surety,
        chain_id: args.chain_id.clone(),
        config: args.image.clone(),
        manifests: args.manifest.iter().cloned().collect::<BTreeSet<_>>(),
        names: names.collect(),
        note: (!held).then(|| "claimed on the command line".to_owned()),
    })
}

/// Annotations that containerd's CRI sets (contracts 3.1): context, never identity.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Bundle {
    annotations: BTreeMap<String, String>,
}

fn request(context: &Context, args: &Start) -> Result<Request> {
    let bundle = match &args.bundle {
        None => Bundle::default(),
        Some(folder) => read_bundle(folder)?,
    };
    let annotation = |key: &str| {
        let key = format!("io.kubernetes.cri.{key}");
        bundle.annotations.get(&key).cloned().unwrap_or_default()
    };
    let node = args.node.as_deref().unwrap_or(&context.settings.node);
    let mut request = Request::new(args.engine, node, "decide");
    request.kind = if args.sandbox { Kind::Sandbox } else { Kind::Container };
    request.namespace = match args.namespace.as_str() {
        "" => annotation("sandbox-namespace"),
        namespace => namespace.to_owned(),
    };
    request.pod = annotation("sandbox-name");
    request.container = annotation("container-name");
    request.pod_labels = args.labels.iter().cloned().collect();
    Ok(request)
}

fn read_bundle(folder: &Path) -> Result<Bundle> {
    const MAX_BYTES: u64 = 8 << 20;
    let path = folder.join("config.json");
    let read = || -> Result<Bundle> {
        let file = std::fs::File::open(&path)?;
        let length = file.metadata()?.len();
        if length > MAX_BYTES {
            bail!("it is larger than {MAX_BYTES} bytes");
        }
        Ok(serde_json::from_reader(std::io::Read::take(file, MAX_BYTES))?)
    };
    read().with_context(|| {
        format!("{} is no bundle: cannot use {}", folder.display(), path.display())
    })
}

/// The policies of a folder, with the VEX statements of this node.
fn set_of(context: &Context, folder: &Path) -> Result<PolicySet> {
    match portcullis_node::node_set(&context.paths, &[folder.to_owned()])?.compiled {
        Ok(set) => Ok(set),
        Err(faults) => {
            let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
            bail!("the policies in {} have faults:\n{}", folder.display(), all.join("\n"))
        }
    }
}
