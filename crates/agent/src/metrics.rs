//! What the agent counts and measures, as Prometheus reads it. `docs/metrics.md` says what each is.
//!
//! Labels come from closed sets, but for the names of policies and ecosystems, which are bounded:
//! nothing that runs on a node can make series of its own.

mod cluster;
mod seen;
mod stands;

pub(crate) use stands::{Advisories, Degraded, Stand};

use std::sync::{Mutex, PoisonError};

use portcullis_types::Event;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::queue::{Counts, Ended};
use cluster::InCluster;
use seen::Seen;
use stands::Stands;

/// The media type of OpenMetrics' text.
pub(crate) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The media type of Prometheus' own text.
pub(crate) const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// So many labels.
type Labels<const N: usize> = [(&'static str, &'static str); N];
/// One label, whose values are not a closed set.
type Named = [(&'static str, String); 1];

/// How long scans take, in seconds.
const SCAN_SECONDS: [f64; 11] = [0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0];

/// All of it. Whoever reads sees each change whole.
#[derive(Debug)]
pub(crate) struct Metrics {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    seen: Seen,
    stands: Stands,
    queue: Family<Labels<1>, Gauge>,
    images: Gauge,
    unscanned: Gauge,
    violating: Gauge,
    running: Family<Labels<1>, Gauge>,
    pushes: Gauge,
    scans: Family<Labels<1>, Counter>,
    scan_seconds: Histogram,
    missed: Counter,
    damaged: Counter,
    unhandled: Family<Labels<1>, Gauge>,
    cluster: InCluster,
}

/// What a reader of the ledger tells beside the records.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ledger {
    /// Records that were gone before they were read.
    pub(crate) missed: u64,
    /// Lines that are no records.
    pub(crate) damaged: u64,
    /// Alarms and blocks that nobody has handled.
    pub(crate) unhandled: (usize, usize),
}

impl Metrics {
    /// Nothing is counted yet. `started` is now, in seconds since 1970.
    pub(crate) fn new(version: &'static str, started: i64) -> Self {
        let mut registry = Registry::with_prefix("portcullis");
        let r = &mut registry;
        r.register("build", "The agent that runs", Info::new([("version", version)]));
        gauge(r, "agent_start_timestamp_seconds", "When the agent started").set(started);
        let seen = Seen::new(r);
        let stands = Stands::new(r);
        let queue = gauges(r, "scan_queue", "Images that wait for a scan or are being scanned");
        let images = gauge(r, "images", "Images that the engines have");
        let unscanned = gauge(r, "images_unscanned", "How many of them are not scanned");
        let violating =
            gauge(r, "containers_violating", "Containers that run and violate a policy by now");
        let running = gauges(r, "containers_running", "Containers that run");
        let pushes = gauge(r, "pushes_waiting", "Verdicts that wait to be pushed to registries");
        let scans = Family::<Labels<1>, Counter>::default();
        r.register("scans", "Scans of this agent that are at their end", scans.clone());
        let scan_seconds = Histogram::new(SCAN_SECONDS);
        r.register("scan_duration_seconds", "How long scans took", scan_seconds.clone());
        let missed =
            counter(r, "ledger_records_missed", "Records that were gone before they were counted");
        let damaged = counter(r, "ledger_damaged_lines", "Lines of the ledger that are no records");
        let unhandled = gauges(
            r,
            "events_unhandled",
            "Alarms and blocks in the ledger that nobody has handled, equal ones as one",
        );
        let cluster = InCluster::new(r);
        for result in ["scanned", "failed"] {
            scans.get_or_create_owned(&[("result", result)]);
        }
        let inner = Inner {
            registry,
            seen,
            stands,
            queue,
            images,
            unscanned,
            violating,
            running,
            pushes,
            scans,
            scan_seconds,
            missed,
            damaged,
            unhandled,
            cluster,
        };
        Self { inner: Mutex::new(inner) }
    }

    /// Counts events, and takes what is told of the ledger as a whole: numbers since the agent began.
    pub(crate) fn count(&self, events: &[Event], ledger: Ledger) {
        let mut inner = self.held();
        events.iter().for_each(|event| inner.seen.count(event));
        for (counter, now) in [(&inner.missed, ledger.missed), (&inner.damaged, ledger.damaged)] {
            counter.inc_by(now.saturating_sub(counter.get()));
        }
        let (alarms, blocks) = ledger.unhandled;
        for (action, number) in [("alarm", alarms), ("block", blocks)] {
            inner.unhandled.get_or_create(&[("action", action)]).set(whole(number));
        }
    }

    /// How the node stands.
    pub(crate) fn stand(&self, stand: &Stand) {
        self.held().stands.set(stand);
    }

    /// How the part in the cluster fares.
    pub(crate) fn cluster(&self, counts: &portcullis_kubernetes::Counts) {
        self.held().cluster.set(counts);
    }

    /// A scan is at its end.
    pub(crate) fn scanned(&self, ended: &Ended) {
        let inner = self.held();
        let result = if ended.scanned { "scanned" } else { "failed" };
        inner.scans.get_or_create(&[("result", result)]).inc();
        inner.scan_seconds.observe(ended.took.as_secs_f64());
    }

    /// All of it as text, in OpenMetrics' form, with the queue as it is now, and how many verdicts wait
    /// to be pushed.
    pub(crate) fn openmetrics(&self, queue: &Counts, pushes: usize) -> String {
        let inner = self.held();
        let Counts { waiting, background, scanning, .. } = *queue;
        for (state, number) in
            [("waiting", waiting), ("background", background), ("scanning", scanning)]
        {
            inner.queue.get_or_create(&[("state", state)]).set(whole(number));
        }
        inner.images.set(whole(queue.images));
        inner.unscanned.set(whole(queue.unscanned));
        inner.violating.set(whole(queue.runs.violating));
        for (gate, number) in [("decided", queue.runs.decided), ("undecided", queue.runs.undecided)]
        {
            inner.running.get_or_create(&[("gate", gate)]).set(whole(number));
        }
        inner.pushes.set(whole(pushes));
        let mut text = String::new();
        // A string takes everything.
        let _never_fails = encode(&mut text, &inner.registry);
        text
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gauges(registry: &mut Registry, name: &str, help: &str) -> Family<Labels<1>, Gauge> {
    let family = Family::<Labels<1>, Gauge>::default();
    registry.register(name, help, family.clone());
    family
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge: Gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter: Counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A text that may be a label's value: the encoder writes values as they are.
fn label(text: &str) -> String {
    let plain = |c: char| if c.is_control() || matches!(c, '"' | '\\') { '_' } else { c };
    text.chars().take(128).map(plain).collect()
}

/// The same in Prometheus' own text, which older readers and promtool take: there a counter is named
/// as its series is, and nothing is an info.
pub(crate) fn classic(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let kind = lines.peek().and_then(|l| l.strip_prefix("# TYPE ")?.rsplit(' ').next());
            let suffix = suffix(kind.unwrap_or_default());
            let (name, help) = help.split_once(' ').unwrap_or((help, ""));
            text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|line| line.rsplit_once(' '))
        {
            let kind_there = if kind == "info" { "gauge" } else { kind };
            text.push_str(&format!("# TYPE {name}{} {kind_there}\n", suffix(kind)));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn suffix(kind: &str) -> &'static str {
    match kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classic_text_names_counters_as_their_series_are() {
        let metrics = Metrics::new("1", 17);
        let counts = Counts { waiting: 3, background: 2, images: 5, ..Counts::default() };
        let text = classic(&metrics.openmetrics(&counts, 4));
        for line in [
            "# HELP portcullis_build_info The agent that runs.",
            "# TYPE portcullis_build_info gauge",
            "portcullis_build_info{version=\"1\"} 1",
            "portcullis_agent_start_timestamp_seconds 17",
            "# TYPE portcullis_scans_total counter",
            "portcullis_scans_total{result=\"failed\"} 0",
            "portcullis_scan_queue{state=\"waiting\"} 3",
            "portcullis_scan_queue{state=\"background\"} 2",
            "portcullis_images 5",
            "portcullis_pushes_waiting 4",
            "# TYPE portcullis_gate_duration_seconds histogram",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    }

    #[test]
    fn no_label_ends_its_line() {
        assert_eq!(label("a\"} 1\n\\b"), "a_} 1__b");
        assert_eq!(label(&"ä".repeat(1000)).chars().count(), 128);
    }
}
