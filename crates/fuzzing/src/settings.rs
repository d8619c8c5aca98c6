//! `portcullis.toml`.

use portcullis_settings::{MAX_DEADLINE, Settings};

/// A settings file.
///
/// Accepted: the deadline is within its bound, paths are absolute, and what is read twice is the
/// same. Refused: each fault has a place.
pub fn settings(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    match text.parse::<Settings>() {
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a fault");
            assert!(faults.iter().all(|fault| !fault.place.is_empty()), "{faults:?}");
            false
        }
        Ok(settings) => {
            assert!(settings.deadline <= MAX_DEADLINE, "{:?}", settings.deadline);
            let paths = settings.paths();
            assert!(paths.root().is_absolute() && paths.events().is_absolute());
            assert!(settings.runtime.root.is_absolute());
            assert!(!settings.runtime.binary.as_os_str().is_empty());
            assert_eq!(text.parse(), Ok(settings));
            true
        }
    }
}
