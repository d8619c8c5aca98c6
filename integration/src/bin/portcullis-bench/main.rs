//! The benchmarks that need an engine, each beside a reference in the same run.
//!
//! `portcullis-bench starts [N [full]]`  whole starts on our shim beside the stock one; full: as in a
//!                                 cluster, with 200 images in the store and 1,000 rules in force
//! `portcullis-bench wrapper [N]`  what the wrapper adds to a call of the runtime
//! `portcullis-bench cluster [SECONDS]`  what a node costs its API server; so long a rest
//! `portcullis-bench scan [large]` scans of a root filesystem; of a large image
//!
//! Called by `integration/bench`.

mod cluster;
mod scan;
mod starts;
mod wrapper;

use anyhow::{Context as _, Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = |at: usize, otherwise| match arguments.get(at) {
        None => Ok(otherwise),
        Some(text) => text.parse::<usize>().with_context(|| format!("{text} is no number")),
    };
    match arguments.first().map(String::as_str) {
        Some("starts") => match arguments.get(2).map(String::as_str) {
            None => starts::measure(count(1, 40)?, false),
            Some("full") => starts::measure(count(1, 40)?, true),
            Some(other) => bail!("\"{other}\" is unknown: use full or nothing"),
        },
        Some("wrapper") => wrapper::measure(count(1, 400)?),
        Some(wrapper::INSIDE) => wrapper::inside(count(1, 0)?, &arguments[2..]),
        Some("cluster") => cluster::measure(count(1, 600)?.max(60) as u64),
        Some("scan") => match arguments.get(1).map(String::as_str) {
            None => scan::measure(),
            Some("large") => scan::measure_large(),
            Some(other) => bail!("\"{other}\" is unknown: use large or nothing"),
        },
        _ => bail!(
            "use: portcullis-bench starts [N [full]], wrapper [N], cluster [SECONDS], scan [large]"
        ),
    }
}
