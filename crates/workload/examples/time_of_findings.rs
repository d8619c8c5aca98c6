//! Prints how long the judgement of one runtime specification takes, since it lies on the way of
//! every start: `cargo run --release --example time_of_findings -- config.json`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to a person")]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

const ROUNDS: u32 = 2000;

fn main() -> ExitCode {
    let mut failed = false;
    for path in std::env::args().skip(1) {
        let judged = std::fs::read(&path).map_err(|e| e.to_string()).and_then(|json| {
            let found = portcullis_workload::findings(&json).map_err(|e| e.to_string())?;
            let start = Instant::now();
            for _ in 0..ROUNDS {
                let _ = black_box(portcullis_workload::findings(black_box(&json)));
            }
            Ok((json.len(), found.len(), start.elapsed() / ROUNDS))
        });
        match judged {
            Ok((bytes, found, each)) => println!("{path}: {bytes} bytes, {found} found, {each:?}"),
            Err(error) => {
                eprintln!("{path}: {error}");
                failed = true;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
