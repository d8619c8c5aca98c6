//! What the node's records tell of its policies: the starts, decided again, and its pause images.

use std::collections::BTreeMap;

use anyhow::Result;
use portcullis_gate::Gate;
use portcullis_policy::PolicySet;
use portcullis_policy::lint::{SandboxImage, Starts};
use portcullis_types::{Event, EventKind, Evidence, Kind, Request, Timestamp, Workload};

use crate::context::Context;

/// Most different starts that are decided again, the newest: some seconds on a busy node.
const MAX_DIFFERENT: usize = 5_000;

/// What the records tell.
pub(super) struct Recorded {
    /// Uses of the policies; `None` if no start is recorded.
    pub(super) starts: Option<Starts>,
    /// Pause images that the node started, and that its settings do not allow outright.
    pub(super) sandbox_images: Vec<SandboxImage>,
}

/// Decides what is recorded since a time once more, by this set and with what the store knows now.
pub(super) fn recorded(
    context: &Context,
    set: &PolicySet,
    since: Option<Timestamp>,
) -> Result<Recorded> {
    let events = decisions(context, since)?;
    let gate = Gate::new(context.settings.clone());
    let mut different = different_starts(events);
    let first = different.iter().map(|start| start.first).min();
    let mut starts = since.or(first).map(Starts::since);
    let mut sandbox_images = Vec::new();
    // Starts of one image stand side by side, so what is known of it is read once and not kept.
    different.sort_by(|a, b| a.image.cmp(&b.image));
    let mut known: Option<(String, Evidence)> = None;
    for start in &different {
        let event = &start.event;
        if known.as_ref().is_none_or(|(image, _)| *image != start.image) {
            known = Some((start.image.clone(), gate.evidence_for(&event.image)));
        }
        let Some((_, evidence)) = &known else { continue };
        let evidence = with_record(evidence.clone(), event);
        let decision = gate.judge(Some(set), &event.request, &event.image, &evidence, event.time);
        if let Some(starts) = &mut starts {
            starts.add(&decision, start.times);
        }
        let settings = &context.settings.sandbox_images;
        let allowed = settings.iter().any(|digest| event.image.proves(digest));
        if event.request.kind == Kind::Sandbox && event.image.is_bound() && !allowed {
            let image = SandboxImage { identity: event.image.clone(), evidence };
            if !sandbox_images.contains(&image) {
                sandbox_images.push(image);
            }
        }
    }
    Ok(Recorded { starts: starts.filter(|starts| starts.count() > 0), sandbox_images })
}

/// The recorded decisions since a time, the oldest first.
fn decisions(context: &Context, since: Option<Timestamp>) -> Result<Vec<Event>> {
    let mut events = context.events().read()?.events;
    events.retain(|event| {
        event.kind == EventKind::Decision && since.is_none_or(|since| event.time >= since)
    });
    Ok(events)
}

/// Starts that no policy can tell apart but by the time.
struct Start {
    /// The newest of them.
    event: Event,
    /// When the oldest was.
    first: Timestamp,
    times: usize,
    /// The image with all that is known of its identity.
    image: String,
}

fn different_starts(events: Vec<Event>) -> Vec<Start> {
    let mut starts: BTreeMap<String, Start> = BTreeMap::new();
    for event in events.into_iter().rev() {
        let Some((image, about)) = about(&event) else { continue };
        let is_full = starts.len() >= MAX_DIFFERENT;
        match starts.get_mut(&about) {
            Some(start) => {
                start.times += 1;
                start.first = start.first.min(event.time);
            }
            None if !is_full => {
                let first = event.time;
                starts.insert(about, Start { event, first, times: 1, image });
            }
            // What is older and different is left out, and not counted.
            None => {}
        }
    }
    starts.into_values().collect()
}

/// The image, and all that a decision is made from, as texts that can be compared.
fn about(event: &Event) -> Option<(String, String)> {
    let image = serde_json::to_string(&event.image).ok()?;
    let request = Request {
        pod: String::new(),
        container: String::new(),
        container_id: String::new(),
        ..event.request.clone()
    };
    let rest = (request, &event.failures, &event.workload, &event.image_config);
    let about = format!("{image} {}", serde_json::to_string(&rest).ok()?);
    Some((image, about))
}

/// What was learnt at the start itself is only in its record.
fn with_record(mut evidence: Evidence, event: &Event) -> Evidence {
    evidence.failures.extend(event.failures.iter().cloned());
    evidence.workload = match &event.workload {
        Some(findings) => Workload::Read(findings.clone()),
        None => Workload::NotRead("the record does not have them".to_owned()),
    };
    evidence.image = event.image_config.clone();
    evidence
}
