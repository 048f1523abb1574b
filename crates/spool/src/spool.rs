//! The seam: what survives a crash?
//!
//! Invariant: what [`Spool::sync`] has covered survives any crash; what it has not may be lost,
//! but always from the end: whatever is found again is found with everything appended before it.

use std::ops::Range;

use bytes::Bytes;
use merpati_mail::{
    Event, Lsn, NodeId, QueueId, Time,
    event::{Accepted, Keeping},
};

use crate::{BodyFile, Handle, SpoolError, handle::accepted_of};

/// What survives a crash: a journal of events, and the contents that belong to them.
///
/// The caller commits like this: `append` what waits, `sync` if any of it must be told, then tell;
/// and calls `maintain` in between, and appends `Carried` for what `carry_wanted` names.
pub trait Spool: Send {
    /// Writes groups at the end of the journal; they are durable only after [`Self::sync`].
    ///
    /// Gives the places of the events, in the order of groups and entries. On
    /// [`SpoolError::Full`], [`SpoolError::TooLarge`], [`SpoolError::Missing`] and
    /// [`SpoolError::Corrupt`] nothing at all was written; where only groups that
    /// [grow](Group::grows) are too many, the others may be appended alone. On any error nothing
    /// of this call may be told to anybody.
    fn append(&mut self, groups: &[Group]) -> Result<Range<Lsn>, SpoolError>;

    /// Makes everything appended so far durable; gives the end: each event below it is durable.
    ///
    /// An error is final: the spool is poisoned, and recovery decides what is there.
    fn sync(&mut self) -> Result<Lsn, SpoolError>;

    /// The end of what is durable: each event with a lower place is.
    fn durable(&self) -> Lsn;

    /// What other threads may do with the spool: take ids, read contents, store large ones.
    fn handle(&self) -> Handle;

    /// Up to `max` messages whose state should be written anew, so that the oldest segment may go.
    ///
    /// The answer is an [`Event::Carried`] for each, with [`Body::Same`]; a message that has
    /// finished meanwhile needs none. Empty: nothing to do.
    fn carry_wanted(&mut self, max: usize) -> Vec<QueueId>;

    /// Frees what may be freed, copies what the spool itself carries, prepares segments.
    ///
    /// Does a bounded piece of work; true if it should be called again soon. What it copies is
    /// durable with the next [`Self::sync`].
    fn maintain(&mut self) -> Result<bool, SpoolError>;

    /// How much room there is.
    fn pressure(&self) -> Pressure;

    /// The node that this spool writes for.
    fn node(&self) -> NodeId;

    /// Our next name for a message.
    fn next_id(&self) -> QueueId {
        self.handle().next_id()
    }

    /// The stored message; see [`Handle::read`].
    fn read(&self, id: QueueId) -> Result<Stored, SpoolError> {
        self.handle().read(id)
    }
}

/// Events that survive a crash together or not at all: a DSN's Accepted with the failure that it
/// answers.
#[derive(Clone, Debug)]
pub struct Group {
    /// When it was decided.
    pub at: Time,
    /// At least one.
    pub entries: Vec<Entry>,
}

impl Group {
    /// A group of one event without a body.
    pub fn of(at: Time, event: Event) -> Self {
        Self { at, entries: vec![Entry { event, body: Body::None }] }
    }

    /// A group of one event and its body.
    pub fn with_body(at: Time, event: Event, body: Body) -> Self {
        Self { at, entries: vec![Entry { event, body }] }
    }

    /// Whether it adds a message, so that a full spool refuses it.
    pub fn grows(&self) -> bool {
        self.entries.iter().any(|entry| match entry.event.keeping() {
            // A message told anew takes the room of the old telling, which then goes.
            Keeping::Opens(_) => !matches!(entry.event, Event::Carried(_)),
            Keeping::Stores(_) => true,
            Keeping::About(_) | Keeping::Closes(_) | Keeping::Latest(_) => false,
        })
    }
}

/// An event with the content that belongs to it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was decided.
    pub event: Event,
    /// The content; only `Opens` and `Stores` events may have one.
    pub body: Body,
}

/// The content of a message on its way into the spool.
#[derive(Clone, Debug)]
pub enum Body {
    /// The content in pieces; it is written with the event, never copied.
    Bytes(Vec<Bytes>),
    /// A content that is already in a file of its own: [`crate::LargeBody::finish`].
    File(BodyFile),
    /// None, or an empty one.
    None,
    /// The content that the spool already holds for this message; for `Carried`.
    Same,
}

/// A message as the spool holds it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// As it was accepted, captured or last carried.
    pub accepted: Accepted,
    /// Its content.
    pub body: StoredBody,
}

/// A message as the journal tells it.
#[derive(Clone, Debug)]
pub struct Told {
    /// When that was written.
    pub at: Time,
    /// `Accepted`, `Captured` or `Carried`.
    pub event: Event,
    /// Its content.
    pub body: StoredBody,
}

impl Told {
    /// The message as it was accepted or captured; `None` where the event tells none.
    pub fn accepted(&self) -> Option<&Accepted> {
        accepted_of(&self.event)
    }
}

/// The content of a stored message.
#[derive(Clone, Debug)]
pub enum StoredBody {
    /// The whole content; its checksum was right.
    Bytes(Bytes),
    /// A file of its own, to be read in pieces.
    File(BodyFile),
}

impl StoredBody {
    /// Its length in octets.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(file) => file.len(),
        }
    }

    /// Whether it has no octet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How much room the spool has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// What that means.
    pub level: Level,
    /// Segments in use.
    pub segments_used: usize,
    /// Those of them that recovery has yet to read; what is in them is not counted here yet.
    pub segments_unread: usize,
    /// Free segments that are ready.
    pub segments_ready: usize,
    /// Octets of one segment.
    pub segment_bytes: u64,
    /// Octets of all segments in use and all large contents.
    pub bytes_used: u64,
    /// Octets of the records that are needed, large contents left out.
    pub bytes_live: u64,
    /// Octets that may still be used, by the options and by the file system.
    pub bytes_free: u64,
    /// Messages that live.
    pub messages: usize,
}

/// What the spool takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Roomy,
    /// New messages are refused, or soon will be; outcomes are taken.
    OutcomesOnly,
    /// Outcomes may be refused as well.
    Full,
}
