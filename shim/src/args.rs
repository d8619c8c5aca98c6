//! The shim's command line, in the form of Go's `flag` package (containerd, `pkg/shim`).

use std::path::PathBuf;

/// What containerd says on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    /// Verb: `start`, `delete`, or empty.
    pub action: String,
    /// Container id.
    pub id: String,
    /// containerd namespace.
    pub namespace: String,
    /// containerd's gRPC socket.
    pub address: String,
    /// Bundle, for `delete`.
    pub bundle: PathBuf,
    /// Debug messages in the log.
    pub debug: bool,
    /// Print the version.
    pub version: bool,
    /// Print what this runtime is and can do.
    pub info: bool,
    /// Print the help.
    pub help: bool,
}

/// Why a command line is wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// A flag that no containerd sends.
    #[error("flag {0} is unknown: see -help")]
    Unknown(String),
    /// A flag without its value.
    #[error("flag {0} needs a value")]
    NoValue(String),
    /// A value that cannot be one.
    #[error("flag {0} has a value that is not valid: \"{1}\"")]
    Value(String, String),
    /// A flag that this verb needs.
    #[error("{0} needs {1}: this program is started by containerd; see -help")]
    Missing(String, &'static str),
}

impl Args {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    /// [`ArgsError`] for flags that are not known or incomplete.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, ArgsError> {
        let mut parsed = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let flag = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
            let Some(flag) = flag.filter(|f| !f.is_empty()) else {
                // As with Go's flags, the first plain word ends them.
                parsed.action = arg;
                break;
            };
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let switch = match name {
                "debug" => Some(&mut parsed.debug),
                "v" | "version" => Some(&mut parsed.version),
                "info" => Some(&mut parsed.info),
                "h" | "help" => Some(&mut parsed.help),
                _ => None,
            };
            if let Some(switch) = switch {
                *switch = !matches!(inline.as_deref(), Some("false" | "0"));
                continue;
            }
            let known = matches!(
                name,
                "id" | "namespace" | "address" | "bundle" | "publish-binary" | "socket"
            );
            if !known {
                return Err(ArgsError::Unknown(arg));
            }
            let value =
                inline.or_else(|| args.next()).ok_or_else(|| ArgsError::NoValue(arg.clone()))?;
            match name {
                "id" => parsed.id = plain_name("-id", value)?,
                "namespace" => parsed.namespace = plain_name("-namespace", value)?,
                "address" => parsed.address = value,
                "bundle" => parsed.bundle = value.into(),
                // The publish binary and the socket's path are of older bootstraps.
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// Checks that what `action` needs is there.
    ///
    /// # Errors
    /// [`ArgsError::Missing`] names the flag.
    pub fn require_identity(&self) -> Result<(), ArgsError> {
        let missing = |flag| ArgsError::Missing(self.action.clone(), flag);
        if self.namespace.is_empty() {
            return Err(missing("-namespace"));
        }
        if self.id.is_empty() {
            return Err(missing("-id"));
        }
        Ok(())
    }
}

/// Ids and namespaces become parts of paths (containerd, `pkg/identifiers`).
fn plain_name(flag: &str, value: String) -> Result<String, ArgsError> {
    let plain = !value.is_empty()
        && value.len() <= 1024
        && !value.starts_with('.')
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if plain { Ok(value) } else { Err(ArgsError::Value(flag.to_owned(), value)) }
}

/// Whether a text may be a container's or a process' id.
pub(crate) fn is_id(text: &str) -> bool {
    plain_name("", text.to_owned()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, ArgsError> {
        Args::parse(line.split_whitespace().map(ToOwned::to_owned))
    }

    #[test]
    fn containerds_own_lines_are_read() {
        let start = parse(
            "-namespace k8s.io -address /run/containerd/containerd.sock \
             -publish-binary /usr/bin/containerd -id abc -debug start",
        )
        .unwrap();
        assert_eq!((start.namespace.as_str(), start.id.as_str()), ("k8s.io", "abc"));
        assert_eq!(start.action, "start");
        assert!(start.debug);
        let delete = parse("--namespace=a --id=b --bundle=/x/b delete").unwrap();
        assert_eq!(delete.bundle, PathBuf::from("/x/b"));
        assert!(parse("-info").unwrap().info);
        assert!(!parse("-debug=false start").unwrap().debug);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(parse("-frobnicate start"), Err(ArgsError::Unknown("-frobnicate".into())));
        assert_eq!(parse("-id"), Err(ArgsError::NoValue("-id".into())));
        assert!(matches!(parse("-id ../../etc start"), Err(ArgsError::Value(..))));
        let missing = parse("-namespace a start").unwrap().require_identity().unwrap_err();
        assert!(missing.to_string().contains("-id"));
    }
}
