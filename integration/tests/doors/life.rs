//! The life of containers, whichever engine starts them, and what stays when a hundred have passed.

use anyhow::{Result, ensure};
use portcullis_integration::endurance;
use portcullis_integration::starter::Start;
use portcullis_integration::suite::Door;

use crate::{Case, Ctx};

/// How many containers CI starts through each door.
const CONTAINERS: usize = 100;

pub(crate) fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn(&Ctx) -> Result<()>| Case {
        name: name.to_owned(),
        run: Box::new(run),
        fits: |_| true,
    };
    vec![
        case("output_and_exit_code_are_passed_on", run_to_the_end),
        case("a_missing_command_is_an_error", missing_command),
        case("a_container_is_started_executed_in_and_removed", whole_life),
        Case {
            fits: |way| way.door != Door::Stock,
            ..case("a_hundred_containers_leave_nothing", hundred)
        },
    ]
}

fn run_to_the_end(ctx: &Ctx) -> Result<()> {
    let script = "echo out; sleep 1; exit 7";
    let told =
        ctx.starter.run(&Start::new(&ctx.images.busybox.name, "run", &["sh", "-c", script]))?;
    ensure!(told.code == 7 && told.text == "out", "{told:?}");
    Ok(())
}

fn missing_command(ctx: &Ctx) -> Result<()> {
    let told = ctx.starter.run(&Start::new(&ctx.images.busybox.name, "missing", &["/no/such"]))?;
    ensure!(told.code != 0 && told.errors.contains("/no/such"), "{told:?}");
    Ok(())
}

fn whole_life(ctx: &Ctx) -> Result<()> {
    endurance::live(ctx.starter, &ctx.images.busybox, "life")
}

fn hundred(ctx: &Ctx) -> Result<()> {
    endurance::many(ctx.starter, &ctx.images.busybox, CONTAINERS)
}
