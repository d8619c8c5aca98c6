//! Databases of Debian's and Alpine's package managers.

use portcullis_inventory::Package;
use portcullis_scanner::fuzzing;

/// Most bytes of a field that is kept.
const MOST_OF_A_FIELD: usize = 512;

/// A file of dpkg's stanzas, or of a package's files.
///
/// There are no more packages than stanzas, and fields are short. The file twice over tells of each
/// twice, and packages written anew are the same. Accepted: it tells of a package.
pub fn dpkg(data: &[u8]) -> bool {
    let packages = fuzzing::dpkg(data);
    bounded(&packages, data);
    let twice = fuzzing::dpkg(&[data, b"\n\n", data].concat());
    assert_eq!(twice, [&*packages, &*packages].concat(), "twice over");
    let stanza = |package: &Package| {
        let (name, version) = package.source.as_ref().expect("each has a source");
        let mut text = format!("Package: {}\nVersion: {}\n", package.name, package.version);
        if let Some(architecture) = &package.architecture {
            text += &format!("Architecture: {architecture}\n");
        }
        match *version == package.version && !name.contains('(') {
            true => text + &format!("Source: {name}\n\n"),
            false => text + &format!("Source: {name} ({version})\n\n"),
        }
    };
    let written: String = packages.iter().map(stanza).collect();
    let is_short = written.lines().all(|line| line.len() <= MOST_OF_A_FIELD);
    assert!(!is_short || fuzzing::dpkg(written.as_bytes()) == packages, "written anew: {written}");
    for path in ["info/a.list", "status.d/a.md5sums"] {
        let files = fuzzing::dpkg_files(path, data);
        assert!(files.len() <= lines(data), "{} files", files.len());
        assert!(files.iter().all(|file| !file.starts_with('/')), "{files:?}");
    }
    !packages.is_empty()
}

/// apk's database. What holds is what holds of dpkg's, and that files are below their folder.
pub fn apk(data: &[u8]) -> bool {
    let (packages, files) = fuzzing::apk(data);
    bounded(&packages, data);
    assert!(files.len() <= lines(data), "{} files", files.len());
    let (twice, _) = fuzzing::apk(&[data, b"\n\n", data].concat());
    assert_eq!(twice, [&*packages, &*packages].concat(), "twice over");
    let stanza = |package: &Package| {
        let (origin, _) = package.source.as_ref().expect("each has a source");
        let mut text = format!("P:{}\nV:{}\no:{origin}\n", package.name, package.version);
        if let Some(architecture) = &package.architecture {
            text += &format!("A:{architecture}\n");
        }
        text + "\n"
    };
    let mut written: String = packages.iter().map(stanza).collect();
    for file in &files {
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        written += &format!("F:{folder}\nR:{name}\n");
    }
    let (again, files_again) = fuzzing::apk(written.as_bytes());
    assert_eq!(again, packages, "written anew");
    // A file whose folder has no name has lost a slash; a folder may not end as a line does.
    let is_plain = files.iter().all(|file| !file.starts_with('/') && !file.contains('\r'));
    assert!(!is_plain || files_again == files, "written anew: {files_again:?}, not {files:?}");
    !packages.is_empty()
}

fn lines(data: &[u8]) -> usize {
    1 + data.iter().filter(|byte| **byte == b'\n').count()
}

fn bounded(packages: &[Package], data: &[u8]) {
    // A stanza has a name and a version, each in a line of its own.
    assert!(2 * packages.len() <= lines(data), "{} packages", packages.len());
    for package in packages {
        let source = package.source.iter().flat_map(|(name, version)| [name, version]);
        let texts = [&package.name, &package.version].into_iter().chain(&package.architecture);
        for text in texts.chain(source) {
            assert!(text.len() <= MOST_OF_A_FIELD && !text.contains('\n'), "{package:?}");
        }
        assert!(!package.name.is_empty() && !package.version.is_empty(), "{package:?}");
    }
}
