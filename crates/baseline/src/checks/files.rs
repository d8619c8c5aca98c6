//! What files mean by being there, and files that were too long to be read.

use crate::Image;
use crate::issues::{Issues, shown};
use crate::wants::{Presence, presence, wants_text};

pub(super) fn check(image: &dyn Image, issues: &mut Issues) {
    // A detail names the first of several files.
    let mut present: Vec<&str> = image.present().collect();
    present.sort_unstable();
    for path in present {
        match presence(path) {
            Some(Presence::Sudo) => issues.add("sudo-present", Some(path), "lets act as root"),
            Some(Presence::Sshd) => issues.add("sshd-present", Some(path), "is an SSH server"),
            Some(Presence::Cache(folder)) => {
                let name = path.rsplit('/').next().unwrap_or_default();
                issues.add("package-cache", Some(folder), &shown(name));
            }
            Some(Presence::Needless(path)) => {
                issues.add("needless-file", Some(path), "has no use in an image");
            }
            Some(Presence::Credentials) => {
                issues.add("credential-file", Some(path), "holds credentials by its name");
            }
            None => {}
        }
    }
    for (path, text) in image.texts() {
        if wants_text(path).is_some_and(|most| text.len() >= most) {
            let part = format!("only {} bytes were read", text.len());
            issues.add("file-not-read-wholly", Some(path), &part);
        }
    }
}
