//! Debian's registry (docker-registry, of which distribution 2.x is) in a node.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::node::{Node, signal};
use crate::run::Running;
use crate::wait_for;

/// Longer than it takes on a busy machine, and longer than a registry that was away is left alone.
const LIMIT: Duration = Duration::from_secs(400);

/// A registry that runs, and ends when this is dropped. What was pushed to it stays in the node's folder.
#[derive(Debug)]
pub struct Registry<'n> {
    node: &'n Node,
    address: String,
    running: Running,
}

impl<'n> Registry<'n> {
    /// Starts it at an address, a host and a port, and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(node: &'n Node, address: &str) -> Result<Self> {
        let config = json!({
            "version": "0.1",
            "log": { "level": "error", "accesslog": { "disabled": true } },
            "storage": { "filesystem": { "rootdirectory": node.folder().join("registry") } },
            "http": { "addr": address },
        });
        let file = node.folder().join("registry.yml");
        fs::write(&file, config.to_string())?;
        let program = node.inside().daemon("docker-registry").arg("serve").arg(&file);
        let running = program.env("OTEL_TRACES_EXPORTER", "none").spawn()?;
        let registry = Self { node, address: address.to_owned(), running };
        wait_for("the registry", LIMIT, || Ok(registry.get("/v2/")?.map(drop)))?;
        Ok(registry)
    }

    /// What it answers, if it does.
    fn get(&self, path: &str) -> Result<Option<Value>> {
        let url = format!("http://{}{path}", self.address);
        let index = "Accept: application/vnd.oci.image.index.v1+json";
        let curl = self.node.run("curl").args(["--silent", "--fail", "--header", index, &url]);
        let output = curl.output()?;
        Ok(serde_json::from_str(&output.text()).ok().filter(|_| output.code() == 0))
    }

    /// What refers to the only image of a repository, as the tag that stands in for the referrers API
    /// has it; waits until there is something.
    ///
    /// # Errors
    /// When nothing comes.
    pub fn referrers(&self, repository: &str) -> Result<Vec<Value>> {
        let index = wait_for("what refers to the image", LIMIT, || {
            let tags = self.get(&format!("/v2/{repository}/tags/list"))?.unwrap_or_default();
            let mut tags = tags["tags"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let Some(tag) = tags.find(|tag| tag.starts_with("sha256-")) else {
                return Ok(None);
            };
            self.get(&format!("/v2/{repository}/manifests/{tag}"))
        })?;
        Ok(index["manifests"].as_array().cloned().unwrap_or_default())
    }

    /// Ends it, as a crash would.
    ///
    /// # Errors
    /// When it still answers.
    pub fn end(mut self) -> Result<()> {
        signal(self.running.inner()?, Signal::KILL)?;
        wait_for("its end", LIMIT, || self.running.ended())?;
        ensure!(self.get("/v2/")?.is_none(), "it answers still");
        Ok(())
    }
}

impl Drop for Registry<'_> {
    fn drop(&mut self) {
        let _it_may_have_ended = self.running.kill();
    }
}
