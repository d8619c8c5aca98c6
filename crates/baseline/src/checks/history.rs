//! The steps of an image's history, as Docker, BuildKit, Buildah and kaniko write them
//! (`created_by` of the OCI image-spec's `config.md`).

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// `RUN`.
    Run {
        /// The build arguments that it saw: `NAME=value NAME=value`.
        arguments: &'a str,
        /// What the shell got.
        script: &'a str,
    },
    /// Any other instruction.
    Other {
        /// Its name, in upper case: `ADD`.
        word: &'a str,
        /// What stands behind it.
        rest: &'a str,
    },
}

/// Reads a step:
///
/// - `/bin/sh -c #(nop) ADD file:… in /` and `/bin/sh -c apt-get update` (Docker, Buildah)
/// - `|1 NAME=value /bin/sh -c make` (Docker, with build arguments)
/// - `COPY a b # buildkit` and `RUN |1 NAME=value /bin/sh -c make # buildkit` (BuildKit)
/// - `RUN make` (kaniko, and Dockerfiles as they are)
pub(super) fn step(line: &str) -> Step<'_> {
    let line = line.trim();
    let line = line.strip_suffix("# buildkit").unwrap_or(line).trim_end();
    if let Some((shell, rest)) = line.split_once("#(nop)")
        && shell.trim_end().ends_with("-c")
    {
        return other(rest.trim_start());
    }
    if let Some(rest) = line.strip_prefix("RUN ") {
        return run(rest.trim_start());
    }
    let word = line.split_whitespace().next().unwrap_or_default();
    let is_instruction = matches!(
        word,
        "ADD"
            | "ARG"
            | "CMD"
            | "COPY"
            | "ENTRYPOINT"
            | "ENV"
            | "EXPOSE"
            | "FROM"
            | "HEALTHCHECK"
            | "LABEL"
            | "MAINTAINER"
            | "ONBUILD"
            | "SHELL"
            | "STOPSIGNAL"
            | "USER"
            | "VOLUME"
            | "WORKDIR"
    );
    if is_instruction { other(line) } else { run(line) }
}

fn other(line: &str) -> Step<'_> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    Step::Other { word, rest: rest.trim() }
}

fn run(line: &str) -> Step<'_> {
    let mut rest = line;
    let mut arguments = "";
    if let Some(counted) = line.strip_prefix('|') {
        // `|2 A=b C=d /bin/sh -c …`: a value may hold blanks, so the shell's path ends them.
        let begin = counted.find(' ').unwrap_or(counted.len());
        let end = counted.find(" /").unwrap_or(counted.len());
        arguments = counted.get(begin..end).unwrap_or_default();
        rest = counted.get(end..).unwrap_or_default();
    }
    // Mounts and the like.
    rest = rest.trim_start();
    while rest.starts_with("--") {
        rest = rest.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim_start());
    }
    Step::Run { arguments, script: without_shell(rest) }
}

/// `/bin/bash -o pipefail -c make` is `make`.
fn without_shell(line: &str) -> &str {
    let Some((shell, mut rest)) = line.split_once(char::is_whitespace) else { return line };
    let name = shell.rsplit('/').next().unwrap_or_default();
    if !shell.starts_with('/') || !name.ends_with("sh") {
        return line;
    }
    // Options, of which `-o` has a word of its own.
    for _ in 0..8 {
        let Some((word, behind)) = rest.trim_start().split_once(char::is_whitespace) else { break };
        let is_last = word.starts_with('-') && word.ends_with('c');
        if !word.starts_with(['-', '+']) && word != "pipefail" && word != "errexit" {
            break;
        }
        rest = behind;
        if is_last {
            return rest.trim_start();
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_all_builders() {
        let run = |arguments, script| Step::Run { arguments, script };
        let other = |word, rest| Step::Other { word, rest };
        for (line, wanted) in [
            ("/bin/sh -c #(nop) ADD file:0ab in / ", other("ADD", "file:0ab in /")),
            ("/bin/sh -c #(nop)  CMD [\"bash\"]", other("CMD", "[\"bash\"]")),
            ("/bin/sh -c apt-get update", run("", "apt-get update")),
            ("|1 A=b /bin/sh -c make", run(" A=b", "make")),
            ("RUN |2 A=b C=d e /bin/sh -c make # buildkit", run(" A=b C=d e", "make")),
            ("RUN /bin/bash -o pipefail -c make # buildkit", run("", "make")),
            ("RUN /bin/ash -eo pipefail -c make", run("", "make")),
            ("COPY a b # buildkit", other("COPY", "a b")),
            ("ENV A=b", other("ENV", "A=b")),
            ("RUN --mount=type=cache make", run("", "make")),
            ("make all", run("", "make all")),
            ("", run("", "")),
        ] {
            assert_eq!(step(line), wanted, "{line}");
        }
    }
}
