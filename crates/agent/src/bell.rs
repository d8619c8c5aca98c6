//! Wakes a thread that waits for something to happen, and tells it of the end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// Whoever has one may ring it.
#[derive(Debug, Clone)]
pub(crate) struct Bell {
    fd: Arc<OwnedFd>,
    ending: Arc<AtomicBool>,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { fd: Arc::new(fd), ending: Arc::default() })
    }

    /// Wakes whoever waits, now or the next time.
    pub(crate) fn ring(&self) {
        // One that is full rings already.
        let _rings = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
    }

    /// Tells of the end.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.ring();
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// Waits until it rings, another descriptor can be read, or then. Whether it has rung.
    pub(crate) fn wait(&self, other: Option<BorrowedFd<'_>>, until: Instant) -> bool {
        let mut all = vec![PollFd::from_borrowed_fd(self.fd.as_fd(), PollFlags::IN)];
        all.extend(other.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 60, tv_nsec: 0 });
        if poll(&mut all, Some(&timeout)).is_err() {
            // Interrupted, or without memory: whoever waits looks again, but not at once.
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut rung = [0; 8];
        rustix::io::read(&self.fd, &mut rung).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn it_rings_once_for_each_time_and_at_the_end() {
        let bell = Bell::new().unwrap();
        assert!(!bell.wait(None, Instant::now()));
        bell.ring();
        bell.ring();
        assert!(bell.wait(None, Instant::now() + LONG));
        assert!(!bell.wait(None, Instant::now()));
        let other = bell.clone();
        let waiting = std::thread::spawn(move || other.wait(None, Instant::now() + LONG));
        bell.end();
        assert!(waiting.join().unwrap() && bell.is_ending());
    }

    #[test]
    fn another_descriptor_wakes_it_too() {
        let bell = Bell::new().unwrap();
        let (one, two) = std::os::unix::net::UnixStream::pair().unwrap();
        rustix::io::write(&two, b"1").unwrap();
        assert!(!bell.wait(Some(one.as_fd()), Instant::now() + LONG));
    }
}
