//! containerd's namespace, from where it has put the bundle and the runtime's state.

use std::path::Path;

use crate::OciStart;

/// The folder of the runtime plug-in that manages bundles; the same from 1.6 to 2.4.
const TASKS: &str = "io.containerd.runtime.v2.task";
/// Longest identifier (`pkg/identifiers`).
const MAX_IDENTIFIER: usize = 76;

/// Why containerd's namespace is not known.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum NamespaceError {
    /// Neither path has the form that containerd's have.
    #[error(
        "neither the bundle's path nor the runtime's state folder names a containerd namespace"
    )]
    Untold,
    /// The two paths name different ones.
    #[error("the bundle is of containerd's namespace {0:?}, the runtime's state of {1:?}")]
    Differ(String, String),
    /// The bundle is another container's.
    #[error("the bundle's path names the container {0:?}")]
    OtherContainer(String),
}

/// The namespace of containerd's that the paths of a start name: the bundle is at
/// `<state>/io.containerd.runtime.v2.task/<namespace>/<id>`, the runtime's state in a folder named
/// after the namespace.
pub(super) fn namespace<'a>(start: &OciStart<'a>) -> Result<&'a str, NamespaceError> {
    let of_state = start.state.map(|state| last(state).unwrap_or_default());
    let of_bundle = of_bundle(start.bundle, start.container_id)?;
    match (of_bundle, of_state) {
        (Some(bundle), Some(state)) if bundle != state => {
            Err(NamespaceError::Differ(bundle.to_owned(), state.to_owned()))
        }
        (Some(namespace), _) | (None, Some(namespace)) if is_identifier(namespace) => Ok(namespace),
        _ => Err(NamespaceError::Untold),
    }
}

fn of_bundle<'a>(bundle: &'a Path, id: &str) -> Result<Option<&'a str>, NamespaceError> {
    let parents = (bundle.parent(), bundle.parent().and_then(Path::parent));
    let (Some(namespace), Some(tasks)) = parents else {
        return Ok(None);
    };
    if last(tasks) != Some(TASKS) {
        return Ok(None);
    }
    match last(bundle) {
        Some(name) if name == id => Ok(last(namespace)),
        name => Err(NamespaceError::OtherContainer(name.unwrap_or_default().to_owned())),
    }
}

fn last(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// Letters and digits, with single `.`, `_` and `-` between them.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.len() <= MAX_IDENTIFIER
        && text
            .split(['.', '_', '-'])
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[track_caller]
    fn check(bundle: &str, state: Option<&str>, wanted: Result<&str, &str>) {
        let start = OciStart {
            container_id: "c1",
            bundle: Path::new(bundle),
            root: Path::new("/unused"),
            state: state.map(Path::new),
            deadline: Instant::now(),
        };
        let found = namespace(&start).map_err(|error| error.to_string());
        match (&found, wanted) {
            (Ok(found), Ok(wanted)) => assert_eq!(*found, wanted, "{bundle}"),
            (Err(found), Err(part)) => assert!(found.contains(part), "{bundle}: {found}"),
            _ => panic!("{bundle} with {state:?}: {found:?}"),
        }
    }

    #[test]
    fn the_paths_name_the_namespace() {
        let bundle = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/c1";
        let in_docker = "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/c1";
        let other = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/c2";
        let odd = "/run/containerd/io.containerd.runtime.v2.task/k8s..io/c1";
        for (bundle, state, wanted) in [
            (bundle, Some("/run/containerd/runc/k8s.io"), Ok("k8s.io")),
            (bundle, None, Ok("k8s.io")),
            (in_docker, Some("/var/run/docker/runtime-runc/moby"), Ok("moby")),
            (bundle, Some("/run/containerd/runc/default"), Err("\"default\"")),
            (bundle, Some("/"), Err("\"k8s.io\"")),
            (other, Some("/run/containerd/runc/k8s.io"), Err("\"c2\"")),
            (odd, None, Err("neither")),
            ("/srv/bundle/c1", Some("/run/containerd/runc/k8s.io"), Ok("k8s.io")),
            ("/srv/bundle/c1", Some("/run/x y"), Err("neither")),
            ("/srv/bundle/c1", None, Err("neither")),
            ("/c1", None, Err("neither")),
            ("/", None, Err("neither")),
        ] {
            check(bundle, state, wanted);
        }
    }

    #[test]
    fn identifiers_are_containerds() {
        for good in ["moby", "k8s.io", "a-b_c.d", "0", &"a".repeat(76)] {
            assert!(is_identifier(good), "{good}");
        }
        for wrong in ["", ".", "..", "a/b", "-a", "a-", "a--b", "a b", "\u{e4}", &"a".repeat(77)] {
            assert!(!is_identifier(wrong), "{wrong}");
        }
    }
}
