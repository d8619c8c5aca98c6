//! What must be the same through every door on every engine: `<engine>::<door>::<case>`.
//!
//! The stock door of each engine comes first: there the cases show that the engine is driven rightly,
//! and what fails there is the tests' fault.

mod agent;
mod follow;
mod life;
mod preflight;
mod refusal;
mod scan;
mod share;
mod table;
mod users;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};
use portcullis_integration::again::SecondTries;
use portcullis_integration::stage::{Stage, Way};
use portcullis_integration::starter::Starter;
use portcullis_integration::suite::{Images, failed};

/// What a case works with.
struct Ctx<'a> {
    way: &'a Way,
    starter: &'a dyn Starter,
    images: &'a Images,
}

/// What a case does.
type Act = dyn Fn(&Ctx) -> Result<()> + Send + Sync;

/// One case: its name, and what it does, which leaves nothing behind.
struct Case {
    name: String,
    run: Box<Act>,
    fits: fn(&Way) -> bool,
}

#[expect(clippy::print_stdout, reason = "the main of a test talks to whoever runs it")]
fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The trials of one engine share it, so more threads would only wait for each other.
    arguments.test_threads = Some(1);
    let stage = Arc::new(Stage::default());
    let tries = Arc::new(SecondTries::default());
    let tables = [
        life::cases(),
        refusal::cases(),
        table::cases(),
        preflight::cases(),
        users::cases(),
        scan::cases(),
        agent::cases(),
        follow::cases(),
        share::cases(),
    ];
    let cases: Vec<_> = tables.into_iter().flatten().map(Arc::new).collect();
    let mut trials = Vec::new();
    let mut told = None;
    for way in Way::all() {
        if !arguments.list && told.as_deref() != Some(way.engine()) {
            println!("{}: {}", way.engine(), way.version());
            told = Some(way.engine().to_owned());
        }
        for case in cases.iter().filter(|case| (case.fits)(&way)) {
            let (way, stage, case) = (way.clone(), Arc::clone(&stage), Arc::clone(case));
            let (tries, name) = (Arc::clone(&tries), format!("{}::{}", way.name(), case.name));
            trials.push(Trial::test(name.clone(), move || {
                let act = |starter: &dyn Starter, images: &Images| {
                    (case.run)(&Ctx { way: &way, starter, images })
                };
                tries.play(&name, || stage.play(&way, act)).map_err(failed)
            }));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Ends the last engine, which the exit below would leave to the kernel.
    drop(stage);
    match arguments.list {
        true => conclusion.exit_code(),
        false => tries.conclude(&conclusion),
    }
}
