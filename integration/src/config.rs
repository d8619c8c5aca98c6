//! The configuration of a test containerd.

use std::path::Path;

/// What a configuration depends on.
pub(crate) struct Config<'a> {
    /// The folder that holds root, state and sockets.
    pub(crate) folder: &'a Path,
    /// Our shim, for the handler `portcullis`.
    pub(crate) shim: &'a Path,
    /// The wrapper, for the handler `wrapper`, if it is in the node.
    pub(crate) wrapper: Option<&'a Path>,
    /// The image of a pod's sandbox.
    pub(crate) sandbox_image: &'a str,
    /// The first two numbers of containerd's version.
    pub(crate) version: (u32, u32),
}

impl Config<'_> {
    /// The text of `config.toml`.
    pub(crate) fn text(&self) -> String {
        let folder = self.folder.display();
        let head = format!(
            r#"root = "{folder}/root"
state = "{folder}/state"
# Makes a folder below /opt, which nobody needs here.
disabled_plugins = ["io.containerd.internal.v1.opt"]

# A shim on a busy machine is slow to answer, and not gone.
[timeouts]
"io.containerd.timeout.shim.load" = "60s"
"io.containerd.timeout.task.state" = "60s"

[grpc]
address = "{folder}/containerd.sock"
"#
        );
        if self.version.0 >= 2 {
            format!("version = 3\n{head}{}", self.version_3())
        } else {
            format!("version = 2\n{head}{}", self.version_2())
        }
    }

    fn version_2(&self) -> String {
        let Self { folder, sandbox_image, .. } = self;
        let folder = folder.display();
        format!(
            r#"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{sandbox_image}"
disable_apparmor = true
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/cni"

{handlers}"#,
            handlers = self.handlers(r#"plugins."io.containerd.grpc.v1.cri".containerd"#)
        )
    }

    fn version_3(&self) -> String {
        let Self { folder, sandbox_image, .. } = self;
        let folder = folder.display();
        format!(
            r#"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{sandbox_image}"

[plugins."io.containerd.cri.v1.runtime"]
disable_apparmor = true
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{folder}/cni"

{handlers}"#,
            handlers = self.handlers(r#"plugins."io.containerd.cri.v1.runtime".containerd"#)
        )
    }

    fn handlers(&self, section: &str) -> String {
        // The recommended way keeps the type of the stock shim, so that its options are passed,
        // and only changes the path. Debian 12's containerd ignores the path.
        let ours = if self.version < (1, 7) {
            "runtime_type = \"io.containerd.portcullis.v2\"".to_owned()
        } else {
            let shim = self.shim.display();
            format!("runtime_type = \"io.containerd.runc.v2\"\nruntime_path = \"{shim}\"")
        };
        let wrapper = self.wrapper.map(|wrapper| {
            format!(
                r#"
[{section}.runtimes.wrapper]
runtime_type = "io.containerd.runc.v2"

[{section}.runtimes.wrapper.options]
BinaryName = "{}"
"#,
                wrapper.display()
            )
        });
        let wrapper = wrapper.unwrap_or_default();
        format!(
            r#"[{section}]
default_runtime_name = "runc"

[{section}.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[{section}.runtimes.portcullis]
{ours}
{wrapper}"#
        )
    }
}

/// The pod network: a bridge in the node's own network namespace.
pub(crate) const CNI: &str = r#"{
  "cniVersion": "0.4.0",
  "name": "portcullis-test",
  "plugins": [{
    "type": "bridge",
    "bridge": "pods0",
    "isGateway": true,
    "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.88.0.0/16" }]] }
  }]
}
"#;
