//! Portcullis in a real cluster of one node: what `kubectl apply -k` brings, what pods meet, what the
//! cluster hears of it, and that `kubectl delete -k` leaves the node as it was.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod stage;

use portcullis_integration::cluster::{NODE, Part, pod, twice};
use portcullis_integration::registry::Registry;
use serde_json::{Value, json};
use stage::{REGISTRY, Stage};

/// Refuses what is critical and has a fix, alarms of what is medium.
const POLICY: &str = r#"
apiVersion: portcullis.dev/v1alpha1
kind: ProtectionPolicy
metadata: { name: production }
spec:
  description: Refuse what is critical and can be mended.
  rules:
    - { class: vulnerability, severity: [critical], fixable: true, action: block }
    - { class: vulnerability, severity: [medium], action: alarm }
"#;

/// One cluster, since it takes a while to come up: each step goes on where the last one ended.
#[test]
fn a_cluster_under_protection() {
    let stage = Stage::start();
    let before = stage.files();
    stage.install();
    stage.know_images();
    the_same_story_is_told_everywhere(&stage);
    what_is_away_changes_no_start_and_hears_of_it_later(&stage);
    every_pod_of_a_namespace_goes_through_the_gate(&stage);
    all_of_it_is_taken_off(&stage, &before);
}

fn the_same_story_is_told_everywhere(stage: &Stage) {
    let cluster = &stage.cluster;
    cluster.apply(POLICY).unwrap();
    stage.wait("the policy is in force on the node", || {
        let policy = cluster.get(&["protectionpolicy", "production"])?;
        Ok(policy["status"]["inForce"] == 1 && policy["status"]["nodes"] == 1)
    });
    let policy = twice(|| cluster.get(&["protectionpolicy", "production"])).unwrap();
    assert_eq!(policy["status"]["conditions"][0]["status"], "True", "{policy:#}");
    let protection = twice(|| cluster.get(&["nodeprotection", NODE])).unwrap();
    assert_eq!(protection["status"]["state"], "protected", "{protection:#}");
    let of_node = stage.portcullis(&["--output", "json", "status"]);
    let of_node: Value = serde_json::from_str(&of_node).unwrap();
    assert_eq!(protection["status"]["policySet"], of_node["policySet"]);

    // A pod of each kind, under the RuntimeClass, scheduled as pods are.
    for (name, image) in [("good", &stage.good), ("odd", &stage.odd), ("bad", &stage.bad)] {
        cluster.apply(&pod("shop", name, &image.name)).unwrap();
    }
    stage.wait("two pods run and one is refused", || {
        let phase = |name| stage.phase("shop", name);
        Ok(phase("good")? == "Running"
            && phase("odd")? == "Running"
            && stage.refusal("shop", "bad")?.contains("portcullis: blocked: "))
    });
    let refusal = twice(|| stage.refusal("shop", "bad")).unwrap();
    assert!(refusal.contains("CVE-2024-3094"), "{refusal}");

    // What `kubectl describe pod` shows.
    for (name, reason) in [("odd", "PortcullisAlarm"), ("bad", "PortcullisBlocked")] {
        stage.wait_for_event("shop", name, reason);
        let describe = ["describe", "pod", "-n", "shop", name];
        let described = twice(|| cluster.kubectl(&describe).ok()).unwrap().text();
        assert!(described.contains(reason), "{described}");
    }
    let events = twice(|| stage.events("shop", "good")).unwrap();
    assert!(events.is_empty(), "{events:#?}");
    let blocked = stage.wait_for_event("shop", "bad", "PortcullisBlocked");
    let id =
        blocked["metadata"]["annotations"]["portcullis.dev/event"].as_str().unwrap().to_owned();

    // The report of the namespace.
    stage.wait("the report has all three", || Ok(stage.results("shop")?.len() == 3));
    let words: Vec<(String, String)> = twice(|| stage.results("shop"))
        .unwrap()
        .iter()
        .map(|result| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&result["resources"][0]["name"]), text(&result["result"]))
        })
        .collect();
    for (pod, result) in [("good", "pass"), ("odd", "warn"), ("bad", "fail")] {
        let wanted = (pod.to_owned(), result.to_owned());
        assert!(words.contains(&wanted), "{words:?}");
    }

    // The ledger and the journal tell the same.
    let shown: Value =
        serde_json::from_str(&stage.portcullis(&["--output", "json", "events", "show", &id]))
            .unwrap();
    assert!(shown.to_string().contains("\"pod\":\"bad\""), "{shown:#}");
    let entries = cluster.journal().since("portcullis", &Default::default()).unwrap();
    let told = |entry: &Value| entry.to_string().contains(&id);
    assert!(entries.iter().any(told), "the journal does not have {id}");

    // The agent's metrics, too.
    let metrics = stage.metrics();
    for wanted in [
        r#"portcullis_decisions_total{action="block",engine="containerd",kind="container"}"#,
        r#"portcullis_decisions_by_policy_total{policy="production",action="block"}"#,
        r#"portcullis_node_state{state="protected"} 1"#,
        r#"portcullis_containers_running{gate="decided"}"#,
    ] {
        assert!(metrics.contains(wanted), "{wanted} is not in {metrics}");
    }

    // Handled, by kubectl.
    let marks =
        json!({ "spec": { "marks": { id.clone(): { "status": "handled", "note": "seen" } } } });
    cluster
        .change(&["patch", "nodeprotection", NODE, "--type=merge", "-p", &marks.to_string()])
        .unwrap();
    stage.wait("the mark is in the ledger and told", || {
        let protection = cluster.get(&["nodeprotection", NODE])?;
        let told = protection["status"]["marks"][&id]["status"] == "handled";
        let list = stage.portcullis(&["events", "list", "--status", "handled"]);
        Ok(told && list.contains("bad"))
    });
    // What is said on the node later counts, also when the agent begins anew and sees that mark again.
    stage.portcullis(&["events", "ignore", &id]);

    // Whitelisted, by an edit of the policy: the next start goes well.
    let whitelist = json!({ "spec": { "whitelist": [{ "image": stage.bad.name }] } });
    let patch = ["patch", "protectionpolicy", "production", "--type=merge", "-p"];
    cluster.change(&[&patch[..], &[&whitelist.to_string()]].concat()).unwrap();
    stage.wait("the refused pod runs", || Ok(stage.phase("shop", "bad")? == "Running"));

    // A fault of a policy is told where it was made, and changes nothing.
    let wrong = json!({ "spec": { "rules": [{ "when": "image.created <", "action": "block" }] } });
    cluster.change(&[&patch[..], &[&wrong.to_string()]].concat()).unwrap();
    stage.wait("the fault is told", || {
        let policy = cluster.get(&["protectionpolicy", "production"])?;
        let failure = &policy["status"]["failures"][0];
        Ok(policy["status"]["failing"] == 1 && failure["message"].to_string().contains("when"))
    });
    let after = stage.portcullis(&["policy", "list"]);
    assert!(after.contains("production"), "{after}");

    // Back to what it was.
    let delete = ["delete", "protectionpolicy", "production", "--wait=true", "--ignore-not-found"];
    cluster.change(&delete).unwrap();
    cluster.apply(POLICY).unwrap();
    stage.wait_in_force("production");
}

