//! Policies that somebody else keeps, a cluster: written beside the files of people, under names of
//! their own, and put into force with them.
//!
//! One of them that has a fault changes nothing of what was in force of it before, and nothing of the
//! others; so a mistake in one object of a cluster stops no change of another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use portcullis_gate::published;
use portcullis_policy::Fault;
use portcullis_policy::yaml::{self, SourceFile};
use portcullis_settings::{Paths, recall, replace};
use portcullis_types::Digest;

use crate::publish::{LockError, PoliciesLock, PublishError, lock, publish};
use crate::sources::{SourceError, node_set, yaml_files};

/// What the names of these files begin with, in the folder of the policies.
const PREFIX: &str = "kubernetes.";
/// Longest name of a policy that becomes a file's.
const MAX_NAME: usize = 200;
/// Where they are looked at before they are put beside the others, in the agent's folder.
const STAGE: &str = "policies";

/// A policy of somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemotePolicy {
    /// Its name.
    pub name: String,
    /// The document, YAML.
    pub text: String,
}

/// Why none of them could be put into force. What was in force stays so, and the files are as they
/// were before, but for those that [`RemoteError::NotPutBack`] names.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// Somebody else is at the policies.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// What stands there already cannot be read.
    #[error(transparent)]
    Sources(#[from] SourceError),
    /// The set cannot be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The files of people have faults.
    #[error("the node's own policy files have faults, mend them first: {0}")]
    Local(String),
    /// A file of the cluster cannot be read, so it could not be put back.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be removed.
    #[error("cannot remove {path}")]
    Remove {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Some files were changed before something else went wrong, and cannot be put back: they say
    /// something else than what is in force. The next time that all goes well mends it.
    #[error("not all policy files are put back ({failed})")]
    NotPutBack {
        /// Which, each with the reason.
        failed: String,
        /// What went wrong first.
        #[source]
        source: Box<RemoteError>,
    },
}

/// What became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteApplied {
    /// Those that have faults, by name.
    pub faults: BTreeMap<String, String>,
}

/// Puts exactly these policies into force beside those in people's files.
///
/// If something goes wrong, files that were changed already are put back. Who is killed on the way
/// leaves files that are not in force yet, which the next call puts into force.
///
/// # Errors
/// [`RemoteError`], which says what is changed then. A fault of one of these policies is no error.
pub fn apply_remote(
    paths: &Paths,
    policies: &[RemotePolicy],
) -> Result<RemoteApplied, RemoteError> {
    let lock = lock(paths)?;
    let folder = paths.policies();
    let (theirs, local): (Vec<PathBuf>, Vec<PathBuf>) =
        yaml_files(&folder)?.into_iter().partition(|file| is_remote_policy(file));
    let stage = Stage::new(paths)?;
    let mut candidates: BTreeMap<PathBuf, Candidate<'_>> = BTreeMap::new();
    for policy in policies {
        let name = file_name(&policy.name);
        let file = stage.write(&name, policy.text.as_bytes())?;
        let before = folder.join(&name);
        let before = theirs.contains(&before).then_some(before);
        candidates.insert(file, Candidate { policy, name, before, state: State::New });
    }
    let mut faults = BTreeMap::new();
    loop {
        let used = candidates.iter().filter_map(|(staged, candidate)| match candidate.state {
            State::New => Some(staged.clone()),
            State::Before => candidate.before.clone(),
            State::Neither => None,
        });
        let files: Vec<PathBuf> = local.iter().cloned().chain(used).collect();
        match node_set(paths, &files)?.compiled {
            Ok(_) => break,
            Err(found) => {
                let mut blamed = false;
                for (staged, candidate) in &mut candidates {
                    let file = match candidate.state {
                        State::New => staged,
                        State::Before => match &candidate.before {
                            Some(before) => before,
                            None => continue,
                        },
                        State::Neither => continue,
                    };
                    let own: Vec<&Fault> =
                        found.iter().filter(|fault| is_about(fault, file, candidate)).collect();
                    let Some(first) = own.first() else { continue };
                    blamed = true;
                    faults
                        .entry(candidate.policy.name.clone())
                        .or_insert_with(|| words(first, own.len(), file, &candidate.name));
                    candidate.state = match (candidate.state, &candidate.before) {
                        (State::New, Some(_)) => State::Before,
                        _ => State::Neither,
                    };
                }
                if !blamed {
                    let first = found.first().map(ToString::to_string).unwrap_or_default();
                    return Err(RemoteError::Local(first));
                }
            }
        }
    }
    // All is well with them together, so each file may be put in its place.
    let mut changes = Changes::default();
    match carry_out(paths, &lock, &candidates, &theirs, &mut changes) {
        Ok(()) => Ok(RemoteApplied { faults }),
        Err(error) => Err(changes.take_back(error)),
    }
}

