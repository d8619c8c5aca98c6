//! Whether the mounts that a container gets are the ones its snapshot has.
//!
//! A chain ID says which layers lie below a snapshot; only this comparison ties the snapshot to
//! the root filesystem that the runtime will mount, or that the engine has mounted for it.

mod live;

use std::path::Path;

use crate::RootfsMount;
use crate::containerd::api::{ActiveMount, Mount};
use crate::mounted::Mounted;

/// What a container is given for a root filesystem.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Given<'a> {
    /// These mounts, which the runtime has yet to make.
    Requested(&'a [RootfsMount]),
    /// This mount at this place, which the engine has made and the kernel tells of.
    Mounted(&'a Path, &'a Mounted),
    /// Nothing that could be compared, for the reason given.
    Nothing(&'a str),
}

/// What a comparison of two root filesystems shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compared {
    /// They are the same.
    Same,
    /// They are not.
    Other,
    /// The kernel does not tell enough of what is mounted.
    Untold,
}

/// Whether what is given is what the engine's snapshot `recorded`.
pub(crate) fn compare(recorded: &[Mount], given: Given<'_>) -> Compared {
    match (recorded, given) {
        (_, Given::Requested(mounts)) if same(recorded, mounts) => Compared::Same,
        // A mount below the root cannot be compared, and no snapshotter makes one; of several at
        // the root only the last is seen.
        ([recorded], Given::Mounted(at, mounted)) if is_at_root(recorded) => {
            live::compare(recorded, at, mounted)
        }
        _ => Compared::Other,
    }
}

/// Whether what is given is what is left of `recorded` once the engine's mount manager (containerd
/// 2.2 and later) has mounted the rest at `active`.
///
/// The manager mounts the first ones itself, as it must for erofs layers or file system images,
/// and fills their mount points into the first that is left. It records mount points and types,
/// not sources: that it mounted what it was told is taken from the engine.
pub(crate) fn compare_once_activated(
    recorded: &[Mount],
    active: &[ActiveMount],
    given: Given<'_>,
) -> Compared {
    once_activated(recorded, active).map_or(Compared::Other, |left| compare(&left, given))
}

fn is_at_root(mount: &Mount) -> bool {
    matches!(mount.target.as_str(), "" | "/")
}

/// Whether `given` mounts what the engine's snapshot `recorded`.
///
/// Both lists come from the same engine, but through a client: the order of options may differ,
/// lower directories may be written one by one, and a client adds the SELinux context.
fn same(recorded: &[Mount], given: &[RootfsMount]) -> bool {
    recorded.len() == given.len()
        && recorded.iter().zip(given).all(|(recorded, given)| {
            is_at_root(recorded)
                && Normal::of(&recorded.kind, &recorded.source, &recorded.options)
                    == Normal::of(&given.kind, &given.source, &given.options)
        })
}

/// The mounts that the mount manager leaves to the runtime.
fn once_activated(recorded: &[Mount], active: &[ActiveMount]) -> Option<Vec<Mount>> {
    let (mounted, left) = recorded.split_at_checked(active.len())?;
    let types_agree = mounted.iter().zip(active).all(|(recorded, active)| {
        active.mount.as_ref().is_some_and(|m| bare(&m.kind) == bare(&recorded.kind))
    });
    let (first, rest) = left.split_first()?;
    let first = filled_in(first, active)?;
    types_agree.then(|| std::iter::once(first).chain(rest.iter().cloned()).collect())
}

/// Whether the mount manager has to do with these mounts at all.
pub(crate) fn needs_activation(recorded: &[Mount]) -> bool {
    recorded.len() > 1 || recorded.iter().any(|mount| mount.kind.contains('/'))
}

/// A mount with what does not matter taken out.
#[derive(PartialEq, Eq)]
struct Normal<'a> {
    kind: &'a str,
    source: &'a str,
    /// The only option whose order counts: upper layers hide lower ones.
    lower: String,
    options: Vec<&'a str>,
}

