//! `portcullis-scanner`: the process that reads images. It is started by `portcullis` and
//! `portcullisd`, which give it a job on a socket; it is of no use to anybody else.

use std::process::ExitCode;

use portcullis_scanner::{Link, serve};

#[expect(clippy::print_stderr, reason = "there is nobody else to tell")]
fn main() -> ExitCode {
    let has_arguments = std::env::args_os().len() > 1;
    if has_arguments || rustix::termios::isatty(rustix::stdio::stdin()) {
        eprintln!("portcullis-scanner is started by portcullis: use portcullis scan --help");
        return ExitCode::from(2);
    }
    match serve(Link::of_this_process()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("portcullis-scanner: {error}");
            ExitCode::FAILURE
        }
    }
}
