//! Asks a containerd what a container runs, and how long the answer takes.
//!
//! `ctr -n NAMESPACE snapshots mounts /x CONTAINER | resolve ADDRESS NAMESPACE CONTAINER [TIMES]`

use std::io::Read;
use std::time::{Duration, Instant};

use portcullis_resolve::{ContainerdResolver, RootfsMount, Start};

#[expect(clippy::print_stdout, reason = "an example tells what it found")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, namespace, container_id, times @ ..] = arguments.as_slice() else {
        return Err("usage: resolve ADDRESS NAMESPACE CONTAINER [TIMES] < mounts".into());
    };
    let times: usize = times.first().map_or(Ok(1), |n| n.parse())?;
    let mut mounts = String::new();
    std::io::stdin().read_to_string(&mut mounts)?;
    let rootfs: Vec<RootfsMount> = mounts.lines().filter_map(mount).collect();

    let resolver = ContainerdResolver::new(address);
    let resolve = || {
        resolver.resolve(&Start {
            namespace,
            container_id,
            rootfs: &rootfs,
            deadline: Instant::now() + Duration::from_millis(1500),
        })
    };
    println!("{:#?}", resolve());
    let mut took: Vec<Duration> = (0..times)
        .map(|_| {
            let begin = Instant::now();
            std::hint::black_box(resolve());
            begin.elapsed()
        })
        .collect();
    took.sort_unstable();
    let at = |share: usize| took[(took.len() - 1) * share / 100];
    println!("{times} times: median {:?}, p95 {:?}, worst {:?}", at(50), at(95), at(100));
    Ok(())
}

/// Reads `mount -t TYPE SOURCE TARGET -o OPTIONS`, as `ctr snapshots mounts` writes it.
fn mount(line: &str) -> Option<RootfsMount> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["mount", "-t", kind, source, _target, "-o", options] = words.as_slice() else {
        return None;
    };
    Some(RootfsMount {
        kind: (*kind).to_owned(),
        source: (*source).to_owned(),
        options: options.split(',').map(ToOwned::to_owned).collect(),
    })
}
