//! Containers whose users are others outside: the engine gives them layers and bundles of other
//! owners, and they are known all the same.

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::evidence::{CRITICAL, MEDIUM};
use portcullis_integration::rules::{BLOCK_CRITICAL, Rules};
use portcullis_integration::starter::Start;
use portcullis_integration::suite::Door;

use crate::{Case, Ctx};

/// Root in the container is 200000 outside.
const MAPPED: &[&str] = &["--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536"];

pub(crate) fn cases() -> Vec<Case> {
    vec![Case {
        name: "users_that_are_others_outside_change_no_decision".to_owned(),
        run: Box::new(mapped),
        // containerd's pods are in the tests of its engines; Docker maps all its containers or none.
        fits: |way| {
            way.door == Door::Wrapper && way.engine().starts_with("podman") && !way.is_advisory()
        },
    }]
}

fn mapped(ctx: &Ctx) -> Result<()> {
    let image = &ctx.images.busybox;
    let rules = Rules::new(ctx.starter.node(), ctx.starter.settings(), BLOCK_CRITICAL)?;
    rules.knows(image, &[MEDIUM])?;
    let script = "cat /proc/self/uid_map; exit 7";
    let command = ["sh", "-c", script];
    let start = Start { options: MAPPED, ..Start::new(&image.name, "mapped", &command) };
    let told = ctx.starter.run(&start)?;
    ensure!(told.code == 7 && told.text.contains("200000"), "{told:?}");
    let allowed = rules.events(false)?.pop().context("no decision")?;
    ensure!(allowed["action"] == "allow", "{allowed:#}");
    ensure!(allowed["image"]["surety"] == "bound", "{allowed:#}");
    ensure!(allowed["image"]["config"] == *image.config_digest, "{allowed:#}");

    rules.knows(image, &[CRITICAL])?;
    let told = ctx.starter.run(&start)?;
    ensure!(told.code != 7 && told.errors.contains("CVE-2024-3094"), "{told:?}");
    let blocked = rules.events(false)?.pop().context("no decision")?;
    ensure!(blocked["action"] == "block", "{blocked:#}");
    ensure!(blocked["image"] == allowed["image"], "{blocked:#}");
    Ok(())
}
