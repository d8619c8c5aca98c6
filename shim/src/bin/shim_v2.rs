//! `containerd-shim-portcullis-v2`: started by containerd, never by hand.
//!
//! stdout belongs to containerd: the address, the response of `delete`, the runtime's
//! information. Exit codes: 0 done, 1 failed, 2 wrong command line.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use portcullis_shim::{Args, delete, in_one_line, info, start};

const HELP: &str = "\
containerd-shim-portcullis-v2: the containerd runtime shim of Portcullis

containerd starts this program; see `portcullis --help` for the command that people use.

Verbs:
  start     start a shim for a container (reads its bundle in the current folder)
  delete    take away what is left of a container whose shim is gone

Flags:
  -namespace NAME   containerd namespace        -id ID         container
  -address PATH     containerd's gRPC socket    -bundle PATH   bundle, for delete
  -debug            debug messages in the log   -info          print RuntimeInfo (protobuf)
  -version, -v      print the version           -help, -h      print this

Settings: FILE.toml beside this program, else /etc/portcullis/portcullis.toml
Exit codes: 0 done, 1 failed, 2 wrong command line
";

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(error) => return fail(&error, 2),
    };
    let done: Result<(), Box<dyn Error>> = match args.action.as_str() {
        _ if args.help => say(HELP),
        _ if args.version => say(&format!("{}\n", env!("CARGO_PKG_VERSION"))),
        _ if args.info => info(),
        "start" | "delete" => match args.require_identity() {
            Err(error) => return fail(&error, 2),
            Ok(()) if args.action == "start" => start(&args).map_err(Into::into),
            Ok(()) => delete(&args).map_err(Into::into),
        },
        "" => {
            return fail(&Usage("no verb is given: use start or delete; see -help".into()), 2);
        }
        other => {
            return fail(&Usage(format!("the verb \"{other}\" is unknown; see -help")), 2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.as_ref(), 1),
    }
}

#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

fn say(text: &str) -> Result<(), Box<dyn Error>> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn fail(error: &(dyn Error + 'static), code: u8) -> ExitCode {
    let _nobody_reads_it = writeln!(std::io::stderr(), "portcullis: {}", in_one_line(error));
    ExitCode::from(code)
}
