//! Measures what a door waits for: reading one verdict among many. All is measured in turns with
//! a reference, since a machine is not equally fast all the time.
//!
//! `cargo run --release -p portcullis-store --features suite --example lookup [VERDICTS [FINDINGS]]`
//!
//! Only some verdicts have findings and are looked up; the others make the folders full.

#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::error::Error;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portcullis_store::{Depth, Detail, FileStore, VerdictStore, suite};
use portcullis_types::{Digest, Finding, ImageFacts, Verdict};

const ROUNDS: usize = 2_000;
/// How many verdicts of one scanner are looked up, and as many of two scanners.
const FULL: usize = 100;

type Outcome = Result<(), Box<dyn Error>>;
type Step<'a> = (&'static str, Box<dyn Fn(usize) -> Result<Duration, Box<dyn Error>> + 'a>);

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let verdicts = arguments.next().transpose()?.unwrap_or(100_000);
    let findings = arguments.next().transpose()?.unwrap_or(2_000);
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("verdicts");
    let store = FileStore::open(&root);
    let started = Instant::now();
    let one: Vec<ImageFacts> = (0..FULL).map(image).collect();
    let two: Vec<ImageFacts> = (FULL..2 * FULL).map(image).collect();
    for (number, image) in one.iter().chain(&two).enumerate() {
        let scanners = if number < FULL { &["trivy"][..] } else { &["trivy", "grype"] };
        for scanner in scanners {
            store.absorb(image, suite::report(scanner, 1_700_000_000, findings))?;
        }
    }
    fill(&root, verdicts.saturating_sub(2 * FULL + 1))?;
    println!(
        "{verdicts} verdicts, those looked up with {findings} findings in {} KiB, made in {:.1} s",
        std::fs::metadata(path(&root, &one[0].config))?.len() >> 10,
        started.elapsed().as_secs_f64(),
    );
    compare(&steps(&store, &root, &one, &two))?;
    once("count", || store.count())?;
    once("list, heads only", || Ok(store.list(Depth::Heads)?.len()))?;
    once("annotate, nothing changes", || Ok(store.annotate(&|_| false)?.len()))?;
    let exploit = |finding: &mut Finding| {
        finding.kev = true;
        true
    };
    once("annotate, all changes", || {
        let annotated = store.annotate(&exploit)?;
        Ok(annotated.iter().filter(|a| matches!(a.changed, Ok(true))).count())
    })
}

fn steps<'a>(
    store: &'a FileStore,
    root: &'a Path,
    one: &'a [ImageFacts],
    two: &'a [ImageFacts],
) -> Vec<Step<'a>> {
    let pick = |images: &'a [ImageFacts], round: usize| &images[round * 37 % images.len()];
    let lookup = move |images, round, detail| {
        let verdict = store.by_config(&pick(images, round).config, detail)?;
        Ok::<Verdict, Box<dyn Error>>(verdict.ok_or("a verdict is missing")?)
    };
    let look_up = move |images, detail| move |round| timed(|| lookup(images, round, detail));
    let merge = move |images, detail| {
        move |round| {
            let verdict = lookup(images, round, detail)?;
            timed(|| Ok(Verdict::merged([&verdict])))
        }
    };
    let read = move |round| {
        let path = path(root, &pick(one, round).config);
        timed(|| Ok(std::fs::read(&path)?))
    };
    let hash = move |round| {
        let bytes = std::fs::read(path(root, &pick(one, round).config))?;
        timed(|| Ok(Digest::of(&bytes)))
    };
    let whole = move |images| {
        move |round| {
            timed(|| {
                let verdict = lookup(images, round, Detail::Decision)?;
                Ok((Verdict::merged([&verdict]), verdict))
            })
        }
    };
    let chain = move |round| {
        let chain = pick(one, round).chain_id.as_ref().ok_or("an image has no chain")?;
        timed(|| Ok(store.by_chain(chain, Detail::Decision)?))
    };
    let unknown = move |round| {
        timed(|| Ok(store.by_config(&image(usize::MAX - round).config, Detail::Full)?))
    };
    vec![
        ("reference: read the file", Box::new(read)),
        ("reference: SHA-256 of it", Box::new(hash)),
        ("lookup, unknown image", Box::new(unknown)),
        ("lookup, decision", Box::new(look_up(one, Detail::Decision))),
        ("lookup by chain, decision", Box::new(chain)),
        ("lookup, full", Box::new(look_up(one, Detail::Full))),
        ("merge 1 report", Box::new(merge(one, Detail::Decision))),
        ("lookup and merge 1 report", Box::new(whole(one))),
        ("lookup of 2 reports", Box::new(look_up(two, Detail::Decision))),
        ("merge 2 scanners", Box::new(merge(two, Detail::Decision))),
        ("lookup and merge 2 scanners", Box::new(whole(two))),
    ]
}

/// How long it took, without throwing away what it made: a door has no time for that either.
fn timed<T>(work: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let started = Instant::now();
    let made = black_box(work()?);
    let time = started.elapsed();
    drop(made);
    Ok(time)
}

fn compare(steps: &[Step<'_>]) -> Outcome {
    let mut times = vec![Vec::with_capacity(ROUNDS); steps.len()];
    for round in 0..ROUNDS {
        for ((_, step), times) in steps.iter().zip(&mut times) {
            times.push(step(round)?);
        }
    }
    let micros = |time: Duration| time.as_nanos() as f64 / 1_000.0;
    for ((what, _), mut times) in steps.iter().zip(times) {
        times.sort_unstable();
        println!(
            "{what:<28} p50 {:>8.1} us   p99 {:>8.1} us   worst {:>8.1} us",
            micros(times[ROUNDS / 2]),
            micros(times[ROUNDS * 99 / 100]),
            micros(times[ROUNDS - 1]),
        );
    }
    Ok(())
}

fn once(what: &str, work: impl FnOnce() -> Result<usize, portcullis_store::StoreError>) -> Outcome {
    let started = Instant::now();
    let entries = work()?;
    println!("{what:<28} {:>8.1} ms for {entries}", started.elapsed().as_secs_f64() * 1_000.0);
    Ok(())
}

/// Where the verdict about this image lies.
fn path(root: &Path, config: &Digest) -> PathBuf {
    root.join(config.algorithm().as_str()).join(&config.hex()[..2]).join(config.hex())
}

/// Puts so many more files into the store's folders. They are copies of one verdict, which a list
/// reads and then finds under another image's name; to absorb as many would sync each.
fn fill(root: &Path, files: usize) -> Outcome {
    let empty = image(2 * FULL);
    FileStore::open(root).absorb(&empty, suite::report("trivy", 1_700_000_000, 0))?;
    let bytes = std::fs::read(path(root, &empty.config))?;
    for number in 0..files {
        let file = path(root, &image(2 * FULL + 1 + number).config);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&file, &bytes)?;
    }
    Ok(())
}

fn image(number: usize) -> ImageFacts {
    let digest = |what: &str| Digest::of(format!("{what} {number}").as_bytes());
    ImageFacts { config: digest("config"), chain_id: Some(digest("chain")), ..suite::image('a') }
}
