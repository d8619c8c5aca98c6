//! The ledger passed on, record by record, as JSON lines on standard output, which in a cluster is where
//! collectors of logs read.
//!
//! The place is kept after each batch, so each record is passed on at least once: exactly once over
//! orderly restarts, while a kill may repeat up to 500 records, and a loss of power some more of those
//! before the ones that it took from the ledger. A reader that stands still stops only this.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portcullis_audit::{Ledger, Resumed};
use portcullis_settings::Settings;
use portcullis_types::with_causes;

use crate::bell::Bell;
use crate::records::{Cursor, CursorError, Records};
use crate::rests::Said;

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
        let passing = Passing::new(settings, out);
        let own = bell.clone();
        let thread = std::thread::Builder::new()
            .name("forward".to_owned())
            .spawn(move || run(passing, &own))?;
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

fn run(mut passing: Passing<impl Write>, bell: &Bell) {
    loop {
        match passing.look() {
            Ok(says) => says.iter().for_each(|what| log::warn!("{what}")),
            Err(error) => {
                log::error!("the ledger is not passed on any more: nobody takes it: {error}");
                return;
            }
        }
        if bell.is_ending() {
            return;
        }
        bell.wait(None, Instant::now() + LOOK);
    }
}

/// The ledger on its way to its reader.
struct Passing<W> {
    ledger: Ledger,
    place: PathBuf,
    out: W,
    /// None until it could be begun.
    records: Option<Records>,
    /// The place that is kept is behind what was passed on.
    is_ahead: bool,
    missed: u64,
    /// What keeps it from going on, and the place from being kept, as it was said last.
    said: Said,
    said_of_place: Said,
}

/// What ends a look.
enum Stop {
    Out(io::Error),
    Ledger(String),
}

impl<W: Write> Passing<W> {
    fn new(settings: &Settings, out: W) -> Self {
        Self {
            ledger: Ledger::new(settings.paths().events(), settings.max_event_bytes),
            place: settings.paths().followed().join("forwarded"),
            out,
            records: None,
            is_ahead: false,
            missed: 0,
            said: Said::default(),
            said_of_place: Said::default(),
        }
    }

    /// Passes on what there is, a bounded number, and keeps the place; and tells what is to be said.
    /// What goes wrong with the ledger or the place may pass: it is said once, and the next look
    /// tries again.
    ///
    /// # Errors
    /// Nobody takes it.
    fn look(&mut self) -> io::Result<Vec<String>> {
        let mut says = Vec::new();
        match self.pass_on(&mut says) {
            Ok(()) => self.said.passed(),
            Err(Stop::Out(error)) => return Err(error),
            Err(Stop::Ledger(why)) => {
                let what = format!("the ledger is passed on later: {why}");
                says.extend(self.said.is_new(&what).then_some(what));
            }
        }
        self.out.flush()?;
        if self.is_ahead
            && let Some(cursor) = self.records.as_ref().and_then(Records::cursor)
        {
            match cursor.save(&self.place) {
                Ok(()) => {
                    self.is_ahead = false;
                    self.said_of_place.passed();
                }
                Err(error) => {
                    let what =
                        format!("the place in the ledger is not kept: {}", with_causes(&error));
                    says.extend(self.said_of_place.is_new(&what).then_some(what));
                }
            }
        }
        let missed = self.records.as_ref().map_or(0, Records::missed);
        if missed > self.missed {
            says.push(format!(
                "{} records were gone before they were passed on",
                missed - self.missed
            ));
            self.missed = missed;
        }
        Ok(says)
    }

    fn pass_on(&mut self, says: &mut Vec<String>) -> Result<(), Stop> {
        let failed = |error: &dyn std::error::Error| Stop::Ledger(with_causes(error));
        let records = match &mut self.records {
            Some(records) => records,
            None => self.records.insert(begin(&self.ledger, &self.place, says)?),
        };
        for _ in 0..KEEP {
            let Some(entry) = records.next_record().map_err(|error| failed(&error))? else { break };
            let mut line = serde_json::to_vec(&entry.event).map_err(|error| failed(&error))?;
            line.push(b'\n');
            self.out.write_all(&line).map_err(Stop::Out)?;
            self.is_ahead = true;
        }
        Ok(())
    }
}

