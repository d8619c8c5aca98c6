//! `portcullis decide`: the decision a door would make, from the same library.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use portcullis_gate::Gate;
use portcullis_policy::PolicySet;
use portcullis_types::{
    Decision, Identity, Kind, Name, Reason, Request, Subject, Surety, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::sources;
use crate::args::Decide;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::plain;

/// The answer: the decision, and what it was made from.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(flatten)]
    decision: &'a Decision,
    message: String,
    request: &'a Request,
    image: &'a Identity,
}

pub(super) fn run(context: &Context, args: &Decide) -> Result<Exit> {
    let identity = identity(args)?;
    let request = request(context, args)?;
    let gate = Gate::new(context.settings.clone());
    let mut evidence = gate.evidence_for(&identity);
    let set = match &args.policies {
        Some(folder) => Some(set_of(folder)?),
        None => gate.load_policies(&mut evidence),
    };
    let now = args.now.unwrap_or_else(Timestamp::now);
    let decision = gate.judge(set.as_ref(), &request, &identity, &evidence, now);
    let message = portcullis_policy::refusal(&decision, &identity, "(no event: decide)");
    let answer = Answer { decision: &decision, message, request: &request, image: &identity };
    context.print.print(&answer, |out| {
        let line =
            answer.message.rsplit_once("; see: ").map_or(answer.message.as_str(), |(l, _)| l);
        writeln!(out, "{line}")?;
        for policy in &decision.policies {
            let observing = if policy.observing { ", observing" } else { "" };
            writeln!(out, "policy {}: {}{observing}", policy.policy, policy.action)?;
            policy.reasons.iter().try_for_each(|reason| write_reason(reason, out))?;
        }
        for setting in &decision.settings {
            let detail = plain(&setting.detail);
            writeln!(out, "settings {}: {} ({detail})", setting.setting, setting.action)?;
        }
        Ok(())
    })?;
    Ok(if args.exit_code { Exit::of_action(decision.action) } else { Exit::Done })
}

fn write_reason(reason: &Reason, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    let what = match &reason.subject {
        Subject::Finding(finding) => format!("{} {} {finding}", finding.class, finding.severity),
        Subject::Failure(failure) => format!("{}: {}", failure.cause, failure.detail),
        Subject::Condition(text) => format!("condition: {text}"),
    };
    let waived = match &reason.waived {
        Some(waiver) if waiver.by_name => format!(", waived by {} (by name)", waiver.entry),
        Some(waiver) => format!(", waived by {}", waiver.entry),
        None => String::new(),
    };
    writeln!(out, "  {:5}  {}  {}{waived}", reason.action, reason.rule, plain(&what))
}

/// What is given counts as bound, and a reference as held by the engine's record, unless
/// `--claimed` is said.
fn identity(args: &Decide) -> Result<Identity> {
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

fn request(context: &Context, args: &Decide) -> Result<Request> {
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

fn set_of(folder: &Path) -> Result<PolicySet> {
    match sources::compile(&[folder.to_owned()])? {
        Ok(set) => Ok(set),
        Err(faults) => {
            let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
            bail!("the policies in {} have faults:\n{}", folder.display(), all.join("\n"))
        }
    }
}
