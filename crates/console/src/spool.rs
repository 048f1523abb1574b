//! What is asked of the spool as a whole, and how commands that look at one write what they found.
//!
//! Invariant: the JSON of a command that needs no relay is made here too, as that of the API is.

use merpati_mail::{
    Event, QueueId, Time,
    event::{Accepted, DeliveryState},
};

use crate::json::spool as json;

/// A copy that is complete and durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackedUp {
    /// The data directory that it is.
    pub directory: String,
    /// Messages in it.
    pub messages: u64,
    /// Octets of their contents.
    pub octets: u64,
    /// Messages that could not be read, and so are not in it, each with the reason.
    pub unreadable: Vec<(QueueId, String)>,
}

impl BackedUp {
    /// As one line of JSON.
    pub fn line(&self) -> String {
        json::line(&json::Backup::from(self))
    }
}

/// What verifying a spool found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Its directory.
    pub directory: String,
    /// Messages that live.
    pub messages: u64,
    /// Those of them whose content is a file of its own.
    pub large: u64,
    /// Segments that were read.
    pub segments: u64,
    /// Records that were read.
    pub records: u64,
    /// What cannot be read.
    pub damage: Vec<Damaged>,
    /// Where a write was begun and not completed: the file and the offset.
    pub torn: Option<(String, u64)>,
}

/// A damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The file.
    pub file: String,
    /// Where in it, in octets.
    pub offset: u64,
    /// How many octets are concerned; 0 where nobody can say.
    pub octets: u64,
    /// What does not fit.
    pub why: String,
}

impl Verified {
    /// As one line of JSON.
    pub fn line(&self) -> String {
        json::line(&json::Verified::from(self))
    }
}

/// How much a spool holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Its directory.
    pub directory: String,
    /// The oldest format version of any segment.
    pub format_version: u16,
    /// Segments in use.
    pub segments: u64,
    /// Files of segments that hold none just now.
    pub segments_free: u64,
    /// Octets of everything.
    pub bytes: u64,
    /// Octets of segments in use and of large contents.
    pub bytes_used: u64,
    /// Octets of what is needed.
    pub bytes_live: u64,
    /// Octets that the file system has left.
    pub bytes_free: u64,
    /// Messages that live.
    pub messages: u64,
    /// When the oldest of them was accepted; `None` where there is none.
    pub oldest: Option<Time>,
    /// Messages whose content is a file of its own.
    pub large: u64,
    /// Octets of these files.
    pub large_bytes: u64,
    /// Damaged places.
    pub damaged: u64,
}

impl Measured {
    /// The share of the octets in use that is needed, 0 to 1; 1 where nothing is in use.
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than a few digits")]
    pub fn share_live(&self) -> f64 {
        if self.bytes_used == 0 { 1.0 } else { self.bytes_live as f64 / self.bytes_used as f64 }
    }

    /// As one line of JSON.
    pub fn line(&self) -> String {
        json::line(&json::Measured::from(self))
    }
}

/// A message that is written out of a spool: what stands beside its content.
#[derive(Clone, Copy, Debug)]
pub struct Exported<'a> {
    /// What tells it whole: `Accepted`, `Captured` or `Carried`.
    pub event: &'a Event,
    /// The name of the file with its content.
    pub file: &'a str,
    /// The CRC-32C of the content.
    pub crc32c: u32,
    /// The format version of `record`.
    pub format_version: u16,
    /// The event as the journal writes it, in base64: what an import reads.
    pub record: &'a str,
}

impl Exported<'_> {
    /// As JSON for a person to read, too; `None` where the event tells no message.
    pub fn text(&self) -> Option<String> {
        json::Exported::of(self).map(|exported| json::text(&exported))
    }

    /// The message, and its deliveries where it has been carried.
    pub(crate) fn message(&self) -> Option<(&Accepted, Option<States<'_>>)> {
        match self.event {
            Event::Accepted(accepted) | Event::Captured(accepted) => Some((accepted, None)),
            Event::Carried(carried) => Some((&carried.accepted, Some(&carried.deliveries))),
            Event::Attempted(_)
            | Event::Cancelled(_)
            | Event::ConfigChanged { .. }
            | Event::Delayed { .. }
            | Event::Expired { .. }
            | Event::Held { .. }
            | Event::Released { .. }
            | Event::Rerouted { .. }
            | Event::Retired(_) => None,
        }
    }
}

/// The living deliveries of a message: the place of the recipient, and its state.
pub(crate) type States<'a> = &'a [(u32, DeliveryState)];

/// What says that an export is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Messages in it.
    pub messages: u64,
}

impl Manifest {
    /// As JSON.
    pub fn text(self) -> String {
        json::text(&json::Manifest::from(self))
    }
}