fn begin(ledger: &Ledger, place: &Path, says: &mut Vec<String>) -> Result<Records, Stop> {
    let beginning = || Ok(Records::from_beginning(ledger.clone()));
    let cursor = match Cursor::load(place) {
        Ok(Some(cursor)) => cursor,
        Ok(None) => return beginning(),
        Err(error @ CursorError::Damaged { .. }) => {
            let why = with_causes(&error);
            says.push(format!("the ledger is passed on from its beginning: {why}"));
            return beginning();
        }
        Err(error) => return Err(Stop::Ledger(with_causes(&error))),
    };
    let (records, resumed) = Records::resume(ledger.clone(), &cursor)
        .map_err(|error| Stop::Ledger(with_causes(&error)))?;
    match resumed {
        Resumed::Another => says.push(
            "the ledger is another one than before: it is passed on from its beginning".to_owned(),
        ),
        Resumed::Earlier => says.push(
            "the end of the ledger is lost: some records before it are passed on again".to_owned(),
        ),
        Resumed::Behind | Resumed::Later => {}
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use portcullis_testkit::events::decision;
    use portcullis_types::Event;

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

    /// A node whose ledger has these records.
    fn node(ids: &[&str]) -> (tempfile::TempDir, Settings, Ledger) {
        let root = tempfile::tempdir().unwrap();
        let settings = Settings::default().below(root.path());
        let ledger = Ledger::new(settings.paths().events(), settings.max_event_bytes);
        ids.iter().for_each(|id| append(&ledger, id));
        (root, settings, ledger)
    }

    fn append(ledger: &Ledger, id: &str) {
        ledger.append(&decision(id)).unwrap();
    }

    /// What one look says, and what is passed on by then.
    fn looked(passing: &mut Passing<Out>) -> (Vec<String>, Vec<String>) {
        let says = passing.look().unwrap();
        (says, passing.out.ids())
    }

    #[test]
    fn each_record_is_passed_on_once_over_restarts() {
        let (_root, settings, ledger) = node(&[]);
        assert!(forwarded(&settings).is_empty());
        append(&ledger, "1");
        append(&ledger, "2");
        assert_eq!(forwarded(&settings), ["1", "2"]);
        append(&ledger, "3");
        assert_eq!(forwarded(&settings), ["3"]);
        assert!(forwarded(&settings).is_empty());
    }

    #[test]
    fn a_damaged_place_is_named_and_all_is_passed_on_again() {
        let (_root, settings, _) = node(&["1", "2"]);
        let mut passing = Passing::new(&settings, Out::default());
        assert_eq!(looked(&mut passing), (vec![], vec!["1".to_owned(), "2".to_owned()]));
        for garbage in ["", "{\"seq\":1}", "\0\0\0\0"] {
            std::fs::write(&passing.place, garbage).unwrap();
            let mut again = Passing::new(&settings, Out::default());
            let (says, ids) = looked(&mut again);
            assert_eq!(ids, ["1", "2"], "{garbage:?}");
            let [said] = says.as_slice() else { panic!("{says:?}") };
            assert!(said.contains("from its beginning"), "{said}");
            assert!(said.contains(&passing.place.display().to_string()), "{said}");
            // The place is a good one again.
            assert!(forwarded(&settings).is_empty());
        }
    }

    #[test]
    fn what_goes_wrong_at_the_beginning_is_said_once_and_passes() {
        let (_root, settings, ledger) = node(&["1"]);
        assert_eq!(forwarded(&settings), ["1"]);
        append(&ledger, "2");
        let place = Passing::new(&settings, Out::default()).place;
        let kept = std::fs::read(&place).unwrap();
        let aside = settings.paths().root().join("aside");
        for broken in [ledger.path(), place] {
            std::fs::rename(&broken, &aside).unwrap();
            std::fs::create_dir(&broken).unwrap();
            let mut passing = Passing::new(&settings, Out::default());
            let (says, ids) = looked(&mut passing);
            let [said] = says.as_slice() else { panic!("{says:?}") };
            assert!(
                said.contains("later") && said.contains(&broken.display().to_string()),
                "{said}"
            );
            assert!(ids.is_empty());
            assert_eq!(looked(&mut passing), (vec![], vec![]));
            std::fs::remove_dir(&broken).unwrap();
            std::fs::rename(&aside, &broken).unwrap();
            assert_eq!(looked(&mut passing), (vec![], vec!["2".to_owned()]));
            // The next time it is to go on from here, too.
            std::fs::write(&passing.place, &kept).unwrap();
        }
    }

    #[test]
    fn a_ledger_that_fails_within_a_batch_repeats_nothing_later() {
        let (_root, settings, ledger) = node(&["1"]);
        let mut passing = Passing::new(&settings, Out::default());
        passing.look().unwrap();
        append(&ledger, "2");
        let aside = ledger.folder().join(format!("events-{:020}.jsonl", 1));
        std::fs::rename(ledger.path(), aside).unwrap();
        std::fs::create_dir(ledger.path()).unwrap();
        let (says, ids) = looked(&mut passing);
        assert_eq!((says.len(), ids), (1, vec!["1".to_owned(), "2".to_owned()]), "{says:?}");
        std::fs::remove_dir(ledger.path()).unwrap();
        append(&ledger, "3");
        assert_eq!(forwarded(&settings), ["3"]);
    }

    #[test]
    fn what_is_written_after_a_loss_of_power_is_passed_on() {
        let (_root, settings, ledger) = node(&["1", "2", "3"]);
        let files = [ledger.path(), ledger.folder().join("head")];
        let on_disk = files.each_ref().map(|file| std::fs::read(file).unwrap());
        append(&ledger, "4");
        assert_eq!(forwarded(&settings), ["1", "2", "3", "4"]);
        for (file, bytes) in files.iter().zip(on_disk) {
            std::fs::write(file, bytes).unwrap();
        }
        // Under the number of the one that is lost.
        append(&ledger, "5");
        let mut passing = Passing::new(&settings, Out::default());
        let (says, ids) = looked(&mut passing);
        assert_eq!(ids, ["5"]);
        assert!(says.len() == 1 && says[0].contains("is lost"), "{says:?}");
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
        let (_root, settings, _) = node(&[]);
        let forward = Forward::begin(&settings, Gone).unwrap();
        forward.thread.join().unwrap();
    }
}
