//! `portcullis verdict push IMAGE` and `portcullis verdict pull REFERENCE`.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use portcullis_registry::{
    Belief, Logins, PullError, PushError, Registry, RegistryError, SigningKey, TrustedKey, Wanted,
    at, candidates, take_in,
};
use portcullis_store::{Change, Detail, VerdictStore};
use portcullis_types::{Digest, ImageRef, Timestamp, Verdict};
use schemars::JsonSchema;
use serde::Serialize;

use crate::args::{Patience, Pull, Push};
use crate::commands::feed;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::{count, plain, wrapped};

/// How often a spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// What was pushed.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Pushed {
    /// Digest of the image's configuration.
    image: Digest,
    /// Where it was found.
    reference: String,
    /// Digest of the manifest that the artifact refers to.
    manifest: Digest,
    /// Digest of the artifact's manifest.
    artifact: Digest,
    /// Reports that it holds.
    reports: usize,
    /// The key that signed it: the SHA-256 of its public half.
    signed_by: Option<String>,
    /// How it is found by the image: `referrers`, the registry's own list, or `tag`.
    listed_by: &'static str,
}

/// What was pulled.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct TakenIn {
    /// Digest of the image's configuration.
    image: Digest,
    /// Digest of its manifest.
    manifest: Digest,
    /// What became of the verdict: `created`, `updated` or `unchanged`.
    change: &'static str,
    /// Distinct findings now known about the image.
    known: usize,
    /// What was taken.
    verdicts: Vec<Told>,
    /// What was not.
    refused: Vec<Refused>,
    /// Verdicts that were not read, since there are so many.
    left_out: usize,
}

/// A verdict that was taken.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Told {
    /// Digest of the artifact's manifest.
    artifact: Digest,
    /// The key that signed it: the SHA-256 of its public half.
    signed_by: Option<String>,
    /// Reports that it holds.
    reports: usize,
    /// When the newest of them was made.
    #[schemars(with = "Option<portcullis_types::TimeSchema>")]
    scanned_at: Option<Timestamp>,
}

/// A verdict that was refused.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Refused {
    /// Digest of the artifact's manifest.
    artifact: Digest,
    /// Why.
    why: String,
}

pub(super) fn push(context: &Context, args: &Push) -> Result<Exit> {
    let image = &args.image;
    let Some(verdict) = context.store().by_config(image, Detail::Full)? else {
        bail!("nothing is known about {image}: scan it, or run portcullis import FILE");
    };
    let settings = &context.settings.registry;
    let key = settings.signing_key.as_deref().map(SigningKey::read).transpose();
    let key = key.context("[registry] signingKey")?;
    let references = references(&verdict, args.repository.as_deref())?;
    let spinner = spinner();
    let registry = registry(context);
    let until = until(args.patience);
    let mut tried = Vec::new();
    let mut pushed = None;
    for reference in references {
        spinner.set_message(format!("pushing to {}", plain(&reference.to_string())));
        let repository = registry.repository(&reference, until);
        match portcullis_registry::push(&repository, &reference, &verdict, key.as_ref()) {
            Ok(done) => {
                pushed = Some((reference, done));
                break;
            }
            // It may be at another of its names.
            Err(PushError::Registry(error @ RegistryError::Missing(_))) => {
                tried.push(error.to_string());
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("the verdict is not pushed to {reference}"));
            }
        }
    }
    spinner.finish_and_clear();
    let Some((reference, done)) = pushed else {
        let tried = tried.join("; ");
        bail!("{tried}: push the image first, or say where it lives with --repository REFERENCE");
    };
    let pushed = Pushed {
        image: image.clone(),
        reference: reference.to_string(),
        manifest: done.manifest,
        artifact: done.artifact,
        reports: done.reports,
        signed_by: key.map(|key| key.public().id().to_owned()),
        listed_by: if done.by_api { "referrers" } else { "tag" },
    };
    context.print.print(&pushed, |out| {
        let Pushed { reference, artifact, manifest, reports, signed_by, .. } = &pushed;
        let reports = count(*reports, "report");
        writeln!(out, "{}", wrapped(&format!("pushed {reports} to {reference}"), 2))?;
        writeln!(out, "  artifact   {artifact}")?;
        writeln!(out, "  refers to  {manifest}")?;
        match signed_by {
            Some(key) => writeln!(out, "  signed by  {key}"),
            None => writeln!(
                out,
                "  nobody has signed it, so that nodes with trustedKeys refuse it: name a [registry]\n  \
                 signingKey in portcullis.toml"
            ),
        }
    })?;
    Ok(Exit::Done)
}