fn what_is_away_changes_no_start_and_hears_of_it_later(stage: &Stage) {
    let cluster = &stage.cluster;
    let stop_api = || cluster.stop_part(Part::ApiServer).unwrap();
    let start_api = || cluster.start_part(Part::ApiServer).unwrap();
    // What is scanned here is pushed for others.
    stage.make_keys();
    let settings = format!(
        "[registry]\npush = true\nsigningKey = \"/etc/portcullis-secret/verdicts.key\"\n\
         insecure = [\"{REGISTRY}\"]\n"
    );
    stage.set(&json!({ "portcullis.toml": settings }));
    for (what, agent, api, registry) in [
        ("api", false, true, false),
        ("agent", true, false, false),
        ("registry", false, false, true),
        ("all", true, true, true),
    ] {
        // An image that comes while no agent runs, and of which the registry shall hear.
        let new = registry.then(|| {
            stage.stop_agent();
            let registry = Registry::start(cluster.node(), REGISTRY).unwrap();
            let new = stage.pushed(&format!("new-{what}"));
            registry.end().unwrap();
            new
        });
        match (agent, registry) {
            (true, false) => stage.stop_agent(),
            (false, true) => stage.start_agent(),
            _ => {}
        }
        if api {
            stop_api();
        }
        // Without an API server there are static pods, which no webhook ever sees.
        let (good, bad) = (format!("good-{what}"), format!("bad-{what}"));
        stage.static_pod(&good, &stage.good.name);
        stage.static_pod(&bad, &stage.bad.name);
        let (good, bad) = (format!("{good}-{NODE}"), format!("{bad}-{NODE}"));
        stage.wait("both are decided", || {
            Ok(!stage.decisions(&good).is_empty() && !stage.decisions(&bad).is_empty())
        });
        assert!(stage.decisions(&good).iter().all(|action| action == "allow"), "{what}");
        assert!(stage.decisions(&bad).iter().all(|action| action == "block"), "{what}");
        if api {
            start_api();
        }
        if agent {
            stage.start_agent();
        }
        stage.wait_for_event("shop", &bad, "PortcullisBlocked");
        stage.wait("the report has it", || {
            let of_bad =
                |result: &Value| result["properties"]["image"].to_string().contains("/bad:");
            Ok(stage.results("shop")?.iter().any(|r| of_bad(r) && r["result"] == "fail"))
        });
        let told = twice(|| stage.events("shop", &bad)).unwrap();
        assert_eq!(told.len(), 1, "{what}: {told:#?}");
        let count = told[0]["count"].as_u64().unwrap();
        assert!(count <= stage.decisions(&bad).len() as u64, "{what}: {told:#?}");
        let told = twice(|| stage.events("shop", &good)).unwrap();
        assert!(told.is_empty(), "{what}: {told:#?}");
        if let Some(new) = new {
            let list = || stage.portcullis(&["--output", "json", "verdict", "list"]);
            stage.wait("the image is scanned", || Ok(list().contains(&new.config_digest)));
            let file = "/var/lib/portcullis/agent/pushes.json";
            let waits = || {
                let text = cluster.node().run("cat").arg(file).ok()?.text();
                Ok(text.contains(&new.config_digest))
            };
            stage.wait("its verdict waits", waits);
            let registry = Registry::start(cluster.node(), REGISTRY).unwrap();
            let verdicts = registry.referrers(&format!("new-{what}")).unwrap();
            assert_eq!(verdicts.len(), 1, "{what}: {verdicts:#?}");
            stage.wait("it waits no more", || waits().map(|waits| !waits));
            registry.end().unwrap();
        }
        stage.no_static_pods();
    }
    // Nobody uninstalled anything meanwhile, nor took back what was said on the node.
    assert!(stage.portcullis(&["policy", "list"]).contains("production"));
    assert!(stage.portcullis(&["events", "list", "--status", "ignored"]).contains("bad"));
    // What somebody deletes of the node's own words is said again.
    cluster.change(&["label", "node", NODE, "portcullis.dev/ready-"]).unwrap();
    cluster.change(&["delete", "nodeprotection", NODE, "--ignore-not-found"]).unwrap();
    stage.wait("the node tells of itself again", || {
        let node = cluster.get(&["node", NODE])?;
        let protection = cluster.get(&["nodeprotection", NODE])?;
        Ok(node["metadata"]["labels"]["portcullis.dev/ready"] == "true"
            && protection["status"]["state"] == "protected")
    });
}

