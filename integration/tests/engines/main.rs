//! The cases, for every engine and every door: `<engine>::<door>::<case>`.
//!
//! A case is a function and a line in the table of its file. Each is run with an engine that other
//! cases share, so it must leave nothing behind; whatever it leaves fails it.

mod checkpoints;
mod doctor;
mod faults;
mod gate;
mod hooks;
mod io;
mod limits;
mod node;
mod pods;
mod scan;
mod tasks;

use std::process::ExitCode;

use portcullis_integration::suite;

fn main() -> ExitCode {
    let tables = [
        node::CASES,
        tasks::CASES,
        io::CASES,
        limits::CASES,
        checkpoints::CASES,
        hooks::CASES,
        faults::CASES,
        pods::CASES,
        gate::CASES,
        doctor::CASES,
        scan::CASES,
    ];
    suite::main(&tables.concat())
}
