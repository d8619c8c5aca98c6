//! Measures what a start waits for once its image is known: lookup and decision, in turns with a
//! reference, since a machine is not equally fast all the time.
//!
//! `cargo run --release -p portcullis-gate --example decision [VERDICTS [FINDINGS [RULES [POLICIES]]]]`
//!
//! Only some verdicts have findings and are looked up; the others make the store's folders full.
//! The rules are spread over policies, all in scope, as people write them: half name ids, the rest
//! severities, thresholds, grace; each policy has exceptions and a whitelist, and one a condition.
//! The last line is a process of its own for each lookup and decision, as a shim is one.

#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::error::Error;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portcullis_gate::{Gate, published};
use portcullis_policy::PolicySet;
use portcullis_settings::Settings;
use portcullis_store::{FileStore, VerdictStore, suite};
use portcullis_types::{
    Digest, Engine, Event, Evidence, Identity, ImageFacts, Name, Request, Surety, Timestamp,
    Workload,
};

const ROUNDS: usize = 2_000;
/// How many verdicts are looked up.
const FULL: usize = 100;
/// How many processes are started for the last line.
const PROCESSES: usize = 200;

type Outcome<T> = Result<T, Box<dyn Error>>;
type Step<'a> = (&'static str, Box<dyn Fn(usize) -> Outcome<Duration> + 'a>);

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    if let Some(root) = arguments.next().filter(|a| a.starts_with('/')) {
        return once(Path::new(&root));
    }
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let verdicts = arguments.next().transpose()?.unwrap_or(100_000);
    let findings = arguments.next().transpose()?.unwrap_or(2_000);
    let rules = arguments.next().transpose()?.unwrap_or(200);
    let number = arguments.next().transpose()?.unwrap_or(4);
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("var/lib/portcullis/verdicts");
    let started = Instant::now();
    fill(&root, verdicts, findings)?;
    let set = policies(rules, number)?;
    published::publish(&folder.path().join("var/lib/portcullis/policy"), &set)?;
    println!(
        "{verdicts} verdicts, those looked up with {findings} findings; {rules} rules in {number} \
         policies; made in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    let gate = Gate::new(Settings::default().below(folder.path()));
    compare(&steps(&gate, &set, &root))?;
    let mut times = Vec::with_capacity(PROCESSES);
    for _ in 0..PROCESSES {
        let this = std::env::current_exe()?;
        let output = std::process::Command::new(this).arg(folder.path()).output()?;
        times.push(Duration::from_nanos(String::from_utf8(output.stdout)?.trim().parse()?));
    }
    print("the same, in a new process", times);
    Ok(())
}

/// Looks up and decides once, and prints how many nanoseconds that took.
fn once(root: &Path) -> Outcome<()> {
    let gate = Gate::new(Settings::default().below(root));
    let set = published::load(&root.join("var/lib/portcullis/policy"))?;
    let steps = steps(&gate, &set, root);
    let (_, step) = steps.iter().find(|(what, _)| *what == BOTH).ok_or("no such step")?;
    println!("{}", step(0)?.as_nanos());
    Ok(())
}

const BOTH: &str = "lookup and decision";

fn steps<'a>(gate: &'a Gate, set: &'a PolicySet, root: &'a Path) -> Vec<Step<'a>> {
    let request =
        Request { namespace: "prod-web".into(), ..Request::new(Engine::Containerd, "n", "c") };
    let identities: Vec<Identity> = (0..FULL).map(identity).collect();
    let look_up = {
        let identities = identities.clone();
        move |round: usize| -> (Identity, Evidence) {
            let identity = identities[round * 37 % FULL].clone();
            let evidence =
                Evidence { workload: Workload::Read(Vec::new()), ..gate.evidence_for(&identity) };
            (identity, evidence)
        }
    };
    let now = Timestamp::now();
    let (one, two, three) = (look_up.clone(), look_up.clone(), look_up.clone());
    let (request_two, request_three, request_one) = (request.clone(), request.clone(), request);
    let published = set.published();
    vec![
        (
            "reference: read the file",
            Box::new(move |round| {
                let path = path(root, &image(round * 37 % FULL).config);
                timed(|| Ok(std::fs::read(&path)?))
            }),
        ),
        ("lookup", Box::new(move |round| timed(|| Ok(look_up(round))))),
        (
            "decision",
            Box::new(move |round| {
                let (identity, evidence) = one(round);
                timed(|| Ok(gate.judge(Some(set), &request_one, &identity, &evidence, now)))
            }),
        ),
        (
            BOTH,
            Box::new(move |round| {
                timed(|| {
                    let (identity, evidence) = two(round);
                    Ok((gate.judge(Some(set), &request_two, &identity, &evidence, now), evidence))
                })
            }),
        ),
        (
            "line and event",
            Box::new(move |round| {
                let (identity, evidence) = three(round);
                let decision = gate.judge(Some(set), &request_three, &identity, &evidence, now);
                timed(|| {
                    let line = portcullis_policy::refusal(&decision, &identity, "id");
                    let id = "id".to_owned();
                    Ok(Event::of_decision(
                        id,
                        now,
                        line,
                        &request_three,
                        &identity,
                        &evidence,
                        &decision,
                    ))
                })
            }),
        ),
        (
            "load the policy set",
            Box::new(move |_| timed(|| Ok(PolicySet::from_published(&published, set.digest())?))),
        ),
    ]
}

