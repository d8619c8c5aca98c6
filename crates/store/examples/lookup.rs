//! Measures what a door waits for: reading one verdict among many.
//!
//! `cargo run --release -p portcullis-store --features suite --example lookup [VERDICTS [FINDINGS]]`

#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use portcullis_store::{FileStore, VerdictStore, suite};
use portcullis_types::{Digest, ImageFacts, Verdict};

const ROUNDS: usize = 2_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let verdicts = arguments.next().transpose()?.unwrap_or(5_000);
    let findings = arguments.next().transpose()?.unwrap_or(2_000);
    let folder = tempfile::tempdir()?;
    let store = FileStore::open(folder.path().join("verdicts"));
    // The report is the same for all: what differs is only where it lies.
    let images: Vec<ImageFacts> = (0..verdicts).map(image).collect();
    for image in &images {
        store.absorb(image, suite::report("trivy", 1_700_000_000, findings))?;
    }
    println!("{verdicts} verdicts with {findings} findings each; {ROUNDS} rounds");
    let pick = |round: usize| &images[round * 7_919 % verdicts];
    measure("by config", |round| {
        black_box(store.by_config(&pick(round).config))?;
        Ok(())
    })?;
    measure("by chain", |round| {
        let chain = pick(round).chain_id.as_ref();
        black_box(chain.map(|chain| store.by_chain(chain)).transpose())?;
        Ok(())
    })?;
    measure("by config, then merged", |round| {
        let verdict = store.by_config(&pick(round).config)?;
        black_box(Verdict::merged(&verdict));
        Ok(())
    })?;
    measure("an image that is not known", |round| {
        black_box(store.by_config(&image(verdicts + round).config))?;
        Ok(())
    })
}

fn image(number: usize) -> ImageFacts {
    // Spread like real digests, without a hash function for it.
    let bytes = |salt: u64| {
        let mut bytes = [0; 32];
        for (place, part) in bytes.chunks_exact_mut(8).enumerate() {
            let mixed = (number as u64 + salt + place as u64 * 31)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29)
                .wrapping_mul(0xbf58_476d_1ce4_e5b9);
            part.copy_from_slice(&mixed.to_le_bytes());
        }
        bytes
    };
    ImageFacts {
        config: Digest::sha256(bytes(1)),
        chain_id: Some(Digest::sha256(bytes(1 << 40))),
        ..suite::image('a')
    }
}

fn measure(
    what: &str,
    mut step: impl FnMut(usize) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let start = Instant::now();
        step(round)?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let micros = |time: Duration| time.as_nanos() as f64 / 1_000.0;
    println!(
        "{what:<28} p50 {:>8.1} us   p99 {:>8.1} us   worst {:>8.1} us",
        micros(times[ROUNDS / 2]),
        micros(times[ROUNDS * 99 / 100]),
        micros(times[ROUNDS - 1]),
    );
    Ok(())
}
