//! The `delete` verb: what is left of a container whose shim is gone is taken away.
//!
//! Called after every container of a v2 shim, so it looks before it calls the runtime.

use std::fs;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::Message;
use portcullis_settings::Door;
use serde::Deserialize;

use crate::args::Args;
use crate::events::timestamp;
use crate::mounts;
use crate::options::{self, RuntimeOptions};

/// What a killed process' exit status is: 128 and SIGKILL.
const KILLED: u32 = 137;

/// Runs the `delete` verb. Only the response goes to stdout; what goes wrong is said on stderr,
/// which containerd logs, and the rest is done all the same.
///
/// # Errors
/// If the response cannot be printed, or the current folder is not known.
pub fn delete(args: &Args) -> io::Result<()> {
    let bundle = match args.bundle.as_os_str().is_empty() {
        false => args.bundle.clone(),
        true => {
            let here = std::env::current_dir()?;
            here.parent().unwrap_or(&here).join(&args.id)
        }
    };
    let options = saved_options(&bundle).unwrap_or_else(|| {
        let settings = Door::of_this_binary().settings().settings;
        RuntimeOptions::resolve(None, &settings.runtime, &args.namespace, "")
    });
    let mut problems = Vec::new();
    if options.root.join(&args.id).exists() {
        problems.extend(delete_container(&options, &args.id).err());
    }
    for point in ["rootfs", mounts::MAPPED] {
        if let Err(error) = mounts::unmount_all(&bundle.join(point)) {
            problems.push(crate::status::chain(&error));
        }
    }
    remove_dead_socket(&bundle);
    let pid = fs::read_to_string(bundle.join("init.pid"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    let response = DeleteResponse {
        pid,
        exit_status: KILLED,
        exited_at: timestamp(jiff::Timestamp::now()),
        ..DeleteResponse::default()
    };
    for problem in problems {
        let _nobody_reads_it = writeln!(io::stderr(), "portcullis: {problem}");
    }
    io::stdout().write_all(&response.write_to_bytes().unwrap_or_default())
}

fn saved_options(bundle: &Path) -> Option<RuntimeOptions> {
    serde_json::from_slice(&fs::read(bundle.join(options::FILE)).ok()?).ok()
}

fn delete_container(options: &RuntimeOptions, id: &str) -> Result<(), String> {
    let output = Command::new(&options.binary)
        .arg("--root")
        .arg(&options.root)
        .args(options.systemd_cgroup.then_some("--systemd-cgroup"))
        .args(["delete", "--force", id])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run {}: {e}", options.binary.display()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ")),
    }
}

/// The address that containerd 2 keeps in the bundle.
#[derive(Deserialize)]
struct Bootstrap {
    address: String,
}

/// A shim that was killed cannot remove its socket.
fn remove_dead_socket(bundle: &Path) {
    let plain = fs::read_to_string(bundle.join("address")).ok();
    let address = plain.or_else(|| {
        let json = fs::read(bundle.join("bootstrap.json")).ok()?;
        Some(serde_json::from_slice::<Bootstrap>(&json).ok()?.address)
    });
    let Some(path) = address.as_deref().and_then(|a| a.trim().strip_prefix("unix://")) else {
        return;
    };
    let path = PathBuf::from(path);
    let refused = matches!(
        UnixStream::connect(&path),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused
    );
    if refused {
        let _gone_is_well = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_nobody_listens_on_is_removed() {
        let bundle = tempfile::tempdir().unwrap();
        let socket = bundle.path().join("socket");
        let address = format!("unix://{}", socket.display());
        fs::write(bundle.path().join("address"), address).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        remove_dead_socket(bundle.path());
        assert!(socket.exists());
        drop(listener);
        // A child that another test has forked and that has not yet executed its program holds the
        // listener for a moment.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while socket.exists() && std::time::Instant::now() < until {
            remove_dead_socket(bundle.path());
            std::thread::yield_now();
        }
        assert!(!socket.exists());
    }
}