fn every_pod_of_a_namespace_goes_through_the_gate(stage: &Stage) {
    let cluster = &stage.cluster;
    // The handler is the default, and the policy is about one namespace. The agents shall ask registries
    // for what others have signed, and none answers.
    let registry = "[registry]\ntrustedKeys = [\"/etc/portcullis-secret/verdicts.pub\"]\n";
    stage.set(&json!({ "defaultRuntime": "true", "portcullis.toml": registry }));
    let scope = json!({ "spec": { "scope": { "namespaces": { "include": ["shop"] } } } });
    let patch = ["patch", "protectionpolicy", "production", "--type=merge", "-p"];
    cluster.change(&[&patch[..], &[&scope.to_string()]].concat()).unwrap();
    stage.wait_in_force("production");
    cluster.make_namespace("other").unwrap();
    let start = |namespace: &str, name: &str| {
        let plain = pod(namespace, name, &stage.bad.name);
        cluster.apply(&plain.replace("  runtimeClassName: portcullis\n", "")).unwrap();
    };
    start("shop", "plain");
    start("other", "plain");
    stage.wait("one is refused and the other runs", || {
        Ok(stage.phase("other", "plain")? == "Running"
            && stage.refusal("shop", "plain")?.contains("portcullis: blocked: "))
    });
    let settings = cluster.node().run("cat").arg("/etc/portcullis/portcullis.toml").ok().unwrap();
    assert!(settings.text().contains(registry.trim()), "{}", settings.text());
    assert!(settings.text().contains(&format!("node = \"{NODE}\"")), "{}", settings.text());
    // An image that comes is scanned here, since no registry told of it.
    let list = ["--output", "json", "verdict", "list"];
    let known = || stage.portcullis(&list).contains(&stage.late.config_digest);
    assert!(!known());
    cluster.import(&stage.late).unwrap();
    stage.wait("the image is scanned", || Ok(known()));
    // And back: only those go through it that ask for it.
    stage.set(&json!({ "defaultRuntime": "false" }));
    start("shop", "free");
    stage.wait("one that does not ask runs", || Ok(stage.phase("shop", "free")? == "Running"));
}

fn all_of_it_is_taken_off(stage: &Stage, before: &str) {
    for namespace in ["shop", "other"] {
        let delete = ["delete", "namespace", namespace, "--ignore-not-found", "--wait=false"];
        stage.cluster.change(&delete).unwrap();
        stage.wait("the namespace is gone", || {
            let left = ["get", "namespace", namespace, "--ignore-not-found"];
            Ok(stage.cluster.kubectl(&left).ok()?.text().is_empty())
        });
    }
    the_daemonset_alone_takes_no_data_with_it(stage);
    let said = stage.uninstall();
    stage.expect_files(before, &said);
}

/// It may be made anew, with another selector.
fn the_daemonset_alone_takes_no_data_with_it(stage: &Stage) {
    let cluster = &stage.cluster;
    let exists = |path: &str| {
        let test = cluster.node().run("test").args(["-e", path]).output();
        test.map(|output| output.code() == 0)
    };
    let delete = ["delete", "-n", "portcullis-system", "daemonset", "portcullis"];
    cluster.kubectl(&delete).ok().unwrap();
    stage.wait("the node is restored", || Ok(!exists("/usr/local/bin/portcullis")?));
    assert!(exists("/var/lib/portcullis/events/events.jsonl").unwrap());
    assert!(exists("/var/lib/portcullis/verdicts").unwrap());
    stage.wait("the agent is gone", || stage.has_no_agent());
    cluster.install().unwrap();
}
