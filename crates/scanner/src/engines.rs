//! The engines that search for malware, as a job asks for them.

use std::io;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use portcullis_inventory::protocol::Job;
use portcullis_malware::clamd::{Answer, ClamdError, Session};
use portcullis_malware::yara::{CompileError, Match, Rules, ScanError, Source};
use portcullis_types::with_causes;

use crate::detect::{Detector, Detectors, Hit, Searched};
use crate::link::Link;

/// Sets the engines up, and tells their names and versions.
pub(crate) fn prepare(job: &Job, link: &Rc<Link>) -> Result<(Detectors, Vec<String>), String> {
    let mut engines: Vec<Box<dyn Detector>> = Vec::new();
    let mut versions = Vec::new();
    if !job.rules.is_empty() {
        let rules = compiled(&job.rules).map_err(|error| with_causes(&error))?;
        versions.push(format!("YARA rules {}", rules.digest()));
        engines.push(Box::new(Yara(rules)));
    }
    if job.clamd {
        let mut clamd =
            Clamd { link: Rc::clone(link), session: None, most: job.limits.searched_bytes };
        versions.push(clamd.version().map_err(|error| with_causes(&error))?);
        engines.push(Box::new(clamd));
    }
    Ok((Detectors::new(engines, job.limits.searched_bytes), versions))
}

/// clamd, over connections that whoever started this process makes.
struct Clamd {
    link: Rc<Link>,
    session: Option<Session<UnixStream>>,
    most: u64,
}

impl Clamd {
    fn session(&mut self) -> io::Result<&mut Session<UnixStream>> {
        let session = match self.session.take() {
            Some(session) => session,
            None => {
                let stream = self.link.connect()?.ok_or_else(|| {
                    io::Error::new(
                        io::ErrorKind::NotConnected,
                        "clamd cannot be reached: start it, or scan with --no-clamd",
                    )
                })?;
                Session::open(stream).map_err(io::Error::other)?
            }
        };
        Ok(self.session.insert(session))
    }

    /// `ClamAV 1.4.3, signatures 27800`.
    fn version(&mut self) -> io::Result<String> {
        let version = self.session()?.version().map_err(io::Error::other)?;
        let signatures = version.signatures.map(|number| format!(", signatures {number}"));
        Ok(format!("{}{}", version.engine, signatures.unwrap_or_default()))
    }
}

impl Detector for Clamd {
    fn name(&self) -> &'static str {
        "clamav"
    }

    fn search(&mut self, _: &str, content: &[u8]) -> io::Result<Searched> {
        let unread = |why: &str| Searched { unread: Some(why.to_owned()), ..Searched::default() };
        let most = self.most;
        // clamd ends a session that was idle for long, and whenever it loads signatures anew.
        let mut is_second = false;
        loop {
            let error = match self.session()?.scan(&mut &*content, most) {
                Ok(Answer::Clean) => return Ok(Searched::default()),
                Ok(Answer::Found(name)) => {
                    let hits = vec![Hit { name, severity: None, description: None }];
                    return Ok(Searched { hits, unread: None });
                }
                Ok(Answer::TooLarge) => {
                    self.session = None;
                    return Ok(unread("it is larger than clamd's limits"));
                }
                Err(ClamdError::Refused { reason }) => return Ok(unread(&reason)),
                Err(error) => error,
            };
            self.session = None;
            if std::mem::replace(&mut is_second, true) {
                return Err(io::Error::other(error));
            }
        }
    }
}

/// How long the rules may take for a file.
const A_FILE: Duration = Duration::from_secs(30);

fn compiled(rules: &[(String, Vec<u8>)]) -> Result<Rules, CompileError> {
    let sources = rules.iter().map(|(name, text)| Source {
        name: name.clone(),
        // Rules for bytes that are no text are written in hexadecimal.
        text: String::from_utf8_lossy(text).into_owned(),
    });
    Rules::compile(&sources.collect::<Vec<_>>(), A_FILE)
}

/// The node's rules of YARA.
struct Yara(Rules);

impl Detector for Yara {
    fn name(&self) -> &'static str {
        "yara"
    }

    fn search(&mut self, path: &str, content: &[u8]) -> io::Result<Searched> {
        let hit = |found: Match| Hit {
            name: found.rule,
            severity: Some(found.severity.to_string()),
            description: found.description,
        };
        let hits = |found: Vec<Match>| found.into_iter().map(hit).collect();
        match self.0.scan_at(path, content) {
            Ok(found) => Ok(Searched { hits: hits(found), unread: None }),
            Err(error) => {
                let why = error.to_string();
                let found = match error {
                    ScanError::Timeout { found } => found,
                    _ => Vec::new(),
                };
                Ok(Searched { hits: hits(found), unread: Some(why) })
            }
        }
    }
}