impl<'a> Normal<'a> {
    fn of(kind: &'a str, source: &'a str, all: &'a [String]) -> Self {
        let mut lower = Vec::new();
        let mut options = Vec::new();
        for option in all {
            if let Some(dirs) =
                option.strip_prefix("lowerdir+=").or_else(|| option.strip_prefix("lowerdir="))
            {
                lower.push(dirs);
            } else if !option.starts_with("context=") {
                options.push(option.as_str());
            }
        }
        options.sort_unstable();
        Self {
            kind,
            // An overlay's source is a label.
            source: if kind == "overlay" { "" } else { source },
            lower: lower.join(":"),
            options,
        }
    }
}

/// The type behind the names of transformations, `overlay` in `format/mkdir/overlay`.
fn bare(kind: &str) -> &str {
    kind.rsplit('/').next().unwrap_or(kind)
}

/// The mount with `{{ mount N }}` and `{{ overlay A B }}` replaced by mount points and the
/// manager's own options dropped; `None` for any other template.
fn filled_in(mount: &Mount, active: &[ActiveMount]) -> Option<Mount> {
    let fill = |text: &String| expand(text, active);
    Some(Mount {
        kind: bare(&mount.kind).to_owned(),
        source: fill(&mount.source)?,
        target: fill(&mount.target)?,
        options: mount
            .options
            .iter()
            .filter(|option| !option.starts_with("X-containerd."))
            .map(fill)
            .collect::<Option<_>>()?,
    })
}

