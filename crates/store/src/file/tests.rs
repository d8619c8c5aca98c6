use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use portcullis_types::Cause;
use rustix::fs::{FileType, Mode};

use super::*;
use crate::Change;
use crate::suite::{self, image, report};

/// A store with one verdict, about `image('a')`.
fn filled() -> (tempfile::TempDir, FileStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path().join("verdicts"));
    store.absorb(&image('a'), report("trivy", 10, 3)).unwrap();
    (folder, store)
}

fn entry(store: &FileStore, digit: char) -> PathBuf {
    let config = image(digit).config;
    store.root.join("sha256").join(shard_name(&config)).join(config.hex())
}

fn cause(store: &FileStore) -> Option<Cause> {
    let error = store.by_config(&image('a').config, Detail::Full).err();
    error.map(|error| error.cause())
}

fn put_in_place(path: &Path, kind: FileType) {
    let _ = fs::remove_file(path);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        kind,
        Mode::RUSR,
        rustix::fs::makedev(1, 5), // /dev/zero, if it is a device.
    )
    .unwrap();
}

#[test]
fn it_passes_the_suite() {
    let folders = tempfile::tempdir().unwrap();
    let mut number = 0;
    suite::run(|| {
        number += 1;
        FileStore::open(folders.path().join(format!("store-{number}")))
    });
}

#[test]
fn what_is_written_may_be_read_by_whoever_may_read_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("verdicts");
    let store = FileStore::open(root.clone());
    let mode = |digit| {
        let verdict = entry(&store, digit);
        let of = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        (of(verdict.parent().unwrap()), of(&verdict))
    };
    store.absorb(&image('a'), report("trivy", 10, 3)).unwrap();
    assert_eq!(mode('a'), (0o700, 0o600));
    for shared in [root.clone(), root.join("sha256"), root.join("chain")] {
        if shared.is_dir() {
            fs::set_permissions(&shared, PermissionsExt::from_mode(0o755)).unwrap();
        }
    }
    store.absorb(&image('b'), report("trivy", 10, 3)).unwrap();
    assert_eq!(mode('b'), (0o755, 0o644));
}

#[test]
fn a_store_that_does_not_exist_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path().join("missing"));
    assert_eq!(cause(&store), Some(Cause::StoreUnreadable));
    let error = store.by_chain(&image('a').config, Detail::Full).unwrap_err();
    assert_eq!(error.cause(), Cause::StoreUnreadable);
    assert!(store.list(Depth::Whole).is_err());
}

#[test]
fn an_empty_store_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path());
    assert_eq!(store.by_config(&image('a').config, Detail::Full).unwrap(), None);
    assert!(store.list(Depth::Whole).unwrap().is_empty());
}

#[test]
fn what_was_stored_is_private_and_leaves_nothing_else_behind() {
    let (_folder, store) = filled();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&entry(&store, 'a')), 0o600);
    assert_eq!(mode(&store.root), 0o700);
    assert!(!store.root.join(NEW).exists());
}

