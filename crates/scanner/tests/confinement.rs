//! What the scanner's process can still do once it is confined.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

#[test]
fn a_confined_process_reads_the_image_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let [image, scratch] = ["image", "scratch"].map(|name| folder.path().join(name));
    [&image, &scratch].iter().for_each(|folder| fs::create_dir(folder).unwrap());
    fs::write(image.join("file"), "content").unwrap();
    symlink("/etc/passwd", image.join("way-out")).unwrap();
    // Cargo builds it with the tests.
    let program = Path::new(env!("CARGO_BIN_EXE_portcullis-scanner"));
    let program = program.with_file_name("examples").join("confined");
    let output = Command::new(program).args([&image, &scratch]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    let mut lines = said.lines();
    let confined = lines.next().unwrap();
    assert!(confined.contains("rlimits") && confined.contains("seccomp"), "{confined}");
    let has_landlock = confined.contains("landlock");
    let kernel = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    assert!(
        has_landlock || !kernel.contains("landlock"),
        "{confined}, though the kernel has {kernel}"
    );
    let can: Vec<&str> = lines.clone().filter_map(|line| line.strip_prefix("can ")).collect();
    assert_eq!(lines.count(), 16, "{said}");
    if has_landlock {
        assert_eq!(can, ["read the image", "write to the scratch folder"], "{said}");
    } else {
        for what in [
            "start a program",
            "listen",
            "connect",
            "send datagrams",
            "make sockets",
            "take more memory",
            "make a folder",
            "remove a file of the image",
        ] {
            assert!(!can.contains(&what), "{said}");
        }
    }
    assert_eq!(fs::read_to_string(image.join("file")).unwrap(), "content");
}
