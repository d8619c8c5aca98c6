//! What can go wrong with a store, and which failure cause of a policy that is.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_types::{Cause, Digest, Verdict};

use crate::MAX_FINDINGS;
use crate::frame::{MAX_FILE, OLDEST, VERSION};

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The verdict is there, and is not what was once written.
    #[error("the verdict {path} is damaged: {what}")]
    Corrupt {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        what: Damage,
    },
    /// Someone else could have written it, or it is no file at all; what it says is not believed.
    #[error("{path} is not trusted: it {what}")]
    Untrusted {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, as the rest of a sentence.
        what: &'static str,
    },
    /// The system did not let us read. A store that does not exist is one that cannot be read.
    #[error("the verdict store cannot be read at {path}")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system did not let us write.
    #[error("the verdict store cannot be written: cannot {operation} {path}")]
    Unwritable {
        /// What was tried: `create`, `rename`.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another writer did not finish in time.
    #[error("another process has held the lock {path} for {} s", waited.as_secs())]
    Busy {
        /// The lock's file.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// The report would be one too many.
    #[error(
        "{config} has {} reports already, none of which the new one replaces: remove them with \
         `portcullis verdict rm {config}` and import those that should count",
        Verdict::MAX_REPORTS
    )]
    TooManyReports {
        /// The image.
        config: Digest,
    },
    /// The verdict would be too large to be read at each start.
    #[error(
        "the reports about {config} would be too large together (at most {MAX_FINDINGS} findings \
         in {} MiB): remove those stored with `portcullis verdict rm {config}`, or import less",
        MAX_FILE >> 20
    )]
    TooLarge {
        /// The image.
        config: Digest,
    },
    /// A config digest stands for one list of layers, so one of two reports is wrong.
    #[error(
        "the stored verdict about {config} names the layers {stored}, the report {reported}: one \
         of them is wrong; if it is the stored one, remove it with `portcullis verdict rm {config}`"
    )]
    OtherLayers {
        /// The image.
        config: Digest,
        /// Chain ID that is stored.
        stored: Digest,
        /// Chain ID that the report names.
        reported: Digest,
    },
}

impl StoreError {
    /// The cause by which a policy names this failure.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Corrupt { .. } => Cause::StoreCorrupt,
            // What may not be believed has not been read.
            Self::Untrusted { .. }
            | Self::Unreadable { .. }
            | Self::Unwritable { .. }
            | Self::Busy { .. }
            | Self::TooManyReports { .. }
            | Self::TooLarge { .. }
            | Self::OtherLayers { .. } => Cause::StoreUnreadable,
        }
    }
}

/// What is wrong with a damaged verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The file ends before the header does.
    #[error("it has only {0} bytes")]
    Short(usize),
    /// The file does not begin as verdicts do.
    #[error("it is not a verdict")]
    Foreign,
    /// Another version of Portcullis wrote it.
    #[error(
        "it has format {found}, and this program reads formats {OLDEST} to {VERSION}: scan or \
         import again"
    )]
    Version {
        /// The format of the file.
        found: u8,
    },
    /// The file is longer or shorter than its header says.
    #[error("it has a body of {found} bytes and should have {wanted}")]
    Length {
        /// What the header says.
        wanted: u64,
        /// What is there.
        found: u64,
    },
    /// A byte changed.
    #[error("its checksum does not match")]
    Checksum,
    /// The file is larger than any verdict we write.
    #[error("it has {0} bytes, more than any verdict")]
    Oversized(u64),
    /// The checksum matches, yet the body is none that we write.
    #[error("its body cannot be decoded: {0}")]
    Body(&'static str),
    /// The file lies under another image's name.
    #[error("it is about {0}")]
    OtherImage(Digest),
}
