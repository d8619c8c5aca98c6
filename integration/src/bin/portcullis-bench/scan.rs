//! What scans cost: time, and the memory of the command and of the confined process.
//!
//! `scan`: a root filesystem of 100 MB with 750 packages, made here, beside reading and hashing all of
//! it, and beside Trivy and Syft if they are on the machine; and Debian's own, if the tests have made
//! it. `scan large`: an image of 3 GB with 500,000 files, and a second one that has its first layer.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::engine::own_binaries;
use portcullis_integration::image::architecture;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::starts::median;

/// Scans of each kind.
const ROUNDS: usize = 5;
const PACKAGES: usize = 750;
/// Files of a package: with the sizes below they make 100 MB.
const FILES: usize = 40;
const FILE_BYTES: usize = 3_400;

/// What a process took.
struct Took {
    time: Duration,
    /// The most memory that it had resident, in kB.
    command: u64,
    /// The same of the largest process that it started.
    started: u64,
    output: Vec<u8>,
}

/// A root filesystem beside its references.
pub(crate) fn measure() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root");
    packages(&root)?;
    compare("made here", &root)?;
    let debian = portcullis_integration::debian::cached();
    match debian.is_dir() {
        true => compare("Debian 12, minbase", &debian),
        false => writeln!(std::io::stdout(), "Debian's own: not there, the tests make it")
            .map_err(Into::into),
    }
}

fn compare(what: &str, root: &Path) -> Result<()> {
    let mut out = std::io::stdout();
    let found = took(&mut portcullis(&["--output", "cyclonedx", "scan", "--no-clamd"], root))?;
    let bom: Value = serde_json::from_slice(&found.output).context("the bill of materials")?;
    let listed = bom["components"].as_array().into_iter().flatten();
    let listed = listed.filter(|component| component["purl"].is_string()).count();
    writeln!(out, "{what}: {} MB, {listed} packages, median of {ROUNDS}", bytes(root)? >> 20)?;
    let line = |name: &str, mut all: Vec<Took>| -> Result<()> {
        all.sort_by_key(|took| took.command);
        let memory = all.last().context("a round")?;
        writeln!(
            std::io::stdout(),
            "  {name:<18} {:6.2} s   {:4} MB, what it starts {:4} MB",
            median(all.iter().map(|took| took.time).collect()).as_secs_f64(),
            memory.command >> 10,
            all.iter().map(|took| took.started).max().unwrap_or_default() >> 10,
        )?;
        Ok(())
    };
    let rounds = |command: &dyn Fn() -> Command| -> Result<Vec<Took>> {
        (0..ROUNDS).map(|_| took(&mut command())).collect()
    };
    line("portcullis scan", rounds(&|| portcullis(&["scan", "--no-clamd"], root))?)?;
    line(
        "sha256sum of all",
        rounds(&|| {
            let mut hash = Command::new("sh");
            hash.args(["-c", "find \"$0\" -xdev -type f -print0 | xargs -0 sha256sum"]).arg(root);
            hash
        })?,
    )?;
    for (name, args) in [
        (
            "trivy",
            &["rootfs", "--scanners", "vuln,secret", "--skip-db-update", "--offline-scan"][..],
        ),
        ("syft", &["scan", "--output", "json"]),
    ] {
        if Command::new(name).arg("--version").output().is_err() {
            writeln!(out, "  {name:<18} is not on this machine")?;
            continue;
        }
        line(
            name,
            rounds(&|| {
                let mut other = Command::new(name);
                other.args(args).arg(root);
                other
            })?,
        )?;
    }
    Ok(())
}

/// A large image, and one that shares a layer with it.
pub(crate) fn measure_large() -> Result<()> {
    let mut out = std::io::stdout();
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let layout = |name: &str| folder.path().join(name);
    let first =
        [layer(folder.path(), 1, 250_000, 5_500)?, layer(folder.path(), 2, 250_000, 5_500)?];
    write_layout(&layout("first"), &first)?;
    let upper = layer(folder.path(), 3, 1_000, 1_000)?;
    write_layout(&layout("second"), &[first[0].clone(), upper])?;
    for name in ["first", "second"] {
        let root = folder.path().join("installation");
        fs::create_dir_all(&root)?;
        let mut scan = portcullis(&["--output", "json", "scan", "--no-clamd"], &layout(name));
        let took = took(scan.arg("--root").arg(&root))?;
        let rows: Value = serde_json::from_slice(&took.output)?;
        writeln!(
            out,
            "{name}: {} MB; {:.1} s; {} layers read, {} known; the command {} MB, the scanner {} MB",
            bytes(&layout(name))? >> 20,
            took.time.as_secs_f64(),
            rows[0]["layersRead"],
            rows[0]["layersKnown"],
            took.command >> 10,
            took.started >> 10,
        )?;
        ensure!(took.command.max(took.started) < 512 << 10, "more than 512 MB");
        let wanted = if name == "first" { [2, 0] } else { [1, 1] };
        ensure!(
            [&rows[0]["layersRead"], &rows[0]["layersKnown"]] == wanted.map(Value::from).each_ref()
        );
    }
    Ok(())
}

