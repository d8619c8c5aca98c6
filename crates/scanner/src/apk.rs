//! apk's database, `lib/apk/db/installed` (apk-tools, `apk-package(5)` and `src/database.c`): which
//! packages are installed, and which files are theirs.

use portcullis_inventory::{Package, PackageKind};

/// Most packages of a database.
const MAX_PACKAGES: usize = 100_000;
/// Most bytes of a field that is kept.
const MAX_FIELD: usize = 512;

/// The packages, and all files as paths from the root.
pub(crate) fn packages(text: &[u8]) -> (Vec<Package>, Vec<String>) {
    let text = String::from_utf8_lossy(text);
    let (mut packages, mut files) = (Vec::new(), Vec::new());
    let (mut package, mut origin) = (Package::new(PackageKind::Apk, "", ""), None);
    let mut folder = String::new();
    // A carriage return at the end of a line would make another name of one.
    for line in text.lines().map(|line| line.trim_end_matches('\r')).chain([""]) {
        let Some((field, value)) = line.split_once(':') else {
            if line.is_empty() {
                let mut done =
                    std::mem::replace(&mut package, Package::new(PackageKind::Apk, "", ""));
                let origin = origin.take();
                if !done.name.is_empty()
                    && !done.version.is_empty()
                    && packages.len() < MAX_PACKAGES
                {
                    let of = origin.unwrap_or_else(|| done.name.clone());
                    done.source = Some((of, done.version.clone()));
                    packages.push(done);
                }
            }
            continue;
        };
        let is_short = value.len() <= MAX_FIELD;
        match field {
            "P" if is_short => package.name = value.to_owned(),
            "V" if is_short => package.version = value.to_owned(),
            "A" if is_short => package.architecture = Some(value.to_owned()),
            "o" if is_short && !value.is_empty() => origin = Some(value.to_owned()),
            "F" => folder = value.to_owned(),
            "R" => files.push(if folder.is_empty() {
                value.to_owned()
            } else {
                format!("{folder}/{value}")
            }),
            _ => {}
        }
    }
    (packages, files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_are_packages() {
        let text = b"C:Q1x\nP:libcrypto3\nV:3.1.4-r5\nA:x86_64\no:openssl\nF:lib\nR:libcrypto.so.3\na:0:0:755\nF:\nR:top\n\nP:musl\nV:1.2.4-r2\n\nP:broken\n\n";
        let (packages, files) = packages(text);
        let found: Vec<_> = packages
            .iter()
            .map(|p| (p.name.as_str(), p.version.as_str(), p.source.as_ref().unwrap().0.as_str()))
            .collect();
        assert_eq!(found, [("libcrypto3", "3.1.4-r5", "openssl"), ("musl", "1.2.4-r2", "musl")]);
        assert_eq!(packages[0].architecture.as_deref(), Some("x86_64"));
        assert_eq!(files, ["lib/libcrypto.so.3", "top"]);
    }

    #[test]
    fn what_ends_a_line_is_no_part_of_it() {
        let wanted = packages(b"P:a\nV:1\nF:lib\nR:x\n\nP:b\nV:2\no:c\n");
        for text in [
            &b"P:a\r\nV:1\r\nF:lib\r\nR:x\r\n\r\nP:b\r\nV:2\r\no:c\r\n"[..],
            b"P:a\r\r\nV:1\nF:lib\nR:x\r\n\nP:b\nV:2\no:c\r",
        ] {
            assert_eq!(packages(text), wanted);
        }
    }
}