/// How long it took, without throwing away what it made.
fn timed<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<Duration> {
    let started = Instant::now();
    let made = black_box(work()?);
    let time = started.elapsed();
    drop(made);
    Ok(time)
}

fn compare(steps: &[Step<'_>]) -> Outcome<()> {
    let mut times = vec![Vec::with_capacity(ROUNDS); steps.len()];
    for round in 0..ROUNDS {
        for ((_, step), times) in steps.iter().zip(&mut times) {
            times.push(step(round)?);
        }
    }
    for ((what, _), times) in steps.iter().zip(times) {
        print(what, times);
    }
    Ok(())
}

fn print(what: &str, mut times: Vec<Duration>) {
    let micros = |time: Duration| time.as_nanos() as f64 / 1_000.0;
    times.sort_unstable();
    println!(
        "{what:<28} p50 {:>8.1} us   p99 {:>8.1} us   worst {:>8.1} us",
        micros(times[times.len() / 2]),
        micros(times[times.len() * 99 / 100]),
        micros(times[times.len() - 1]),
    );
}

fn path(root: &Path, config: &Digest) -> PathBuf {
    root.join(config.algorithm().as_str()).join(&config.hex()[..2]).join(config.hex())
}

fn image(number: usize) -> ImageFacts {
    let digest = |what: &str| Digest::of(format!("{what} {number}").as_bytes());
    ImageFacts { config: digest("config"), chain_id: Some(digest("chain")), ..suite::image('a') }
}

fn identity(number: usize) -> Identity {
    let facts = image(number);
    let reference = format!("registry.example.com/team/app-{number}:1").parse().ok();
    let name = |reference| Name { reference, held: true, asked: true };
    Identity {
        surety: Surety::Bound,
        chain_id: facts.chain_id,
        config: Some(facts.config),
        manifests: [Digest::of(format!("manifest {number}").as_bytes())].into(),
        names: reference.map(name).into_iter().collect(),
        note: None,
    }
}

/// Puts verdicts into the store. Those without findings are copies of one, which no lookup reads;
/// to absorb as many would sync each.
fn fill(root: &Path, verdicts: usize, findings: usize) -> Outcome<()> {
    let store = FileStore::open(root);
    for number in 0..FULL {
        store.absorb(&image(number), suite::report("trivy", 1_700_000_000, findings))?;
    }
    let empty = image(FULL);
    store.absorb(&empty, suite::report("trivy", 1_700_000_000, 0))?;
    let bytes = std::fs::read(path(root, &empty.config))?;
    for number in FULL + 1..verdicts {
        let file = path(root, &image(number).config);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&file, &bytes)?;
    }
    Ok(())
}

fn policies(rules: usize, number: usize) -> Outcome<PolicySet> {
    let mut documents = Vec::new();
    for policy in 0..number {
        let mut list = String::new();
        for rule in (policy..rules).step_by(number) {
            let severity = ["critical", "high", "medium", "low"][rule / number % 4];
            let rule = match rule / number % 6 {
                0 | 2 | 4 => format!(
                    r#"{{"class":"vulnerability","ids":["CVE-2021-{rule:05}","CVE-2024-{rule:05}"],"action":"alarm"}},"#
                ),
                1 => format!(
                    r#"{{"class":"vulnerability","severity":["{severity}"],"fixable":true,
                        "grace":{{"from":"fixed","for":"7d","fallback":"firstSeen"}},"action":"block"}},"#
                ),
                3 => format!(
                    r#"{{"class":"vulnerability","severity":["{severity}"],"cvss":9.0,"action":"block"}},"#
                ),
                _ => r#"{"class":"vulnerability","epss":0.5,"action":"alarm"},"#.to_owned(),
            };
            list.push_str(&rule);
        }
        if policy == 0 {
            list.push_str(
                r#"{"class":"vulnerability","severity":["critical"],
                    "when":"finding.package == 'package-7' && request.namespace.startsWith('prod-')",
                    "action":"block"},"#,
            );
        }
        let mut exceptions = String::new();
        for exception in 0..5 {
            write!(
                exceptions,
                r#"{{"id":"CVE-2024-{:05}","expires":"2099-12-31","owner":"a@example.com"}},"#,
                exception * 100 + policy
            )?;
        }
        let json = format!(
            r#"{{"apiVersion":"portcullis.dev/v1alpha1","kind":"ProtectionPolicy",
                "metadata":{{"name":"p{policy}"}},"spec":{{"rules":[{}],"exceptions":[{}],
                "scope":{{"namespaces":{{"include":["prod-*"]}}}},
                "whitelist":[{{"image":"registry.example.com/tools/**"}}]}}}}"#,
            list.trim_end_matches(','),
            exceptions.trim_end_matches(','),
        );
        documents.push(serde_json::from_str(&json)?);
    }
    PolicySet::compile(documents).map_err(|faults| format!("{faults:?}").into())
}
