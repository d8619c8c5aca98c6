//! How the part in the cluster fares; told on nodes that are in one.

use portcullis_kubernetes::Counts;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Labels, Named, gauges, label, whole};

/// Most parts that are named.
const MAX_PARTS: usize = 50;

#[derive(Debug)]
pub(super) struct InCluster {
    connected: Family<Labels<0>, Gauge>,
    leads: Family<Labels<0>, Gauge>,
    nodes: Family<Labels<0>, Gauge>,
    requests: Family<Labels<1>, Counter>,
    waiting: Family<Labels<1>, Gauge>,
    lost: Family<Labels<0>, Counter>,
    troubles: Family<Named, Gauge>,
}

impl InCluster {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let r = registry;
        let waiting = gauges(r, "cluster_waiting", "What waits to be told to the cluster");
        let mut single = |name: &str, help: &str| {
            let family = Family::<Labels<0>, Gauge>::default();
            r.register(name, help, family.clone());
            family
        };
        let connected = single("cluster_connected", "Whether the API server answers");
        let leads = single("cluster_leads", "Whether this agent sums up for the cluster");
        let nodes = single("cluster_nodes", "Nodes of the cluster");
        let (requests, lost) = (Family::default(), Family::default());
        let troubles = Family::<Named, Gauge>::default();
        r.register(
            "cluster_requests",
            "Requests to the API server that wrote something, or failed",
            Family::clone(&requests),
        );
        r.register(
            "cluster_lost",
            "What was thrown away before the cluster took it",
            Family::clone(&lost),
        );
        r.register("cluster_trouble", "Parts that do not work", troubles.clone());
        Self { connected, leads, nodes, requests, waiting, lost, troubles }
    }

    pub(super) fn set(&self, counts: &Counts) {
        let Counts { connected, leads, nodes, .. } = counts;
        self.connected.get_or_create(&[]).set(i64::from(*connected));
        self.leads.get_or_create(&[]).set(i64::from(*leads));
        self.nodes.get_or_create(&[]).set(i64::from(*nodes));
        for (result, now) in [("wrote", counts.writes), ("failed", counts.failures)] {
            raise(&self.requests.get_or_create(&[("result", result)]), now);
        }
        raise(&self.lost.get_or_create(&[]), counts.lost);
        for (what, number) in
            [("events", counts.waiting_events), ("results", counts.waiting_results)]
        {
            self.waiting.get_or_create(&[("what", what)]).set(whole(number));
        }
        self.troubles.clear();
        for part in counts.troubles.keys().take(MAX_PARTS) {
            self.troubles.get_or_create(&[("part", label(part))]).set(1);
        }
    }
}

fn raise(counter: &Counter, now: u64) {
    counter.inc_by(now.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn counters_rise_to_what_is_counted_and_troubles_go() {
        let mut registry = Registry::with_prefix("portcullis");
        let cluster = InCluster::new(&mut registry);
        let text = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        assert_eq!(text(), "# EOF\n");
        let mut counts = Counts {
            connected: true,
            writes: 3,
            waiting_events: 7,
            nodes: 2,
            troubles: [("policies".to_owned(), "no".to_owned())].into(),
            ..Counts::default()
        };
        cluster.set(&counts);
        let first = text();
        for line in [
            "portcullis_cluster_connected{} 1",
            "portcullis_cluster_leads{} 0",
            "portcullis_cluster_nodes{} 2",
            "portcullis_cluster_requests_total{result=\"wrote\"} 3",
            "portcullis_cluster_requests_total{result=\"failed\"} 0",
            "portcullis_cluster_lost_total{} 0",
            "portcullis_cluster_waiting{what=\"events\"} 7",
            "portcullis_cluster_trouble{part=\"policies\"} 1",
        ] {
            assert!(first.lines().any(|l| l == line), "{line} is not in\n{first}");
        }
        counts.writes = 5;
        counts.troubles.clear();
        cluster.set(&counts);
        cluster.set(&counts);
        let second = text();
        assert!(second.contains("{result=\"wrote\"} 5\n"), "{second}");
        assert!(!second.contains("policies"), "{second}");
        let described = include_str!("../../../../docs/metrics.md");
        for line in first.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            assert!(described.contains(&format!("`{name}`")), "{name} is not described");
        }
    }
}
