//! Images are scanned where each containerd keeps them, and the next start knows.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::evidence::{EICAR, install_rules};
use portcullis_integration::image::{BuiltImage, Entry, ImageBuilder, busybox_layer};
use portcullis_integration::suite::{Case, Ctx, Door};
use serde_json::Value;

use crate::gate::with_policy;

pub(crate) const CASES: &[Case] =
    &[Case::new("a_scan_is_known_to_the_next_start", scanned).only(&[Door::Portcullis])];

fn scanned(ctx: &Ctx) -> Result<()> {
    let file = |path: &str, text: &str| Entry::File(path.into(), 0o644, text.into());
    let status = "Package: bash\nStatus: install ok installed\nVersion: 5.2.15-2+b2\n";
    let image = ImageBuilder::new("docker.io/portcullis-test/scanned:1")
        .layer(busybox_layer()?)
        .layer([file("etc/os-release", "ID=debian\nVERSION_ID=12\n")])
        .layer([file("var/lib/dpkg/status", status), file("srv/bad", &EICAR.concat())])
        .indexed();
    let image = ctx.import(image)?;
    let _node = with_policy(
        ctx,
        "unscanned: { action: allow }\nrules: [{ class: malware, action: block }]",
    )?;
    let start = |id: &str| {
        let output = ctx.run_image(&image.name, &["--rm"], id, &["true"]).output()?;
        let _removed_by_rm_in_some_versions = ctx.ctr(&["containers", "delete", id]).output()?;
        Ok::<_, anyhow::Error>(output)
    };
    let before = start(&format!("{}-1", ctx.id()))?;
    ensure!(before.code() == 0, "{}", before.errors());

    let malware = install_rules(&ctx.node().etc_portcullis())?;
    // By its whole name, by its short one, and by the digest that its record points to.
    let names = [image.name.as_str(), "portcullis-test/scanned:1", image.target_digest()];
    for (name, layers_read) in names.into_iter().zip([3, 0, 0]) {
        let row = told(ctx, name)?;
        ensure!(row["image"] == image.config_digest.as_str(), "{row:#}");
        ensure!(row["layersRead"] == layers_read && row["packages"] == 1, "{row:#}");
        ensure!(row["coverage"]["distribution"] == "debian 12", "{row:#}");
        let found = row["findings"].as_array().context("findings")?;
        ensure!(
            found.iter().any(|f| f["id"] == "Eicar_Test_File" && f["path"] == "srv/bad"),
            "{row:#}"
        );
    }
    let after = start(&format!("{}-2", ctx.id()))?;
    ensure!(after.code() != 0, "it ran");
    let line = "1 critical malicious file (Eicar_Test_File srv/bad)";
    ensure!(after.errors().contains(line), "{}", after.errors());
    known(ctx, &image)?;

    // As CRI's discard_unpacked_layers leaves an image: what is unpacked is read then.
    let manifest = ctx.ctr(&["content", "get", &image.manifest_digest]).ok()?.text();
    let manifest: Value = serde_json::from_str(&manifest)?;
    let blob = manifest["layers"][2]["digest"].as_str().context("a layer")?;
    ctx.ctr(&["content", "rm", blob]).ok()?;
    let rows = scan(ctx, &image.name).arg("--no-store").ok()?.text();
    let rows: Value = serde_json::from_str(&rows)?;
    ensure!(rows[0]["layersRead"] == 3 && rows[0]["packages"] == 1, "{rows:#}");
    ensure!(rows[0]["image"] == image.config_digest.as_str(), "{rows:#}");
    let found = rows[0]["findings"].as_array().context("findings")?;
    ensure!(found.iter().any(|f| f["path"] == "srv/bad"), "{rows:#}");
    let left = ctx.ctr(&["snapshots", "ls"]).ok()?.text();
    ensure!(!left.contains("portcullis"), "a view is left: {left}");

    let missing = scan(ctx, "portcullis-test/none:1").output()?;
    ensure!(
        missing.code() == 1 && missing.errors().contains("containerd has no image"),
        "{}",
        missing.errors()
    );
    fs::remove_dir_all(&malware)?;
    Ok(())
}

fn scan(ctx: &Ctx, name: &str) -> portcullis_integration::run::Run {
    let run = ctx.portcullis(&["--output", "json", "scan", "--no-clamd", "--address"]);
    run.arg(ctx.engine().socket()).arg(name)
}

fn told(ctx: &Ctx, name: &str) -> Result<Value> {
    let rows: Value = serde_json::from_str(&scan(ctx, name).ok()?.text())?;
    Ok(rows[0].clone())
}

/// The verdict names the manifest and the index, so that it is found by each of them.
fn known(ctx: &Ctx, image: &BuiltImage) -> Result<()> {
    let shown =
        ctx.portcullis(&["--output", "json", "verdict", "show", &image.config_digest]).ok()?;
    let verdict: Value = serde_json::from_str(&shown.text())?;
    let manifests = verdict["image"]["manifests"].as_array().context("manifests")?;
    for digest in [&image.manifest_digest, image.index_digest.as_ref().context("an index")?] {
        ensure!(manifests.iter().any(|m| m == digest.as_str()), "{verdict:#}");
    }
    ensure!(verdict["image"]["chainId"] == image.chain_id.as_str(), "{verdict:#}");
    ensure!(verdict["reports"][0]["binding"] == "byScan", "{verdict:#}");
    Ok(())
}
