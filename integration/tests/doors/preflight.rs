//! What `preflight` says of an engine's running containers is what their next start is answered.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::engine::own_binaries;
use portcullis_integration::evidence::{CRITICAL, MEDIUM};
use portcullis_integration::image::{Entry, ImageBuilder, busybox_layer};
use portcullis_integration::rules::{BLOCK_CRITICAL, Rules};
use portcullis_integration::starter::Start;
use portcullis_integration::suite::Door;
use serde_json::Value;

use crate::table::open_store;
use crate::{Case, Ctx};

pub(crate) fn cases() -> Vec<Case> {
    vec![Case {
        name: "what_runs_is_judged_as_its_start_would_be".to_owned(),
        run: Box::new(judged),
        // containerd's are in the tests of its engines.
        fits: |way| way.door == Door::Wrapper && !way.engine().starts_with("containerd"),
    }]
}

const WORSE: &str = "docker.io/portcullis-test/worse:1";
const LASTING: &[&str] = &["sleep", "1000"];

fn judged(ctx: &Ctx) -> Result<()> {
    let starter = ctx.starter;
    let rules = Rules::new(starter.node(), starter.settings(), "unscanned: { action: allow }")?;
    // As install.sh writes them: the door's settings are the node's.
    let settings = starter.node().etc_portcullis().join("portcullis.toml");
    fs::write(settings, starter.settings().tables())?;
    // Where a user without root reaches it.
    let program = starter.node().folder().join("bin/portcullis");
    fs::copy(own_binaries().join("portcullis"), &program)?;
    let flown = || flown(ctx, &program);
    let worse = ImageBuilder::new(WORSE)
        .layer(busybox_layer()?)
        .layer([Entry::File("etc/release".into(), 0o644, b"worse\n".to_vec())])
        .build(ctx.images.folder())?;
    starter.import(&worse)?;
    rules.knows(&ctx.images.busybox, &[MEDIUM])?;
    rules.knows(&worse, &[CRITICAL])?;
    open_store(ctx, &rules)?;
    let starts = [("fine", &*ctx.images.busybox.name), ("worse", WORSE), ("waits", WORSE)];
    for (id, image) in starts {
        starter.create(&Start::new(image, id, LASTING))?;
    }
    for (id, _) in &starts[..2] {
        starter.start(id)?.ok()?;
    }

    let (rows, code) = flown()?;
    ensure!(code == 0, "{rows:#?}");
    rules.apply(BLOCK_CRITICAL)?;
    let (rows, code) = flown()?;
    ensure!(code == 4 && rows.len() == 2, "{rows:#?}");
    for (name, action) in [("busybox", "allow"), ("worse", "block")] {
        let row = rows.iter().find(|(image, _)| image.contains(name)).context(name)?.1;
        ensure!(row["action"] == action, "{rows:#?}");
        let engine = row["engine"].as_str().unwrap_or_default();
        ensure!(ctx.way.engine().starts_with(engine) && !engine.is_empty(), "{rows:#?}");
        let message = row["message"].as_str().unwrap_or_default();
        ensure!((action == "block") == message.contains("CVE-2024-3094"), "{message}");
    }
    let told = starter.start("waits")?;
    ensure!(told.code != 0 && told.errors.contains("CVE-2024-3094"), "{told:?}");

    for (id, _) in starts {
        starter.remove(id)?;
    }
    starter.forget(WORSE)?;
    let (rows, _) = flown()?;
    ensure!(rows.is_empty(), "{rows:#?}");
    fs::remove_file(&program)?;
    Ok(())
}

/// The rows of preflight by their images, and its exit code.
fn flown(ctx: &Ctx, program: &Path) -> Result<(BTreeMap<String, Value>, i32)> {
    let run = ctx.starter.inspector(program).args(["--output", "json", "preflight"]);
    let output = run.output()?;
    let said: Value = serde_json::from_str(&output.text()).with_context(|| output.errors())?;
    let rows = said["containers"].as_array().context("containers")?.iter();
    let image = |row: &Value| row["image"].as_str().unwrap_or_default().to_owned();
    Ok((rows.map(|row| (image(row), row.clone())).collect(), output.code()))
}
