//! What a gated start on our shim costs beside an ungated one on the stock shim: the whole
//! `ctr run --rm`, interleaved, and the memory of each shim beside a running container.
//!
//! Prints medians and the median of the paired ratios with the middle half of them. The machine is
//! noisy: only ratios of one run mean something.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::engine::{Engine, RunningEngine};
use portcullis_integration::evidence::{MEDIUM, report, write_report};
use portcullis_integration::image::{BuiltImage, ImageBuilder, busybox_layer, digest};
use portcullis_integration::suite::Door;
use serde_json::json;

const DOORS: [Door; 2] = [Door::Stock, Door::Portcullis];
/// How long 200 reports may take.
const LONG: Duration = Duration::from_secs(300);
/// Containers that run while memory is measured.
const RUNNING: usize = 20;

/// What is there in a node of a busy cluster.
const IMAGES: usize = 200;
const FINDINGS: usize = 300;
const POLICIES: usize = 10;
const RULES: usize = 100;

/// Measures this many pairs on each engine; full: with 200 images of 300 findings each in the store
/// and 1,000 rules in 10 policies in force, all of them in scope.
pub(crate) fn measure(starts: usize, full: bool) -> Result<()> {
    let starts = starts.max(4);
    let folder = tempfile::tempdir()?;
    let image = ImageBuilder::new("registry.example.com/bench:1").layer(busybox_layer()?);
    let image = image.build(folder.path())?;
    let mut out = std::io::stdout();
    for engine in Engine::all() {
        let running = engine.start(&image)?;
        running.import("default", &image)?;
        prepare(&running, &image)?;
        if full {
            fill(&running, &image)?;
        }
        let [stock, ours] = times(&running, &image, starts)?;
        let mut ratios: Vec<f64> =
            stock.iter().zip(&ours).map(|(s, o)| o.as_secs_f64() / s.as_secs_f64()).collect();
        ratios.sort_by(f64::total_cmp);
        let [stock_pss, ours_pss] = memory(&running, &image)?;
        writeln!(
            out,
            "{}: start {:.1} ms stock, {:.1} ms ours, ratio {:.2} ({:.2} to {:.2}); \
             memory {stock_pss} kB stock, {ours_pss} kB ours, ratio {:.2}",
            engine.name(),
            median(stock).as_secs_f64() * 1e3,
            median(ours).as_secs_f64() * 1e3,
            ratios[starts / 2],
            ratios[starts / 4],
            ratios[starts * 3 / 4],
            ours_pss as f64 / stock_pss as f64,
        )?;
    }
    Ok(())
}

/// A policy in force and a verdict in the store, so that the gate does all of its work.
pub(crate) fn prepare(running: &RunningEngine, image: &BuiltImage) -> Result<()> {
    let policies = running.node().etc_portcullis().join("policies");
    std::fs::create_dir_all(&policies)?;
    let policy = include_str!("../../../../config/policies/watch.yaml");
    std::fs::write(policies.join("watch.yaml"), policy)?;
    let report = running.node().folder().join("bench.json");
    write_report(&report, image, &[MEDIUM])?;
    let portcullis = portcullis_integration::engine::own_binaries().join("portcullis");
    let command = || running.node().run(&portcullis);
    command().args(["policy", "apply"]).ok()?;
    command().arg("import").arg(report).ok()?;
    Ok(())
}

