//! Word of images that come and go: containerd's events, and changes in folders.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portcullis_engines::{ContainerdResolver, Patience};
use portcullis_types::with_causes;
use rustix::fs::inotify;

use crate::backoff::Backoff;
use crate::bell::Bell;
use crate::follow::PATIENCE;

/// A connection that stood so long was a good one.
const STOOD: Duration = Duration::from_secs(60);

/// Most bytes of inotify's that are read at once; what they say is not looked at.
const READ: usize = 16 << 10;

/// The folders in which something changes when an image comes or goes.
#[derive(Debug)]
pub(crate) struct Folders {
    fd: OwnedFd,
    watched: BTreeMap<PathBuf, i32>,
}

impl Folders {
    pub(crate) fn new() -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        Ok(Self { fd, watched: BTreeMap::new() })
    }

    /// Watches these, as far as they are there. Whether one has come that was not watched before.
    pub(crate) fn watch(&mut self, folders: &[PathBuf]) -> bool {
        // What was made or moved there is written then. A file that is written in place is not
        // complete before it is closed.
        let flags = inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::MOVED_FROM
            | inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::ONLYDIR;
        let mut is_new = false;
        let gone: Vec<PathBuf> =
            self.watched.keys().filter(|path| !folders.contains(path)).cloned().collect();
        for path in gone {
            self.leave(&path);
        }
        for folder in folders {
            // One that was replaced has another number; one that is watched keeps its own.
            match inotify::add_watch(&self.fd, folder, flags) {
                Ok(number) => {
                    is_new |= self.watched.insert(folder.clone(), number) != Some(number);
                }
                // A full listing now and then finds what is missed.
                Err(_) => drop(self.watched.remove(folder)),
            }
        }
        is_new
    }

    fn leave(&mut self, path: &Path) {
        if let Some(number) = self.watched.remove(path) {
            // It may be gone, and its number with it.
            let _gone = inotify::remove_watch(&self.fd, number);
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether something has changed since the last call.
    pub(crate) fn have_changed(&self) -> bool {
        let mut buffer = [0_u8; READ];
        let mut changed = false;
        while rustix::io::read(&self.fd, &mut buffer).is_ok_and(|read| read > 0) {
            changed = true;
        }
        changed
    }
}

/// The events of one containerd, listened to on a thread of its own.
#[derive(Debug)]
pub(crate) struct Events {
    /// Something happened, or may have without being told.
    told: Arc<AtomicBool>,
    leaves: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Events {
    /// Listens, and rings the bell whenever something is told and after each time that it was not
    /// connected.
    pub(crate) fn listen(containerd: ContainerdResolver, bell: Bell) -> io::Result<Self> {
        let (told, leaves) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (tells, leaving) = (told.clone(), leaves.clone());
        let thread = std::thread::Builder::new().name("events".to_owned()).spawn(move || {
            crate::scans::be_nice();
            let tell = || {
                tells.store(true, Ordering::SeqCst);
                bell.ring();
            };
            let goes_on = || !bell.is_ending() && !leaving.load(Ordering::SeqCst);
            let mut backoff = Backoff::default();
            while goes_on() {
                let begun = Instant::now();
                // What happened without a connection: a listing, a moment after this one stands.
                tell();
                let patience = Patience { each: PATIENCE, goes_on: &goes_on };
                let ended = containerd.image_changes(patience, |_| tell());
                if begun.elapsed() >= STOOD {
                    backoff = Backoff::default();
                }
                let until = Instant::now() + backoff.failed();
                if let (Err(error), true) = (&ended, backoff.is_first()) {
                    let at = containerd.address().display();
                    log::info!("no word of images from {at}: {}", with_causes(error));
                }
                // The bell is another thread's: it is not drained here.
                while goes_on() && Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        })?;
        Ok(Self { told, leaves, thread: Some(thread) })
    }

    /// Whether something has happened since the last call.
    pub(crate) fn have_told(&self) -> bool {
        self.told.swap(false, Ordering::SeqCst)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.leaves.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _it_panicked = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_change_in_a_folder_wakes_and_one_elsewhere_does_not() {
        let root = tempfile::tempdir().unwrap();
        let [images, other] = ["images", "other"].map(|name| root.path().join(name));
        let mut folders = Folders::new().unwrap();
        assert!(!folders.watch(std::slice::from_ref(&images)), "it is not there yet");
        fs::create_dir(&images).unwrap();
        fs::create_dir(&other).unwrap();
        assert!(folders.watch(std::slice::from_ref(&images)));
        assert!(!folders.watch(std::slice::from_ref(&images)));
        assert!(!folders.have_changed());
        fs::write(other.join("1"), "").unwrap();
        assert!(!folders.have_changed());
        // As containers/storage writes its records.
        fs::rename(other.join("1"), images.join("images.json")).unwrap();
        assert!(folders.have_changed() && !folders.have_changed());
        fs::remove_file(images.join("images.json")).unwrap();
        assert!(folders.have_changed());
        // Another folder of the same name.
        fs::remove_dir(&images).unwrap();
        fs::create_dir(&images).unwrap();
        folders.have_changed();
        assert!(folders.watch(std::slice::from_ref(&images)));
        fs::write(images.join("2"), "").unwrap();
        assert!(folders.have_changed());
        folders.watch(&[]);
        folders.have_changed();
        fs::write(images.join("3"), "").unwrap();
        assert!(!folders.have_changed());
    }

    #[test]
    fn a_containerd_that_hangs_ends_with_the_rest() {
        let root = tempfile::tempdir().unwrap();
        let socket = root.path().join("containerd.sock");
        // Takes connections, and never says a word.
        let _hangs = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let bell = Bell::new().unwrap();
        let containerd = ContainerdResolver::new(&socket.display().to_string());
        let events = Events::listen(containerd, bell.clone()).unwrap();
        assert!(bell.wait(None, Instant::now() + Duration::from_secs(60)));
        assert!(events.have_told() && !events.have_told());
        bell.end();
        drop(events);
    }
}
