//! Names of images, as those who start containers and the engines' records write them.

use portcullis_types::{Digest, ImageRef};

/// Fewest characters of an id: engines name images by a configuration's digest without `sha256:`.
const MIN_ID: usize = 64;

/// The name that a start was asked for by; none for a digest or an id, by which engines name images
/// too.
///
/// As engines do when they pull, a digest drops the tag beside it.
pub(crate) fn asked(name: &str) -> Option<ImageRef> {
    let is_id = name.len() >= MIN_ID && name.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id || name.parse::<Digest>().is_ok() {
        return None;
    }
    let reference: ImageRef = name.parse().ok()?;
    match (reference.tag(), reference.digest()) {
        (Some(_), Some(digest)) => format!("{}@{digest}", reference.repository()).parse().ok(),
        _ => Some(reference),
    }
}

/// The reference that an image record's name is. Only a name in normal form is one: `nginx` as
/// some clients store it is another record than `docker.io/library/nginx:latest`.
pub(crate) fn recorded(name: &str) -> Option<ImageRef> {
    if name.parse::<Digest>().is_ok() {
        return None;
    }
    let reference: ImageRef = name.parse().ok()?;
    (reference.to_string() == name).then_some(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_asked_for() {
        let id = "a".repeat(64);
        let digest = format!("sha256:{id}");
        assert_eq!(asked(&digest), None);
        assert_eq!(asked(&id), None);
        assert_eq!(asked(""), None);
        assert_eq!(asked("nginx").unwrap().to_string(), "docker.io/library/nginx:latest");
        assert_eq!(
            asked(&format!("a.io/b:1@{digest}")).unwrap().to_string(),
            format!("a.io/b@{digest}")
        );
    }

    #[test]
    fn names_that_are_recorded() {
        assert!(recorded("docker.io/library/nginx:1").is_some());
        for other in ["nginx", "docker.io/library/nginx", "", "A.io/x:1"] {
            assert_eq!(recorded(other), None, "{other}");
        }
    }
}