fn portcullis(args: &[&str], target: &Path) -> Command {
    let mut command = Command::new(own_binaries().join("portcullis"));
    command.args(args).arg(target);
    command
}

/// Runs a command to its end, and looks at the memory of it and of what it starts.
fn took(command: &mut Command) -> Result<Took> {
    let program = command.get_program().to_string_lossy().into_owned();
    let begun = Instant::now();
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context(program)?;
    let mut stdout = child.stdout.take().context("its output")?;
    let reader = std::thread::spawn(move || {
        let mut output = Vec::new();
        std::io::Read::read_to_end(&mut stdout, &mut output).map(|_| output)
    });
    let (mut own, mut started) = (0, 0);
    let status = loop {
        own = own.max(resident(child.id()));
        started = started.max(children(&child).into_iter().map(resident).max().unwrap_or(0));
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let time = begun.elapsed();
    let output = reader.join().map_err(|_| anyhow::anyhow!("its output was not read"))??;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(Took { time, command: own, started, output })
}

/// The most memory that a process had resident so far, in kB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn children(child: &Child) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn bytes(folder: &Path) -> Result<u64> {
    let output = Command::new("du").args(["--summarize", "--bytes"]).arg(folder).output()?;
    let text = String::from_utf8(output.stdout)?;
    text.split('\t').next().and_then(|n| n.parse().ok()).context("du says no number")
}

/// Bytes that do not compress away and are of no program, always the same for a seed.
fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A Debian with its packages' records and files.
fn packages(root: &Path) -> Result<()> {
    let info = root.join("var/lib/dpkg/info");
    fs::create_dir_all(&info)?;
    fs::create_dir_all(root.join("etc"))?;
    fs::write(root.join("etc/os-release"), "ID=debian\nVERSION_ID=\"12\"\n")?;
    let mut status = BufWriter::new(File::create(root.join("var/lib/dpkg/status"))?);
    for package in 0..PACKAGES {
        let name = format!("package-{package}");
        writeln!(
            status,
            "Package: {name}\nStatus: install ok installed\nPriority: optional\nSection: misc\n\
             Installed-Size: 136\nMaintainer: Somebody <somebody@example.com>\nArchitecture: amd64\n\
             Version: 1.{package}-1\nDescription: one of many\n"
        )?;
        let folder = format!("usr/share/{name}");
        fs::create_dir_all(root.join(&folder))?;
        let mut list = format!("/.\n/usr\n/usr/share\n/{folder}\n");
        for file in 0..FILES {
            let path = format!("{folder}/file-{file}");
            let seed = (package * FILES + file) as u64;
            fs::write(root.join(&path), content(seed, FILE_BYTES))?;
            list.push_str(&format!("/{path}\n"));
        }
        fs::write(info.join(format!("{name}.list")), list)?;
    }
    status.flush()?;
    Ok(())
}

/// Writes what goes through it to a file, and hashes it.
struct Hashed(BufWriter<File>, Sha256);

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// A layer with so many files of this size, as a file beside the layouts; its digest.
fn layer(folder: &Path, seed: u64, files: u64, size: usize) -> Result<String> {
    let path = folder.join(format!("layer-{seed}"));
    let mut tar = tar::Builder::new(Hashed(BufWriter::new(File::create(&path)?), Sha256::new()));
    for file in 0..files {
        let bytes = content(seed << 32 | file, size);
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let name = format!("srv/layer-{seed}/folder-{}/file-{file}", file / 500);
        tar.append_data(&mut header, name, bytes.as_slice())?;
    }
    let Hashed(mut file, hash) = tar.into_inner()?;
    file.flush()?;
    let digest = hex(&hash.finalize());
    fs::rename(path, folder.join(&digest))?;
    Ok(digest)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An OCI layout of these layers, which stay where they are.
fn write_layout(folder: &Path, layers: &[String]) -> Result<()> {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let blob = |json: &Value| -> Result<Value> {
        let bytes = serde_json::to_vec(json)?;
        let digest = hex(&Sha256::digest(&bytes));
        let size = bytes.len();
        fs::write(blobs.join(&digest), bytes)?;
        Ok(json!({ "digest": format!("sha256:{digest}"), "size": size }))
    };
    let mut described = Vec::new();
    for layer in layers {
        let from: PathBuf = folder.with_file_name(layer);
        fs::hard_link(&from, blobs.join(layer))?;
        let kind = "application/vnd.oci.image.layer.v1.tar";
        let size = fs::metadata(&from)?.len();
        described
            .push(json!({ "mediaType": kind, "digest": format!("sha256:{layer}"), "size": size }));
    }
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{layer}")).collect();
    let config = blob(&json!({
        "architecture": architecture(), "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    }))?;
    let manifest = blob(&json!({ "schemaVersion": 2, "config": config, "layers": described }))?;
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(folder.join("index.json"), serde_json::to_vec(&index)?)?;
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(())
}