/// Which of these policies are in force just as they stand here, by name: for when they could not be
/// put into force, and some were before.
pub fn remote_in_force(paths: &Paths, policies: &[RemotePolicy]) -> BTreeSet<String> {
    // Without a set nothing is in force, and what is wrong with it is a problem of the node.
    let Ok(set) = published::load(&paths.published()) else { return BTreeSet::new() };
    let is_in_force = |policy: &&RemotePolicy| {
        let source = SourceFile { name: &policy.name, bytes: policy.text.as_bytes() };
        let read = yaml::read(&[source]).unwrap_or_default();
        !read.is_empty() && read.iter().all(|own| set.policies().any(|other| other == own))
    };
    policies.iter().filter(is_in_force).map(|policy| policy.name.clone()).collect()
}

/// Writes the files, removes those that are not wanted any more, and puts all into force.
fn carry_out(
    paths: &Paths,
    lock: &PoliciesLock,
    candidates: &BTreeMap<PathBuf, Candidate<'_>>,
    theirs: &[PathBuf],
    changes: &mut Changes,
) -> Result<(), RemoteError> {
    let mut kept = BTreeSet::new();
    for candidate in candidates.values() {
        let place = paths.policies().join(&candidate.name);
        match candidate.state {
            State::New => {
                changes.put(&place, candidate.policy.text.as_bytes())?;
                kept.insert(place);
            }
            State::Before => {
                kept.insert(place);
            }
            State::Neither => {}
        }
    }
    for gone in theirs.iter().filter(|file| !kept.contains(*file)) {
        changes.remove(gone)?;
    }
    match publish(paths, lock)?.compiled {
        Ok(_) => Ok(()),
        // Somebody edited a file between the two looks.
        Err(found) => {
            Err(RemoteError::Local(found.first().map(ToString::to_string).unwrap_or_default()))
        }
    }
}

/// A policy that is about to be put into force.
struct Candidate<'p> {
    policy: &'p RemotePolicy,
    name: String,
    /// The file in which it stood before.
    before: Option<PathBuf>,
    state: State,
}

/// Which text of a policy counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Before,
    Neither,
}

/// Whether a file of the policies' folder is one of these, by its name: `kubernetes.NAME.yaml`. The
/// agent writes and removes such files as the cluster says, so nobody else may change one: it would
/// be as it was at the next change in the cluster.
pub fn is_remote_policy(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
}

fn file_name(policy: &str) -> String {
    let is_name = policy.len() <= MAX_NAME
        && !policy.is_empty()
        && policy.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'));
    match is_name {
        true => format!("{PREFIX}{policy}.yaml"),
        // Kubernetes has names that are too long for a file with something around them.
        false => format!("{PREFIX}{}.yaml", Digest::of(policy.as_bytes()).hex()),
    }
}

fn is_about(fault: &Fault, file: &Path, candidate: &Candidate<'_>) -> bool {
    match &fault.place {
        Some(place) => Path::new(&place.file) == file,
        None => fault.policy.as_deref() == Some(&*candidate.policy.name),
    }
}

