//! An image is scanned where Podman or Docker keeps it, and its next start knows.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::engine::own_binaries;
use portcullis_integration::evidence::{EICAR, install_rules};
use portcullis_integration::image::{Entry, ImageBuilder, busybox_layer};
use portcullis_integration::rules::Rules;
use portcullis_integration::starter::Start;
use portcullis_integration::suite::Door;
use serde_json::Value;

use crate::{Case, Ctx};

pub(crate) fn cases() -> Vec<Case> {
    vec![Case {
        name: "a_scan_is_known_to_the_next_start".to_owned(),
        run: Box::new(scanned),
        // containerd's are in the tests of its engines; a user without root writes no verdicts.
        fits: |way| {
            let is_one = way.engine() == "podman-4.3-runc" || way.engine().starts_with("docker");
            way.door == Door::Wrapper && is_one
        },
    }]
}

const BAD: &str = "docker.io/portcullis-test/bad:1";

fn scanned(ctx: &Ctx) -> Result<()> {
    let starter = ctx.starter;
    let policy = "unscanned: { action: allow }\nrules: [{ class: malware, action: block }]";
    let _rules = Rules::new(starter.node(), starter.settings(), policy)?;
    // As install.sh writes them: the door's settings, which name the storage, are the node's.
    let settings = starter.node().etc_portcullis().join("portcullis.toml");
    fs::write(&settings, starter.settings().tables())?;
    let malware = install_rules(&starter.node().etc_portcullis())?;
    let file = |path: &str, text: String| Entry::File(path.into(), 0o644, text.into());
    let image = ImageBuilder::new(BAD)
        .layer(busybox_layer()?)
        .layer([file("srv/gone", EICAR.concat()), file("srv/bad", EICAR.concat())])
        .layer([file("srv/.wh.gone", String::new())])
        .build(ctx.images.folder())?;
    starter.import(&image)?;
    ensure!(starter.run(&Start::new(BAD, "before", &["true"]))?.code == 0, "before the scan");

    let scan = |name: &str| -> Result<Value> {
        let run = starter.node().run(own_binaries().join("portcullis"));
        let run = run.args(["--output", "json", "scan", "--no-clamd", name]);
        let rows: Value = serde_json::from_str(&run.ok()?.text())?;
        Ok(rows[0].clone())
    };
    for (name, layers_read) in [(BAD, 3), (image.config_digest.as_str(), 0)] {
        let row = scan(name)?;
        ensure!(row["image"] == image.config_digest.as_str(), "{row:#}");
        ensure!(row["layersRead"] == layers_read, "{row:#}");
        let found = row["findings"].as_array().context("findings")?.iter();
        let paths: Vec<_> = found.filter(|f| f["class"] == "malware").map(|f| &f["path"]).collect();
        ensure!(paths == ["srv/bad"], "what an upper layer takes away is not there: {row:#}");
    }
    let told = starter.run(&Start::new(BAD, "after", &["true"]))?;
    ensure!(told.code != 0 && told.errors.contains("Eicar_Test_File srv/bad"), "{told:?}");

    starter.forget(BAD)?;
    starter.tidy()?;
    fs::remove_dir_all(&malware)?;
    fs::remove_file(&settings)?;
    Ok(())
}
