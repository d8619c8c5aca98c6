//! The real clamd, with two signatures of our own: that of the test file of EICAR, and that of the
//! program which Debian's package `clamav-testfiles` has in many wrappings.
//!
//! It needs that package and `clamav-daemon`, and fails without them.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The largest stream that this clamd takes, in bytes.
pub const MAX_STREAM: u64 = 2 << 20;

/// Where `clamav-testfiles` has its files.
pub const TEST_FILES: &str = "/usr/share/clamav-testfiles";
/// The program that they are wrappings of.
const TEST_FILE: &str = "/usr/share/clamav-testfiles/clam.exe";

/// A signature in clamd's form for a whole file, by MD5 and size.
fn by_digest(file: &Path) -> String {
    let md5 = Command::new("md5sum").arg(file).output().expect("md5sum runs");
    assert!(md5.status.success(), "{} is not there (Debian: clamav-testfiles)", file.display());
    let md5 = String::from_utf8(md5.stdout).expect("a line of text");
    let size = fs::metadata(file).expect("its size").len();
    format!("{}:{size}:Own.Test.Clam\n", &md5[..32])
}

/// The test file of EICAR, from parts, so that no scanner takes this source for it.
pub fn eicar() -> Vec<u8> {
    [r"X5O!P%@AP[4\PZX54(P^)7CC)7}", "$EICAR-STANDARD-", "ANTIVIRUS-TEST-FILE!$H+H*"]
        .concat()
        .into()
}

/// A clamd of its own, in a folder of its own.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    folder: tempfile::TempDir,
}

impl Daemon {
    /// Starts it, and waits until it answers.
    ///
    /// # Panics
    /// It is not installed, or does not start.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("db")).expect("a folder for signatures");
        let hex: String = eicar().iter().map(|b| format!("{b:02x}")).collect();
        fs::write(path("db/own.ndb"), format!("Own.Test.Eicar:0:0:{hex}\n")).expect("a signature");
        fs::write(path("db/own.hdb"), by_digest(Path::new(TEST_FILE))).expect("a signature");
        let settings = format!(
            "LocalSocket {}\nDatabaseDirectory {}\nTemporaryDirectory {}\nForeground yes\n\
             StreamMaxLength {MAX_STREAM}\nMaxFileSize 1800K\nAlertExceedsMax yes\nMaxThreads 2\n",
            path("socket").display(),
            path("db").display(),
            folder.path().display(),
        );
        fs::write(path("clamd.conf"), settings).expect("the settings");
        let program = ["/usr/sbin/clamd", "/usr/bin/clamd", "/usr/local/sbin/clamd"]
            .into_iter()
            .find(|place| Path::new(place).exists())
            .expect("clamd is installed (Debian: clamav-daemon)");
        let log = fs::File::create(path("log")).expect("a log");
        let child = Command::new(program)
            .arg("--config-file")
            .arg(path("clamd.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn()
            .expect("clamd starts");
        let mut daemon = Self { child, folder };
        daemon.wait();
        daemon
    }

    /// Waits until it accepts connections.
    fn wait(&mut self) {
        let until = Instant::now() + Duration::from_secs(120);
        while UnixStream::connect(self.folder.path().join("socket")).is_err() {
            let ended = self.child.try_wait().expect("its state");
            assert!(
                ended.is_none() && Instant::now() < until,
                "clamd is not there: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it.
    pub fn end(&mut self) {
        // Its own child, by its process id; it may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}