/// A fault without the place of the staged file, which means nothing to whoever edits an object.
fn words(fault: &Fault, faults: usize, file: &Path, name: &str) -> String {
    let text = fault.to_string().replace(&file.display().to_string(), name);
    match faults - 1 {
        0 => text,
        more => format!("{text} (and {})", crate::count(more, "fault")),
    }
}

/// A folder in which policies are looked at; gone when it is dropped.
struct Stage(PathBuf);

impl Stage {
    fn new(paths: &Paths) -> Result<Self, RemoteError> {
        let folder = paths.followed().join(STAGE);
        let wrong = |source| RemoteError::Write { path: folder.clone(), source };
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(wrong(error)),
            _ => {}
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(wrong)?;
        Ok(Self(folder))
    }

    fn write(&self, name: &str, text: &[u8]) -> Result<PathBuf, RemoteError> {
        let path = self.0.join(name);
        match replace(&path, 0o644, text) {
            Ok(()) => Ok(path),
            Err(source) => Err(RemoteError::Write { path, source }),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _the_next_one_clears_it = fs::remove_dir_all(&self.0);
    }
}

/// Files of the policies' folder that were changed, each with what it held before.
#[derive(Default)]
struct Changes(Vec<(PathBuf, Option<Vec<u8>>)>);

impl Changes {
    /// Puts a file in its place, unless it stands there already.
    fn put(&mut self, place: &Path, text: &[u8]) -> Result<(), RemoteError> {
        let before = before(place)?;
        if before.as_deref() == Some(text) {
            return Ok(());
        }
        replace(place, 0o644, text)
            .map_err(|source| RemoteError::Write { path: place.to_owned(), source })?;
        self.0.push((place.to_owned(), before));
        Ok(())
    }

    fn remove(&mut self, place: &Path) -> Result<(), RemoteError> {
        let before = before(place)?;
        portcullis_settings::remove(place)
            .map_err(|source| RemoteError::Remove { path: place.to_owned(), source })?;
        self.0.push((place.to_owned(), before));
        Ok(())
    }

