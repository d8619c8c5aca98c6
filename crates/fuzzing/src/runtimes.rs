//! Command lines of OCI runtimes.

use portcullis_testkit::runtimes::{READERS, Wrapper, check_wrapper, line_of};

/// A command line, of pieces that the bytes choose.
///
/// A wrapper that takes the readers' common word for it, and refuses where they differ, is right.
/// Accepted: some runtime would create a container.
pub fn oci_args(data: &[u8]) -> bool {
    let line = line_of(data);
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    check_wrapper(&line, common);
    READERS.iter().any(|(_, reader)| reader(&line).is_some())
}

fn common(line: &[&str]) -> Wrapper {
    let mut all: Vec<_> = READERS.iter().filter_map(|(_, reader)| reader(line)).collect();
    all.dedup_by(|a, b| (&a.bundle, &a.id) == (&b.bundle, &b.id));
    match &all[..] {
        [] => Wrapper::Passes,
        [one] if one.config.is_none() => {
            Wrapper::Gates { bundle: one.bundle.clone(), id: one.id.clone() }
        }
        _ => Wrapper::Refuses,
    }
}
