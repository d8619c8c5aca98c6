//! The ledger passed on, record by record, as JSON lines on standard output, which in a cluster is where
//! collectors of logs read.
//!
//! The place is kept, so that a restart goes on behind the last record. A reader that stands still
//! stops only this.

use std::io::{self, Write};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portcullis_audit::{Ledger, Resumed};
use portcullis_settings::Settings;
use portcullis_types::with_causes;

use crate::bell::Bell;
use crate::records::{Cursor, Records};

/// How often the ledger is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// After so many records the place is kept.
const KEEP: usize = 500;

/// What passes the ledger on.
#[derive(Debug)]
pub struct Forward {
    bell: Bell,
    thread: JoinHandle<()>,
}

impl Forward {
    /// Begins to pass on all that is kept and was not passed on before.
    ///
    /// # Errors
    /// There is no thread or descriptor for it.
    pub fn begin(settings: &Settings, out: impl Write + Send + 'static) -> io::Result<Self> {
        let bell = Bell::new()?;
        let ledger = Ledger::new(settings.paths().events(), settings.max_event_bytes);
        let place = settings.paths().root().join("var/lib/portcullis/agent/forwarded");
        let own = bell.clone();
        let thread = std::thread::Builder::new()
            .name("forward".to_owned())
            .spawn(move || run(&ledger, &place, &own, out))?;
        Ok(Self { bell, thread })
    }

    /// Begins to end.
    pub fn end(&self) {
        self.bell.end();
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

fn run(ledger: &Ledger, place: &Path, bell: &Bell, mut out: impl Write) {
    let mut records = match begin(ledger, place) {
        Ok(records) => records,
        Err(why) => {
            log::error!("the ledger is not passed on: {why}");
            return;
        }
    };
    let mut missed = 0;
    let mut said = String::new();
    loop {
        match pass_on(&mut records, &mut out) {
            Ok(0) => {}
            Ok(_) => {
                said.clear();
                if let Some(cursor) = records.cursor()
                    && let Err(error) = keep(&cursor, place)
                {
                    log::warn!("the place in the ledger is not kept: {error}");
                }
            }
            Err(Stop::Out(error)) => {
                log::error!("the ledger is not passed on any more: nobody takes it: {error}");
                return;
            }
            Err(Stop::Ledger(why)) if why != said => {
                log::warn!("the ledger is passed on later: {why}");
                said = why;
            }
            Err(Stop::Ledger(_)) => {}
        }
        if records.missed() > missed {
            log::warn!(
                "{} records were gone before they were passed on",
                records.missed() - missed
            );
            missed = records.missed();
        }
        if bell.is_ending() {
            return;
        }
        bell.wait(None, Instant::now() + LOOK);
    }
}

fn begin(ledger: &Ledger, place: &Path) -> Result<Records, String> {
    let Some(cursor) = Cursor::load(place).map_err(|error| with_causes(&error))? else {
        return Ok(Records::from_beginning(ledger.clone()));
    };
    let (records, resumed) =
        Records::resume(ledger.clone(), &cursor).map_err(|error| with_causes(&error))?;
    if resumed == Resumed::Another {
        log::warn!("the ledger is another one than before: it is passed on from its beginning");
    }
    Ok(records)
}

fn keep(cursor: &Cursor, place: &Path) -> io::Result<()> {
    if let Some(folder) = place.parent() {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    cursor.save(place).map_err(|error| io::Error::other(with_causes(&error)))
}

enum Stop {
    Out(io::Error),
    Ledger(String),
}

/// Passes on what there is, a bounded number; and tells how many.
fn pass_on(records: &mut Records, out: &mut impl Write) -> Result<usize, Stop> {
    let mut passed = 0;
    while passed < KEEP {
        let entry = records.next_record().map_err(|error| Stop::Ledger(with_causes(&error)))?;
        let Some(entry) = entry else { break };
        let mut line =
            serde_json::to_vec(&entry.event).map_err(|error| Stop::Ledger(error.to_string()))?;
        line.push(b'\n');
        out.write_all(&line).map_err(Stop::Out)?;
        passed += 1;
    }
    out.flush().map_err(Stop::Out)?;
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use portcullis_types::{Action, Engine, Event, EventKind, Identity, Request, Timestamp};

    use super::*;

    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Out {
        fn ids(&self) -> Vec<String> {
            let bytes = self.0.lock().unwrap().clone();
            let lines = String::from_utf8(bytes).unwrap();
            lines.lines().map(|line| serde_json::from_str::<Event>(line).unwrap().id).collect()
        }
    }

    /// Runs it to its end on what is there.
    fn forwarded(settings: &Settings) -> Vec<String> {
        let out = Out::default();
        let forward = Forward::begin(settings, out.clone()).unwrap();
        forward.end();
        forward.thread.join().unwrap();
        out.ids()
    }

    #[test]
    fn each_record_is_passed_on_once_over_restarts() {
        let root = tempfile::tempdir().unwrap();
        let settings = Settings::default().below(root.path());
        let ledger = Ledger::new(settings.paths().events(), settings.max_event_bytes);
        let append = |id: &str| {
            let event = Event::new(
                id.to_owned(),
                Timestamp::now(),
                EventKind::Decision,
                Action::Allow,
                String::new(),
                Request::new(Engine::Containerd, "n", "c"),
                Identity::unknown("a test"),
            );
            ledger.append(&event).unwrap();
        };
        assert!(forwarded(&settings).is_empty());
        append("1");
        append("2");
        assert_eq!(forwarded(&settings), ["1", "2"]);
        append("3");
        assert_eq!(forwarded(&settings), ["3"]);
        assert!(forwarded(&settings).is_empty());
    }

    #[test]
    fn a_reader_that_is_gone_ends_it_alone() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let root = tempfile::tempdir().unwrap();
        let settings = Settings::default().below(root.path());
        let forward = Forward::begin(&settings, Gone).unwrap();
        forward.thread.join().unwrap();
    }
}