/// The images and rules of a busy node; the image that starts is one of them.
fn fill(running: &RunningEngine, image: &BuiltImage) -> Result<()> {
    let folder = running.node().folder().join("full");
    std::fs::create_dir(&folder)?;
    let severities = ["LOW", "MEDIUM", "HIGH"];
    let vulnerabilities: Vec<_> = (0..FINDINGS)
        .map(|number| {
            json!({
                "VulnerabilityID": format!("CVE-2025-{:05}", 10_000 + number),
                "PkgName": format!("package-{number}"),
                "InstalledVersion": "1.0",
                "FixedVersion": if number % 2 == 0 { "1.1" } else { "" },
                "Severity": severities[number % severities.len()],
            })
        })
        .collect();
    let mut files = Vec::new();
    for number in 0..IMAGES {
        let mut report = report(image, &[]);
        if number > 0 {
            report["Metadata"]["ImageID"] = digest(format!("image {number}").as_bytes()).into();
            report["Metadata"]["DiffIDs"] = json!([digest(format!("layer {number}").as_bytes())]);
            report["ArtifactName"] = format!("registry.example.com/image-{number}:1").into();
            report["Metadata"]["RepoTags"] = json!([report["ArtifactName"]]);
        }
        report["Results"][0]["Vulnerabilities"] = vulnerabilities.clone().into();
        let file = folder.join(format!("{number}.json"));
        std::fs::write(&file, report.to_string())?;
        files.push(file);
    }
    let portcullis = portcullis_integration::engine::own_binaries().join("portcullis");
    running.node().run(&portcullis).arg("import").args(files).limit(LONG).ok()?;
    let policies = running.node().etc_portcullis().join("policies");
    for policy in 0..POLICIES {
        let mut text = format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: ProtectionPolicy\nmetadata: {{ name: team-{policy} }}\nspec:\n  rules:\n"
        );
        for rule in 0..RULES {
            let id = 10_000 + (policy * RULES + rule) * 7 % 40_000;
            text += &match rule % 3 {
                0 => format!("    - {{ class: vulnerability, ids: [CVE-2025-{id:05}], action: alarm }}\n"),
                1 => "    - { class: vulnerability, severity: [high], fixable: true, action: alarm }\n".to_owned(),
                _ => "    - { class: vulnerability, severity: [critical], cvss: 9.0, action: block }\n".to_owned(),
            };
        }
        std::fs::write(policies.join(format!("team-{policy}.yaml")), text)?;
    }
    running.node().run(&portcullis).args(["policy", "apply"]).ok()?;
    let status = running.node().run(&portcullis).args(["status"]).ok()?.text();
    ensure!(status.contains(&format!("{IMAGES} images")), "{status}");
    Ok(())
}

fn times(running: &RunningEngine, image: &BuiltImage, starts: usize) -> Result<[Vec<Duration>; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    for at in 0..=starts {
        for (door, times) in DOORS.iter().zip(&mut times) {
            let run = running.ctr("default").args(["run", "--rm", "--runtime", door.runtime()]);
            let begun = Instant::now();
            run.args([image.name.as_str(), "bench", "true"]).ok()?;
            // The first of each fills caches.
            if at > 0 {
                times.push(begun.elapsed());
            }
        }
    }
    Ok(times)
}

pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The proportional memory of one shim, in kB, with twenty of them running.
fn memory(running: &RunningEngine, image: &BuiltImage) -> Result<[u64; 2]> {
    let mut each = [0, 0];
    for (door, each) in DOORS.iter().zip(&mut each) {
        let ids: Vec<String> = (0..RUNNING).map(|n| format!("bench-{n}")).collect();
        for id in &ids {
            let run = running.ctr("default").args(["run", "-d", "--null-io", "--runtime"]);
            run.args([door.runtime(), &image.name, id, "sleep", "1000"]).ok()?;
        }
        std::thread::sleep(Duration::from_secs(2));
        *each = shims_pss(running, *door)? / RUNNING as u64;
        for id in &ids {
            running.ctr("default").args(["tasks", "delete", "--force", id]).ok()?;
            running.ctr("default").args(["containers", "delete", id]).ok()?;
        }
    }
    Ok(each)
}

fn shims_pss(running: &RunningEngine, door: Door) -> Result<u64> {
    let mut sum = 0;
    for process in std::fs::read_dir(running.node().outside("/proc"))?.flatten() {
        let program = std::fs::read_link(process.path().join("exe")).unwrap_or_default();
        if !program.ends_with(door.shim()) {
            continue;
        }
        let rollup = std::fs::read_to_string(process.path().join("smaps_rollup"))?;
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
        sum += pss.trim().trim_end_matches(" kB").parse::<u64>()?;
    }
    Ok(sum)
}
