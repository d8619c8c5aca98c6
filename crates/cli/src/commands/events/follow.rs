//! `portcullis events follow`.

use std::time::Duration;

use anyhow::Result;

use super::{action, fits, in_container, warn_damaged, what};
use crate::args::Filter;
use crate::context::Context;
use crate::exit::Exit;
use crate::render;

/// How often a follower looks.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn run(context: &Context, filter: &Filter) -> Result<Exit> {
    let ledger = context.events();
    let mut followed = ledger.follow()?;
    loop {
        let read = ledger.since(&mut followed)?;
        for event in read.events.iter().filter(|e| fits(filter, e) && in_container(filter, e)) {
            context.print.line(event, |out| {
                let time = event.time.strftime("%F %T");
                let action = render::action(action(event), 8);
                writeln!(out, "{time}  {action} {}  {}", event.id, what(event))
            })?;
        }
        warn_damaged(read.damaged);
        std::thread::sleep(LOOK);
    }
}
