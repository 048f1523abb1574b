//! What can go wrong with the spool, and who has to act.
//!
//! Invariant: after [`SpoolError::Io`] from a write or a sync, nothing that was not durable before
//! may be told to anybody, and the process has to end; recovery decides what is there.

use std::{fmt, io, path::PathBuf};

use merpati_mail::QueueId;

use crate::format::{FORMAT_VERSION, FORMAT_VERSION_OLDEST};

/// Why the spool did not do what it was asked.
#[derive(Debug)]
pub enum SpoolError {
    /// What was once stored cannot be read: storage, or a newer version wrote it.
    Corrupt {
        /// Which file.
        file: PathBuf,
        /// Where in it, in octets.
        offset: u64,
        /// What does not fit.
        why: String,
    },
    /// There is no room, and nothing was written: 452 4.3.1. Later it may work.
    Full {
        /// What is exhausted, for the operator.
        why: String,
    },
    /// The operating system failed: 451 4.3.0. From a write or a sync it is final.
    Io {
        /// What was tried, with the name of the file.
        what: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process uses the directory.
    Locked {
        /// The lock file.
        file: PathBuf,
        /// The process that holds it, if it says so.
        pid: Option<u32>,
    },
    /// No such message is kept.
    Missing(QueueId),
    /// An earlier write or sync failed; nothing more is written: 451 4.3.0.
    Poisoned,
    /// A group does not fit into a segment, and nothing was written: 552 5.3.4.
    TooLarge {
        /// What it would take, in octets.
        octets: u64,
        /// What there is at most, in octets.
        limit: u64,
    },
    /// Another version of the program wrote this, in a format that is not read here; nothing was
    /// changed.
    Version {
        /// Which file.
        file: PathBuf,
        /// Its format version.
        found: u16,
    },
}

impl SpoolError {
    /// Whether the spool can go on: nothing was written, and what is durable stays so.
    pub const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Corrupt { .. } | Self::Full { .. } | Self::Missing(_) | Self::TooLarge { .. }
        )
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { file, offset, why } => {
                write!(f, "{} is damaged at octet {offset}: {why}", file.display())
            }
            Self::Full { why } => write!(f, "the spool is full: {why}"),
            Self::Io { what, source } => write!(f, "cannot {what}: {source}"),
            Self::Locked { file, pid: Some(pid) } => {
                write!(f, "process {pid} already uses the spool ({} is locked)", file.display())
            }
            Self::Locked { file, pid: None } => {
                write!(f, "another process already uses the spool ({} is locked)", file.display())
            }
            Self::Missing(id) => write!(f, "the spool does not hold {id}"),
            Self::Poisoned => f.write_str("an earlier write to the spool failed"),
            Self::TooLarge { octets, limit } => {
                write!(f, "{octets} octets do not fit into a segment of {limit}")
            }
            Self::Version { file, found } if *found > FORMAT_VERSION => write!(
                f,
                "{} has format version {found}, which a newer program wrote; this one reads up to \
                 version {FORMAT_VERSION}",
                file.display()
            ),
            Self::Version { file, found } => write!(
                f,
                "{} has format version {found}, which this program reads no more; it reads from \
                 version {FORMAT_VERSION_OLDEST} on",
                file.display()
            ),
        }
    }
}

impl std::error::Error for SpoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Corrupt { .. }
            | Self::Full { .. }
            | Self::Locked { .. }
            | Self::Missing(_)
            | Self::Poisoned
            | Self::TooLarge { .. }
            | Self::Version { .. } => None,
        }
    }
}
