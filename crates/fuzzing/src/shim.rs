//! What containerd gives the shim.

use crate::text::printable;
use portcullis_shim::fuzzing;

/// The bytes on stdin of `start`.
///
/// Accepted as the new protocol: they name the container of the command line. The answer of either
/// protocol names the address. What is refused is told in short.
pub fn bootstrap(data: &[u8]) -> bool {
    match fuzzing::hear("c1", "k8s.io", data) {
        Ok(heard) => heard.is_bootstrap,
        Err(error) => {
            printable("an error", &error.escape_debug().to_string(), 4 * data.len() + 4096);
            false
        }
    }
}

/// Runtime options: the first byte tells which type they are said to have.
///
/// Accepted: what was read, written as runc's own options, is read as the same; the state folder is
/// never empty, nor the binary.
pub fn runtime_options(data: &[u8]) -> bool {
    const TYPES: [&str; 5] = [
        "containerd.runc.v1.Options",
        "runtimeoptions.v1.Options",
        "containerd.linux.runc.CreateOptions",
        "types.example.com/containerd.runc.v1.Options",
        "acme.v1.Options",
    ];
    let Some((kind, value)) = data.split_first() else { return false };
    fuzzing::options(TYPES[usize::from(*kind) % TYPES.len()], value)
}
