//! Exit codes, the same for every command; listed in the help.

use std::process::ExitCode;

use portcullis_types::Action;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// Something failed; the reason is on stderr.
    Failed,
    /// The command line is wrong.
    Usage,
    /// `decide --exit-code`: the decision is to alarm.
    Alarm,
    /// `decide --exit-code`: the decision is to block.
    Block,
    /// `doctor`: a way past the gate, or an error.
    Unhealthy,
    /// `scan --fail-on`: something as bad was found.
    Found,
}

/// For the help.
pub(crate) const HELP: &str = "\
Examples:
  portcullis status
  portcullis import web.json
  portcullis policy apply
  portcullis events list --status open
  portcullis help events list

Exit codes:
  0  done (decide --exit-code: allow)
  1  failed, or what was checked has faults; the reason is printed
  2  the command line is wrong
  3  decide --exit-code: alarm
  4  decide --exit-code: block; simulate --exit-code: a start would newly be blocked;
     preflight: a running container could not be started again
  5  doctor: a container can start past the gate, or something is wrong
  6  scan --fail-on: a finding is as bad as that, or worse";

impl Exit {
    /// The code of a decision.
    pub(crate) fn of_action(action: Action) -> Self {
        match action {
            Action::Allow => Self::Done,
            Action::Alarm => Self::Alarm,
            Action::Block => Self::Block,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Alarm => 3,
            Exit::Block => 4,
            Exit::Unhealthy => 5,
            Exit::Found => 6,
        })
    }
}