fn expand(text: &str, active: &[ActiveMount]) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, template)) = rest.split_once("{{") {
        let (template, after) = template.split_once("}}")?;
        let words: Vec<&str> = template.split_whitespace().collect();
        let point = |at: usize| active.get(at).map(|mount| mount.mount_point.as_str());
        let filled = match words.as_slice() {
            ["mount", at] => point(at.parse().ok()?)?.to_owned(),
            ["overlay", from, to] => {
                let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
                // Beyond the list nothing is found, so a huge range ends at its first step.
                let points: Option<Vec<&str>> = if from <= to {
                    (from..=to).map(point).collect()
                } else {
                    (to..=from).rev().map(point).collect()
                };
                points?.join(":")
            }
            _ => return None,
        };
        out.push_str(before);
        out.push_str(&filled);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(kind: &str, source: &str, options: &[&str]) -> Mount {
        Mount {
            kind: kind.into(),
            source: source.into(),
            target: String::new(),
            options: options.iter().map(|&o| o.into()).collect(),
        }
    }

    fn given(kind: &str, source: &str, options: &[&str]) -> RootfsMount {
        RootfsMount {
            kind: kind.into(),
            source: source.into(),
            options: options.iter().map(|&o| o.into()).collect(),
        }
    }

    fn active(kind: &str, mount_point: &str) -> ActiveMount {
        ActiveMount { mount: Some(recorded(kind, "", &[])), mount_point: mount_point.into() }
    }

    fn same_once_activated(
        recorded: &[Mount],
        active: &[ActiveMount],
        given: &[RootfsMount],
    ) -> bool {
        compare_once_activated(recorded, active, Given::Requested(given)) == Compared::Same
    }

    #[test]
    fn only_the_order_of_lower_directories_counts() {
        let snapshot = [recorded(
            "overlay",
            "overlay",
            &["index=off", "workdir=/s/3/work", "upperdir=/s/3/fs", "lowerdir=/s/2/fs:/s/1/fs"],
        )];
        for (options, wanted) in [
            (
                &["lowerdir=/s/2/fs:/s/1/fs", "index=off", "upperdir=/s/3/fs", "workdir=/s/3/work"]
                    [..],
                true,
            ),
            (
                &[
                    "lowerdir+=/s/2/fs",
                    "lowerdir+=/s/1/fs",
                    "index=off",
                    "workdir=/s/3/work",
                    "upperdir=/s/3/fs",
                    "context=\"x\"",
                ],
                true,
            ),
            (
                &["index=off", "workdir=/s/3/work", "upperdir=/s/3/fs", "lowerdir=/s/1/fs:/s/2/fs"],
                false,
            ),
            (
                &[
                    "index=off",
                    "workdir=/s/3/work",
                    "upperdir=/s/3/fs",
                    "lowerdir=/evil:/s/2/fs:/s/1/fs",
                ],
                false,
            ),
            (
                &["index=off", "workdir=/s/3/work", "upperdir=/s/4/fs", "lowerdir=/s/2/fs:/s/1/fs"],
                false,
            ),
            (&["index=off", "lowerdir=/s/2/fs:/s/1/fs"], false),
        ] {
            assert_eq!(
                same(&snapshot, &[given("overlay", "overlay", options)]),
                wanted,
                "{options:?}"
            );
        }
    }

    #[test]
    fn a_bind_mount_is_its_source() {
        let snapshot = [recorded("bind", "/s/1/fs", &["rw", "rbind"])];
        assert!(same(&snapshot, &[given("bind", "/s/1/fs", &["rbind", "rw"])]));
        assert!(!same(&snapshot, &[given("bind", "/s/2/fs", &["rbind", "rw"])]));
        assert!(!same(&snapshot, &[given("bind", "/s/1/fs", &["rbind", "ro"])]));
        assert!(!same(&snapshot, &[given("overlay", "/s/1/fs", &["rbind", "rw"])]));
    }

    #[test]
    fn a_mount_more_or_less_is_another_root() {
        let snapshot = [recorded("bind", "/s/1/fs", &["rw"])];
        let mount = given("bind", "/s/1/fs", &["rw"]);
        assert!(!same(&snapshot, &[]));
        assert!(!same(&snapshot, &[mount.clone(), mount.clone()]));
        let below = Mount { target: "/usr".into(), ..snapshot[0].clone() };
        assert!(!same(&[below], &[mount]));
    }

    /// As containerd's erofs snapshotter records it and its mount manager hands it on.
    #[test]
    fn erofs_layers_behind_the_mount_manager() {
        let snapshot = [
            recorded("erofs", "/s/2/layer.erofs", &["ro", "loop"]),
            recorded("erofs", "/s/1/layer.erofs", &["ro", "loop"]),
            recorded(
                "format/mkdir/overlay",
                "overlay",
                &[
                    "X-containerd.mkdir.path=/s/3/upper:0755",
                    "workdir=/s/3/work",
                    "upperdir=/s/3/upper",
                    "lowerdir={{ overlay 0 1 }}",
                ],
            ),
        ];
        assert!(needs_activation(&snapshot));
        let points = [active("erofs", "/t/7/2"), active("erofs", "/t/7/1")];
        let handed = |lower: &str| {
            [given("overlay", "overlay", &["workdir=/s/3/work", "upperdir=/s/3/upper", lower])]
        };
        let right = handed("lowerdir=/t/7/2:/t/7/1");
        assert!(same_once_activated(&snapshot, &points, &right));
        assert!(!same_once_activated(&snapshot, &points, &handed("lowerdir=/t/7/1:/t/7/2")));
        assert!(!same_once_activated(&snapshot, &points, &handed("lowerdir=/t/8/2:/t/7/1")));
        assert!(!same_once_activated(&snapshot, &points[..1], &right));
        let other = [active("ext4", "/t/7/2"), active("erofs", "/t/7/1")];
        assert!(!same_once_activated(&snapshot, &other, &right));
    }

    #[test]
    fn templates_that_are_not_known_are_not_guessed() {
        let points = [active("erofs", "/t/1"), active("erofs", "/t/2")];
        assert_eq!(expand("{{ mount 1 }}/upper", &points).as_deref(), Some("/t/2/upper"));
        assert_eq!(expand("{{overlay 1 0}}", &points).as_deref(), Some("/t/2:/t/1"));
        for wrong in [
            "{{ mount 2 }}",
            "{{ source 0 }}",
            "{{ mount",
            "{{ overlay 0 18446744073709551615 }}",
            "{{ mount -1 }}",
        ] {
            assert_eq!(expand(wrong, &points), None, "{wrong}");
        }
    }
}