/// Where the image of a verdict may live.
fn references(verdict: &Verdict, chosen: Option<&str>) -> Result<Vec<ImageRef>> {
    let image = &verdict.image;
    let Some(text) = chosen else {
        let found = candidates(image.references.iter().map(String::as_str), &image.manifests);
        if found.is_empty() {
            bail!(
                "the verdict names no registry: say where the image lives with --repository REFERENCE"
            );
        }
        return Ok(found);
    };
    let reference: ImageRef = text.parse().context("--repository")?;
    let last = text.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) {
        return Ok(vec![reference]);
    }
    let found = at(&reference.repository(), &image.manifests);
    if found.is_empty() {
        bail!(
            "the verdict names no manifest of the image: say its tag too, --repository {text}:TAG"
        );
    }
    Ok(found)
}

pub(super) fn pull(context: &Context, args: &Pull) -> Result<Exit> {
    let settings = &context.settings.registry;
    let keys: Result<Vec<TrustedKey>, _> =
        settings.trusted_keys.iter().map(|path| TrustedKey::read(path)).collect();
    let keys = keys.context("[registry] trustedKeys")?;
    let belief = match (keys.as_slice(), args.allow_unsigned) {
        ([], true) => Belief::Anybody,
        ([], false) => bail!(
            "no key is trusted on this node: name public keys as [registry] trustedKeys in \
             portcullis.toml, or take what anybody may have written with --allow-unsigned"
        ),
        (_, true) => bail!(
            "this node trusts keys, and takes nothing that they have not signed: leave \
             --allow-unsigned out, or [registry] trustedKeys in portcullis.toml"
        ),
        (keys, false) => Belief::SignedBy(keys),
    };
    let feeds = feed::of_node(context)?;
    let platform = args.platform.clone().unwrap_or_else(portcullis_scan::own_platform);
    let spinner = spinner();
    spinner.set_message(format!("pulling from {}", args.reference.host()));
    let registry = registry(context);
    let repository = registry.repository(&args.reference, until(args.patience));
    let wanted = Wanted::Platform(&platform);
    let now = Timestamp::now();
    let pulled = portcullis_registry::pull(&repository, &args.reference, wanted, belief, now);
    spinner.finish_and_clear();
    let pulled = pulled.map_err(|error| {
        let remedy = match &error {
            PullError::None { .. } => {
                ": scan the image on a node and run portcullis verdict push there"
            }
            PullError::Refused(_) => ": [registry] trustedKeys names who is believed",
            _ => "",
        };
        anyhow::anyhow!("{}{remedy}", portcullis_types::with_causes(&error))
    })?;
    let names = [args.reference.to_string()];
    let taken = take_in(&context.store(), &pulled, names, &|finding| {
        let _changed = feeds.annotate(finding);
    })
    .context("what was pulled is not stored")?;
    let taken = TakenIn {
        image: pulled.image.config,
        manifest: pulled.manifest,
        change: match taken.change {
            Change::Created => "created",
            Change::Updated => "updated",
            Change::Unchanged => "unchanged",
        },
        known: taken.known,
        verdicts: pulled
            .told
            .into_iter()
            .map(|told| Told {
                artifact: told.artifact,
                signed_by: told.key,
                reports: told.reports.len(),
                scanned_at: told.reports.iter().map(|report| report.scanned_at).max(),
            })
            .collect(),
        refused: pulled
            .refused
            .into_iter()
            .map(|(artifact, why)| Refused { artifact, why })
            .collect(),
        left_out: pulled.left_out,
    };
    context.print.print(&taken, |out| write_taken(&taken, out))?;
    Ok(Exit::Done)
}

fn write_taken(taken: &TakenIn, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    let TakenIn { image, change, known, verdicts, refused, left_out, .. } = taken;
    let (pulled, known) = (count(verdicts.len(), "verdict"), count(*known, "finding"));
    writeln!(out, "pulled {pulled}; {change}, {known} known")?;
    writeln!(out, "  image      {image}")?;
    for Told { artifact, signed_by, scanned_at, .. } in verdicts {
        let day = scanned_at.map_or_else(|| "-".to_owned(), |at| at.strftime("%F").to_string());
        writeln!(out, "  artifact   {artifact}")?;
        match signed_by {
            Some(key) => writeln!(out, "    of {day}, signed by {key}")?,
            None => writeln!(out, "    of {day}, claimed by whoever pushed it")?,
        }
    }
    for Refused { artifact, why } in refused {
        writeln!(out, "  refused    {artifact}")?;
        writeln!(out, "{}", wrapped(&format!("    {why}"), 4))?;
    }
    if *left_out > 0 {
        writeln!(out, "  {left_out} more were not read")?;
    }
    Ok(())
}

fn registry(context: &Context) -> Registry {
    let settings = &context.settings.registry;
    let logins = match &settings.auth_file {
        Some(file) => Logins::of_file(file),
        None => Logins::of_user(&|name| std::env::var(name).ok()),
    };
    Registry::new(settings, logins)
}

fn until(patience: Patience) -> Instant {
    Instant::now() + Duration::from_secs(patience.timeout)
}

/// On a terminal only.
fn spinner() -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    if !std::io::stderr().is_terminal() {
        spinner.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(TURN);
    spinner
}
