//! The shim's log: lines in logrus' text format to the bundle's `log` fifo, which containerd reads.
//!
//! A full or broken fifo loses lines, never time.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;

use log::{LevelFilter, Log, Metadata, Record};

struct FifoLog(Mutex<Option<File>>);

impl Log for FifoLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = record.level().as_str().to_ascii_lowercase();
        let message = record.args().to_string();
        let line = format!("time=\"{}\" level={level} msg={message:?}\n", jiff::Timestamp::now());
        if let Ok(mut file) = self.0.lock()
            && let Some(file) = file.as_mut()
        {
            let _lost_if_full = file.write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// Logs to `log` in the current folder, if it can be opened. Opened for reading too, so that a
/// containerd that goes away is no error.
pub(crate) fn start(debug: bool) {
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("log").ok();
    let logger = Box::leak(Box::new(FifoLog(Mutex::new(file))));
    if log::set_logger(logger).is_ok() {
        log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
    }
}
