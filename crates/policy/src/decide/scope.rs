//! Whether a policy is about a start.
//!
//! What cannot be told is never a way around a policy: where it is open which image or name this
//! is, an image that is included counts as this one, and an image that is excluded does not; and
//! where a pod's namespace or labels could not be read, they count as those that are asked for.

use portcullis_types::{Identity, Request};

use crate::document::{Scope, Selection};
use crate::{ImagePattern, WordPattern};

/// Every field that is named must match.
pub(crate) fn in_scope(scope: &Scope, request: &Request, identity: &Identity) -> bool {
    let Scope { namespaces, images, pod_labels, engines, nodes } = scope;
    (engines.is_empty() || engines.contains(&request.engine))
        && pod_labels.iter().all(|(key, value)| has_label(request, key, value))
        // Outside Kubernetes the namespace is empty: `*` takes it in, a named one does not. That
        // is known and not open, so nothing is taken in beyond what is written.
        && namespaces.as_ref().is_none_or(|s| {
            let open = !request.pod_known && request.namespace.is_empty();
            open || selects_word(s, &request.namespace)
        })
        && nodes.as_ref().is_none_or(|s| selects_word(s, &request.node))
        && images.as_ref().is_none_or(|s| selects_image(s, identity))
}

/// A label that is not there, of a pod whose labels could not all be read, may be there.
fn has_label(request: &Request, key: &str, value: &str) -> bool {
    match request.pod_labels.get(key) {
        Some(found) => found == value,
        None => !request.pod_known,
    }
}

pub(super) fn selects_word(selection: &Selection<WordPattern>, word: &str) -> bool {
    let any = |patterns: &[WordPattern]| patterns.iter().any(|p| p.matches(word));
    (selection.include.is_empty() || any(&selection.include)) && !any(&selection.exclude)
}

fn selects_image(selection: &Selection<ImagePattern>, identity: &Identity) -> bool {
    let included = selection.include.is_empty()
        || selection.include.iter().any(|p| p.covers(identity) || is_open(p, identity));
    included && !selection.exclude.iter().any(|p| p.covers(identity))
}

/// Whether it cannot be told if the pattern is about this image: the identity is not bound, the
/// engine's record holds no name to compare, or several configs share the layers and none is
/// proven.
fn is_open(pattern: &ImagePattern, identity: &Identity) -> bool {
    if !identity.is_bound() {
        return true;
    }
    match pattern.digest() {
        Some(_) => identity.config.is_none(),
        None => identity.held_names().next().is_none(),
    }
}
