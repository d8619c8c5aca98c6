//! For fuzzers: whether all that a container's record holds can be read.

use super::api::Container;
use super::cri::{self, Cri};
use super::spec::Spec;

/// Reads the JSON in a record, and says whether any of it was accepted.
pub(crate) fn are_read(record: &Container) -> bool {
    let spec = Spec::of(record);
    if let Ok(spec) = &spec {
        let uses = spec.uses_bundle(&record.id);
        assert!(!uses || spec.root == "rootfs" || spec.root.starts_with('/'), "{spec:?}");
    }
    let cri = cri::read(record);
    if let Ok(Cri::Container(metadata)) = &cri {
        // A name that was asked for has a tag or a digest, never both.
        let asked = metadata.asked.as_ref();
        assert!(asked.is_none_or(|name| name.tag().is_none() || name.digest().is_none()));
    }
    spec.is_ok() || matches!(cri, Ok(Cri::Container(_) | Cri::Sandbox(_)))
}
