//! Command lines of OCI runtimes.

use portcullis_shim::fuzzing::{Reading, arguments};
use portcullis_testkit::runtimes::{READERS, Wrapper, check_wrapper, line_of};

/// A command line, of pieces that the bytes choose: no runtime creates what the wrapper does not see.
///
/// Accepted: some runtime would create a container.
pub fn oci_args(data: &[u8]) -> bool {
    let line = line_of(data);
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    check_wrapper(&line, |line| match arguments(line) {
        Reading::Gates(bundle, id) => Wrapper::Gates { bundle, id },
        Reading::Passes => Wrapper::Passes,
        Reading::Refuses => Wrapper::Refuses,
    });
    READERS.iter().any(|(_, reader)| reader(&line).is_some())
}