    /// Makes all as it was before, the last change first; and what is to be said then.
    fn take_back(self, error: RemoteError) -> RemoteError {
        let failed: Vec<String> = self
            .0
            .into_iter()
            .rev()
            .filter_map(|(place, before)| {
                let back = match before {
                    Some(text) => replace(&place, 0o644, &text),
                    None => portcullis_settings::remove(&place),
                };
                Some(format!("{}: {}", place.display(), back.err()?))
            })
            .collect();
        match failed.is_empty() {
            true => error,
            false => RemoteError::NotPutBack { failed: failed.join(", "), source: Box::new(error) },
        }
    }
}

/// What a file holds, if it is there: all of it, since it may have to be put back.
fn before(place: &Path) -> Result<Option<Vec<u8>>, RemoteError> {
    recall(place, u64::MAX).map_err(|source| RemoteError::Read { path: place.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, action: &str) -> RemotePolicy {
        let text = format!(
            "# kept elsewhere\n{{\"apiVersion\": \"portcullis.dev/v1alpha1\", \"kind\": \"ProtectionPolicy\",\n\
             \"metadata\": {{\"name\": \"{name}\"}}, \"spec\": {{\"rules\": [\n\
             {{\"class\": \"malware\", \"action\": \"{action}\"}}]}}}}\n"
        );
        RemotePolicy { name: name.to_owned(), text }
    }

    fn installation() -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        fs::create_dir_all(paths.policies()).unwrap();
        fs::write(paths.policies().join("own.yaml"), policy("own", "alarm").text).unwrap();
        (root, paths)
    }

    fn in_force(paths: &Paths) -> Vec<String> {
        let set = published::load(&paths.published()).unwrap();
        set.policies()
            .map(|policy| {
                format!("{} {}", policy.metadata.name, policy.spec.rules[0].action.as_str())
            })
            .collect()
    }

    #[test]
    fn they_are_put_into_force_beside_the_nodes_own_and_taken_out_again() {
        let (_root, paths) = installation();
        let all = [policy("a", "block"), policy("b", "alarm")];
        let applied = apply_remote(&paths, &all).unwrap();
        assert!(applied.faults.is_empty(), "{applied:?}");
        assert_eq!(in_force(&paths), ["a block", "b alarm", "own alarm"]);
        assert_eq!(apply_remote(&paths, &all).unwrap(), applied);
        apply_remote(&paths, &[policy("b", "block")]).unwrap();
        assert_eq!(in_force(&paths), ["b block", "own alarm"]);
        apply_remote(&paths, &[]).unwrap();
        assert_eq!(in_force(&paths), ["own alarm"]);
        let left: Vec<_> = fs::read_dir(paths.policies()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_fault_keeps_what_was_in_force_of_its_policy_and_stops_no_other() {
        let (_root, paths) = installation();
        apply_remote(&paths, &[policy("a", "block"), policy("b", "alarm")]).unwrap();
        let new = [policy("a", "shrug"), policy("b", "block"), policy("c", "nod")];
        let applied = apply_remote(&paths, &new).unwrap();
        assert_eq!(applied.faults.keys().collect::<Vec<_>>(), ["a", "c"]);
        let words = &applied.faults["a"];
        assert!(words.starts_with("kubernetes.a.yaml:") && words.contains("shrug"), "{words}");
        assert_eq!(in_force(&paths), ["a block", "b block", "own alarm"]);
        // Mended.
        let applied = apply_remote(&paths, &[policy("a", "alarm"), policy("c", "alarm")]).unwrap();
        assert!(applied.faults.is_empty());
        assert_eq!(in_force(&paths), ["a alarm", "c alarm", "own alarm"]);
    }

    #[test]
    fn a_name_that_the_node_has_already_is_a_fault_of_the_clusters_policy() {
        let (_root, paths) = installation();
        let applied =
            apply_remote(&paths, &[policy("own", "block"), policy("z", "block")]).unwrap();
        assert_eq!(applied.faults.keys().collect::<Vec<_>>(), ["own"]);
        assert_eq!(in_force(&paths), ["own alarm", "z block"]);
    }

    #[test]
    fn faults_of_the_nodes_own_files_leave_everything_as_it_is() {
        let (_root, paths) = installation();
        apply_remote(&paths, &[policy("a", "block")]).unwrap();
        fs::write(paths.policies().join("own.yaml"), "kind: [").unwrap();
        let error = apply_remote(&paths, &[policy("a", "alarm")]).unwrap_err().to_string();
        assert!(error.contains("own.yaml"), "{error}");
        assert_eq!(in_force(&paths), ["a block", "own alarm"]);
        // What was in force before is known, also by whoever did not put it into force.
        let known = |policies: &[RemotePolicy]| remote_in_force(&paths, policies);
        let now = [policy("a", "block"), policy("b", "alarm")];
        assert_eq!(known(&now), BTreeSet::from(["a".to_owned()]));
        let wrong = RemotePolicy { text: "kind: [".to_owned(), ..policy("a", "block") };
        let none = RemotePolicy { text: String::new(), ..policy("a", "block") };
        assert_eq!(known(&[policy("a", "alarm"), wrong, none]), BTreeSet::new());
        fs::remove_dir_all(paths.published()).unwrap();
        assert_eq!(known(&now), BTreeSet::new());
    }

    /// The files of the policies' folder with what they hold, hidden ones too.
    fn files(paths: &Paths) -> BTreeMap<String, String> {
        let entries = fs::read_dir(paths.policies()).unwrap().map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.path().is_file());
        files
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read_to_string(entry.path()).unwrap())
            })
            .collect()
    }

    /// Makes a folder where a file would be prepared, so that not even root can write it.
    fn block(paths: &Paths, name: &str) -> PathBuf {
        let folder = paths.policies().join(format!(".{name}.new"));
        fs::create_dir_all(folder.join("in the way")).unwrap();
        folder
    }

    /// Puts a file where sets are published, so that not even root can publish one.
    fn put_aside(paths: &Paths) {
        fs::rename(paths.published(), paths.root().join("aside")).unwrap();
        fs::write(paths.published(), "a file").unwrap();
    }

    fn put_back(paths: &Paths) {
        fs::remove_file(paths.published()).unwrap();
        fs::rename(paths.root().join("aside"), paths.published()).unwrap();
    }

    /// One that is changed, one that comes and one that goes.
    fn others() -> [RemotePolicy; 3] {
        [policy("a", "alarm"), policy("c", "alarm"), policy("d", "block")]
    }

    #[test]
    fn what_cannot_be_published_leaves_the_files_as_they_were() {
        let (_root, paths) = installation();
        apply_remote(&paths, &[policy("a", "block"), policy("b", "block")]).unwrap();
        let old = files(&paths);
        put_aside(&paths);
        let error = apply_remote(&paths, &others()).unwrap_err();
        assert!(matches!(error, RemoteError::Publish(_)), "{error:?}");
        assert_eq!(files(&paths), old);
        put_back(&paths);
        assert_eq!(in_force(&paths), ["a block", "b block", "own alarm"]);
        apply_remote(&paths, &others()).unwrap();
        assert_eq!(in_force(&paths), ["a alarm", "c alarm", "d block", "own alarm"]);
    }

    #[test]
    fn a_file_that_cannot_be_written_or_read_leaves_the_others_as_they_were() {
        let (_root, paths) = installation();
        apply_remote(&paths, &[policy("a", "block"), policy("b", "block")]).unwrap();
        let old = files(&paths);
        let obstacle = block(&paths, "kubernetes.c.yaml");
        let error = apply_remote(&paths, &others()).unwrap_err();
        assert!(
            matches!(&error, RemoteError::Write { path, .. } if path.ends_with("kubernetes.c.yaml"))
        );
        assert_eq!(files(&paths), old);
        fs::remove_dir_all(obstacle).unwrap();
        let folder = paths.policies().join("kubernetes.c.yaml");
        fs::create_dir(&folder).unwrap();
        let error = apply_remote(&paths, &others()).unwrap_err();
        assert!(matches!(&error, RemoteError::Read { path, .. } if *path == folder), "{error:?}");
        assert_eq!(files(&paths), old);
        assert_eq!(in_force(&paths), ["a block", "b block", "own alarm"]);
    }

    #[test]
    fn a_file_that_cannot_be_put_back_is_named_with_what_went_wrong_first() {
        let (_root, paths) = installation();
        apply_remote(&paths, &[policy("a", "block"), policy("b", "block")]).unwrap();
        let old = files(&paths);
        put_aside(&paths);
        // It can be removed, and not be written again.
        let obstacle = block(&paths, "kubernetes.b.yaml");
        let error = apply_remote(&paths, &others()).unwrap_err();
        let said = portcullis_types::with_causes(&error);
        assert!(said.contains("kubernetes.b.yaml: ") && said.contains("cannot create"), "{said}");
        assert!(!said.contains("kubernetes.a.yaml"), "{said}");
        let mut left = old.clone();
        left.remove("kubernetes.b.yaml");
        assert_eq!(files(&paths), left);
        // Mended by itself, once it can be.
        put_back(&paths);
        fs::remove_dir_all(obstacle).unwrap();
        apply_remote(&paths, &[policy("a", "block"), policy("b", "block")]).unwrap();
        assert_eq!(files(&paths), old);
    }

    #[test]
    fn every_name_of_kubernetes_has_a_file() {
        assert_eq!(file_name("prod.web-1"), "kubernetes.prod.web-1.yaml");
        for name in ["a".repeat(253), "../../etc/passwd".to_owned(), String::new()] {
            let file = file_name(&name);
            assert!(file.len() < 100 && !file.contains('/'), "{file}");
            assert!(is_remote_policy(&Path::new("/etc/portcullis/policies").join(file)));
        }
        for own in ["own.yaml", "kubernetes.yaml.d/own.yaml", "kubernetes", "my.kubernetes.a.yaml"]
        {
            assert!(!is_remote_policy(Path::new(own)), "{own}");
        }
    }
}