#[test]
fn a_damaged_verdict_is_neither_missing_nor_overwritten() {
    let (_folder, store) = filled();
    let path = entry(&store, 'a');
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(cause(&store), Some(Cause::StoreCorrupt));
    let error = store.absorb(&image('a'), report("trivy", 20, 0)).unwrap_err();
    assert_eq!(error.cause(), Cause::StoreCorrupt);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_damaged_verdict_hides_none_beside_it() {
    let (_folder, store) = filled();
    store.absorb(&image('b'), report("trivy", 10, 2)).unwrap();
    fs::write(entry(&store, 'a'), "PCVR").unwrap();
    let listed = store.list(Depth::Whole).unwrap();
    assert!(listed[0].entry.is_err() && listed[1].entry.is_ok());
    let chain = image('a').chain_id.unwrap();
    let of_chain = store.by_chain(&chain, Detail::Full).unwrap();
    assert!(of_chain[0].is_err() && of_chain[1].is_ok());
}

#[test]
fn a_damaged_verdict_can_be_removed_with_its_chain_name() {
    let (_folder, store) = filled();
    fs::write(entry(&store, 'a'), "").unwrap();
    assert!(store.remove(&image('a').config).unwrap());
    let chain = image('a').chain_id.unwrap();
    assert!(store.by_chain(&chain, Detail::Full).unwrap().is_empty());
    let root = Folder::root(&store.root).unwrap();
    assert!(chain_folder(&root, &chain).unwrap().is_none());
}

#[test]
fn a_verdict_under_another_images_name_is_damaged() {
    let (_folder, store) = filled();
    store.absorb(&image('b'), report("trivy", 10, 0)).unwrap();
    fs::copy(entry(&store, 'b'), entry(&store, 'a')).unwrap();
    let error = store.by_config(&image('a').config, Detail::Full).unwrap_err();
    assert!(error.to_string().contains(&image('b').config.to_string()), "{error}");
    assert_eq!(error.cause(), Cause::StoreCorrupt);
}

#[test]
fn what_is_no_file_does_not_hang_a_door() {
    let (_folder, store) = filled();
    let path = entry(&store, 'a');
    for kind in [FileType::Fifo, FileType::Socket] {
        put_in_place(&path, kind);
        assert_eq!(cause(&store), Some(Cause::StoreUnreadable), "{kind:?}");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(cause(&store), Some(Cause::StoreUnreadable), "a folder");
    fs::remove_dir(&path).unwrap();
    symlink("/dev/zero", &path).unwrap();
    assert_eq!(cause(&store), Some(Cause::StoreUnreadable), "a link");
}

#[test]
fn a_device_in_place_of_a_verdict_is_not_read() {
    if !rustix::process::geteuid().is_root() {
        panic!("only root can make a device: run the tests as root");
    }
    let (_folder, store) = filled();
    put_in_place(&entry(&store, 'a'), FileType::CharacterDevice);
    let error = store.by_config(&image('a').config, Detail::Full).unwrap_err();
    // A container's file system may be mounted without devices; then it cannot even be opened.
    assert!(
        matches!(error, StoreError::Untrusted { .. } | StoreError::Unreadable { .. }),
        "{error}"
    );
}

#[test]
fn a_file_larger_than_any_verdict_is_not_read() {
    let (_folder, store) = filled();
    let file = fs::File::options().write(true).open(entry(&store, 'a')).unwrap();
    file.set_len(10 << 30).unwrap();
    let error = store.by_config(&image('a').config, Detail::Full).unwrap_err();
    assert!(
        matches!(error, StoreError::Corrupt { what: Damage::Oversized(size), .. } if size == 10 << 30),
        "{error}"
    );
}

#[test]
fn what_others_may_write_is_not_trusted() {
    let (_folder, store) = filled();
    let shard = entry(&store, 'a').parent().unwrap().to_owned();
    for path in [entry(&store, 'a'), shard, store.root.join("sha256"), store.root.clone()] {
        let before = fs::metadata(&path).unwrap().permissions();
        for bit in [0o020, 0o002] {
            let mode = before.mode() | bit;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = store.by_config(&image('a').config, Detail::Full).unwrap_err();
            assert!(
                matches!(&error, StoreError::Untrusted { path: named, .. } if *named == path),
                "{error}"
            );
        }
        fs::set_permissions(&path, before).unwrap();
    }
    assert_eq!(cause(&store), None);
}

#[test]
fn what_belongs_to_another_user_is_not_trusted() {
    if !rustix::process::geteuid().is_root() {
        panic!("only root can give a file away: run the tests as root");
    }
    let (_folder, store) = filled();
    std::os::unix::fs::chown(entry(&store, 'a'), Some(65534), None).unwrap();
    assert_eq!(cause(&store), Some(Cause::StoreUnreadable));
}

#[test]
fn a_folder_that_is_a_link_is_not_followed() {
    let (folder, store) = filled();
    let (real, moved) = (store.root.join("sha256"), folder.path().join("elsewhere"));
    fs::rename(&real, &moved).unwrap();
    symlink(&moved, &real).unwrap();
    assert_eq!(cause(&store), Some(Cause::StoreUnreadable));
}

#[test]
fn a_chain_name_without_its_verdict_is_passed_over() {
    let (_folder, store) = filled();
    let chain = image('a').chain_id.unwrap();
    fs::remove_file(entry(&store, 'a')).unwrap();
    assert!(store.by_chain(&chain, Detail::Full).unwrap().is_empty());
}

#[test]
fn a_chain_name_of_an_image_with_another_chain_is_passed_over() {
    let (_folder, store) = filled();
    let root = Folder::root(&store.root).unwrap();
    let other = image('b').config;
    create_shard(&root.create_child(CHAIN).unwrap(), &other)
        .unwrap()
        .create_child(other.hex())
        .unwrap()
        .touch(&to_name(&image('a').config))
        .unwrap();
    assert!(store.by_chain(&other, Detail::Full).unwrap().is_empty());
}

#[test]
fn a_missing_chain_name_is_mended_by_the_next_import() {
    let (_folder, store) = filled();
    fs::remove_dir_all(store.root.join(CHAIN)).unwrap();
    let absorbed = store.absorb(&image('a'), report("trivy", 10, 3)).unwrap();
    assert_eq!(absorbed.change, Change::Unchanged);
    let chain = image('a').chain_id.unwrap();
    assert_eq!(store.by_chain(&chain, Detail::Full).unwrap().len(), 1);
}

#[test]
fn what_a_killed_writer_left_is_thrown_away() {
    let (_folder, store) = filled();
    fs::write(store.root.join(NEW), "half a verd").unwrap();
    store.absorb(&image('b'), report("trivy", 10, 1)).unwrap();
    assert!(!store.root.join(NEW).exists());
    assert_eq!(store.list(Depth::Whole).unwrap().len(), 2);
}

/// The verdict that format 1 wrote about `image('a')`.
const OLD: &[u8] = include_bytes!("../record/format-1.verdict");

fn version(store: &FileStore) -> u8 {
    fs::read(entry(store, 'a')).unwrap()[4]
}

#[test]
fn a_verdict_of_format_1_is_read_and_written_anew_by_the_next_import() {
    let (_folder, store) = filled();
    fs::write(entry(&store, 'a'), OLD).unwrap();
    let config = image('a').config;
    let old = store.by_config(&config, Detail::Full).unwrap().unwrap();
    assert_eq!(old.reports.len(), 2);
    assert_eq!(store.by_config(&config, Detail::Decision).unwrap().unwrap(), old);
    for depth in [Depth::Heads, Depth::Whole] {
        assert_eq!(store.list(depth).unwrap()[0].entry.as_ref().unwrap().reports.len(), 2);
    }
    assert!(!store.annotate(&|_| false).unwrap()[0].changed.as_ref().unwrap());
    assert_eq!(version(&store), 1);
    let absorbed = store.absorb(&old.image, old.reports[1].clone()).unwrap();
    assert_eq!((absorbed.change, version(&store)), (Change::Unchanged, frame::VERSION));
    assert_eq!(store.by_config(&config, Detail::Full).unwrap().unwrap(), old);
}

#[test]
fn an_import_that_changes_nothing_writes_nothing() {
    let (_folder, store) = filled();
    let modified = || fs::metadata(entry(&store, 'a')).unwrap().modified().unwrap();
    let before = modified();
    store.absorb(&image('a'), report("trivy", 10, 3)).unwrap();
    store.annotate(&|_| false).unwrap();
    assert_eq!(modified(), before);
}

#[test]
fn what_a_start_does_not_read_can_be_damaged_and_is_never_written_over() {
    let (_folder, store) = filled();
    let path = entry(&store, 'a');
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, &bytes).unwrap();
    let config = image('a').config;
    let read = store.by_config(&config, Detail::Decision).unwrap().unwrap();
    assert_eq!(read.reports[0].findings.len(), 3);
    assert_eq!(cause(&store), Some(Cause::StoreCorrupt));
    assert!(store.list(Depth::Heads).unwrap()[0].entry.is_ok());
    assert!(store.list(Depth::Whole).unwrap()[0].entry.is_err());
    assert!(store.absorb(&image('a'), report("trivy", 20, 3)).is_err());
    assert_eq!(fs::read(&path).unwrap(), bytes);
    // What is missing is noticed all the same.
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(store.by_config(&config, Detail::Decision).is_err());
}

#[test]
fn a_damaged_verdict_does_not_stop_the_annotation_of_others() {
    let (_folder, store) = filled();
    store.absorb(&image('b'), report("trivy", 10, 2)).unwrap();
    fs::write(entry(&store, 'a'), "PCVR").unwrap();
    let annotated = store
        .annotate(&|finding| {
            finding.kev = true;
            true
        })
        .unwrap();
    let damaged = annotated[0].changed.as_ref().unwrap_err();
    assert_eq!((&annotated[0].config, damaged.cause()), (&image('a').config, Cause::StoreCorrupt));
    assert!(annotated[1].changed.as_ref().unwrap());
    assert_eq!(store.count().unwrap(), 2);
}
