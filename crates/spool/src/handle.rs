//! What other threads may do with a spool: take names, read contents, store large ones.
//!
//! Invariant: what is read is checked; a record that moves meanwhile is found again.

use std::{
    collections::HashSet,
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use merpati_mail::{Event, NodeId, QueueId, Time, event::Accepted};

use crate::{
    BodyFile, LargeBody, SpoolError, Stored, StoredBody, Told, codec,
    format::{BodyKind, ENTRY_HEADER_OCTETS, EntryHeader},
    index::{Index, Place},
    io::{Io, IoFile},
    wire::Reader,
};

/// The part of a spool that any thread may use; cheap to clone.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Shared>);

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("dir", &self.0.dir).finish_non_exhaustive()
    }
}

impl Handle {
    /// Our next name for a message; never given twice. The counters above
    /// [`QueueId::GIVEN_COUNTER_MAX`] are left to others.
    pub fn next_id(&self) -> QueueId {
        loop {
            let number = self.0.ids.fetch_add(1, Ordering::Relaxed);
            let (epoch, counter) = (number >> 32, number & u64::from(u32::MAX));
            let counter = u32::try_from(counter).unwrap_or(u32::MAX);
            if counter <= QueueId::GIVEN_COUNTER_MAX {
                return QueueId::new(
                    self.0.node,
                    u32::try_from(epoch).unwrap_or(u32::MAX),
                    counter,
                );
            }
            self.0.ids.fetch_max((epoch + 1) << 32, Ordering::Relaxed);
        }
    }

    /// The message as it was accepted, captured or last carried, with its content. Blocks for the
    /// disk where the page cache does not have it.
    ///
    /// [`SpoolError::Missing`] where it does not live; [`SpoolError::Corrupt`] where it cannot be
    /// read any more.
    pub fn read(&self, id: QueueId) -> Result<Stored, SpoolError> {
        let Told { event, body, .. } = self.told(id)?;
        let accepted = into_accepted(event).ok_or(SpoolError::Missing(id))?;
        Ok(Stored { accepted, body })
    }

    /// The names of all messages that live, in their order. What is appended is among them, be it
    /// durable or not.
    pub fn messages(&self) -> Vec<QueueId> {
        self.0.index().messages().collect()
    }

    /// Whether a message of this name lives.
    pub fn contains(&self, id: QueueId) -> bool {
        self.0.index().place(id).is_some()
    }

    /// The event that tells the message whole, as it lies in the journal, with its content; what
    /// was appended about it since is not in it. Blocks and fails as [`Self::read`] does.
    pub fn told(&self, id: QueueId) -> Result<Told, SpoolError> {
        self.where_it_is(id, || self.told_once(id))
    }

    /// The message as it was accepted, captured or last carried, also where its content is lost or
    /// damaged. Blocks and fails as [`Self::read`] does.
    pub fn accepted(&self, id: QueueId) -> Result<Accepted, SpoolError> {
        self.where_it_is(id, || {
            let event = Self::event(&self.0.raw(id)?, id)?;
            into_accepted(event).ok_or(SpoolError::Missing(id))
        })
    }

    /// Reads a record, wherever it lies by now.
    fn where_it_is<T>(
        &self,
        id: QueueId,
        read: impl Fn() -> Result<T, SpoolError>,
    ) -> Result<T, SpoolError> {
        let mut seen = HashSet::new();
        loop {
            let place = self.0.index().place(id).ok_or(SpoolError::Missing(id))?;
            match read() {
                // It was carried elsewhere while we read: look again, but not for ever.
                Err(SpoolError::Corrupt { .. })
                    if seen.insert((place.sequence, place.offset))
                        && self.0.index().place(id) != Some(place) => {}
                other => return other,
            }
        }
    }

    fn told_once(&self, id: QueueId) -> Result<Told, SpoolError> {
        let raw = self.0.raw(id)?;
        raw.check_body()?;
        let event = Self::event(&raw, id)?;
        let body = match raw.body()? {
            RawBody::Inline(bytes) => StoredBody::Bytes(bytes),
            RawBody::File { octets, sum } => StoredBody::File(self.0.body_file(id, octets, sum)?),
        };
        Ok(Told { at: raw.at(), event, body })
    }

    /// The event of a record that is to tell this message whole.
    fn event(raw: &Raw, id: QueueId) -> Result<Event, SpoolError> {
        let event = codec::decode(raw.event()).map_err(|why| raw.corrupt(why.to_string()))?;
        let Some(accepted) = accepted_of(&event) else {
            return Err(raw.corrupt("it does not tell a message".to_owned()));
        };
        // The slot may hold another segment by now, with a record of the same length there.
        if accepted.id != id {
            return Err(raw.corrupt(format!("it tells {} in place of {id}", accepted.id)));
        }
        Ok(event)
    }

    /// Octets of the file system that new messages leave to others.
    pub fn free_bytes_min(&self) -> u64 {
        self.0.free_bytes_min
    }

    /// Begins a content that is larger than [`crate::LARGE_BODY_BYTES`].
    pub fn large(&self, id: QueueId) -> Result<LargeBody, SpoolError> {
        let dir = self.0.bodies();
        let free = self.0.io.free_bytes(&dir).map_err(SpoolError::io("ask for free room"))?;
        if free < self.0.free_bytes_min {
            let why = format!("the file system has only {free} octets left");
            return Err(SpoolError::Full { why });
        }
        if self.0.bytes_used() >= self.0.bytes_max {
            let why = format!("{} octets are in use", self.0.bytes_max);
            return Err(SpoolError::Full { why });
        }
        LargeBody::create(&self.0.io, &dir, id, &self.0.body_octets)
    }
}

/// The message that an event tells whole; `None` where it tells none.
pub(crate) fn accepted_of(event: &Event) -> Option<&Accepted> {
    match event {
        Event::Accepted(accepted) | Event::Captured(accepted) => Some(accepted),
        Event::Carried(carried) => Some(&carried.accepted),
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

/// The same, without a copy.
fn into_accepted(event: Event) -> Option<Accepted> {
    match event {
        Event::Accepted(accepted) | Event::Captured(accepted) => Some(*accepted),
        Event::Carried(carried) => Some(carried.accepted),
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

/// What the owner of the journal and its readers share.
pub(crate) struct Shared {
    pub(crate) io: Arc<dyn Io>,
    pub(crate) dir: PathBuf,
    pub(crate) node: NodeId,
    pub(crate) free_bytes_min: u64,
    pub(crate) bytes_max: u64,
    /// The next name: epoch in the upper half, counter in the lower. It runs over into the next
    /// epoch, which the header of the next segment records.
    pub(crate) ids: AtomicU64,
    /// Octets of all large contents.
    pub(crate) body_octets: Arc<AtomicU64>,
    pub(crate) index: Mutex<Index>,
    /// Segments in use that recovery has yet to read.
    pub(crate) segments_unread: AtomicUsize,
    /// Whether the index knows all that lives; before that nothing may go.
    pub(crate) is_whole: AtomicBool,
}

impl Shared {
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        // Each change of the index is whole before the lock is given back.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Octets of all segments in use and all large contents.
    pub(crate) fn bytes_used(&self) -> u64 {
        let segments: u64 = self.index().segments.iter().map(|segment| segment.octets).sum();
        segments + self.body_octets.load(Ordering::Relaxed)
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }

    pub(crate) fn bodies(&self) -> PathBuf {
        self.dir.join("bodies")
    }

    pub(crate) fn slot_path(&self, slot: u32) -> PathBuf {
        self.journal().join(slot_name(slot))
    }

    pub(crate) fn body_file(
        &self,
        id: QueueId,
        octets: u64,
        sum: u32,
    ) -> Result<BodyFile, SpoolError> {
        BodyFile::open(&self.io, self.bodies().join(id.to_string()), octets, sum)
    }

    /// The octets of the record from which a message can be rebuilt.
    pub(crate) fn raw(&self, id: QueueId) -> Result<Raw, SpoolError> {
        let (place, slot, file) = {
            let index = self.index();
            let place = index.place(id).ok_or(SpoolError::Missing(id))?;
            let segment = index.segment(place.sequence).ok_or(SpoolError::Missing(id))?;
            (place, segment.slot, Arc::clone(&segment.file))
        };
        self.raw_at(place, slot, &*file)
    }

    pub(crate) fn raw_at(
        &self,
        place: Place,
        slot: u32,
        file: &dyn IoFile,
    ) -> Result<Raw, SpoolError> {
        let path = self.slot_path(slot);
        let mut octets = vec![0; place.octets as usize];
        let count = file
            .read_at(&mut octets, u64::from(place.offset))
            .map_err(SpoolError::io(format!("read {}", path.display())))?;
        octets.truncate(count);
        let corrupt = |why: &str| SpoolError::Corrupt {
            file: path.clone(),
            offset: u64::from(place.offset),
            why: why.to_owned(),
        };
        let octets = Bytes::from(octets);
        let header =
            EntryHeader::decode(&octets).ok_or_else(|| corrupt("the entry is cut short"))?;
        let raw = Raw { octets, header, place, path: path.clone() };
        if !header.covers(raw.event()) || header.entry_octets() != u64::from(place.octets) {
            return Err(corrupt("the checksum of the event is wrong"));
        }
        Ok(raw)
    }
}

/// An entry as it lies on disk, its checksums right.
pub(crate) struct Raw {
    octets: Bytes,
    header: EntryHeader,
    place: Place,
    path: PathBuf,
}

/// A content as the journal has it.
pub(crate) enum RawBody {
    File { octets: u64, sum: u32 },
    Inline(Bytes),
}

impl Raw {
    pub(crate) fn event(&self) -> &[u8] {
        let end = ENTRY_HEADER_OCTETS + self.header.event_octets as usize;
        self.octets.get(ENTRY_HEADER_OCTETS..end).unwrap_or_default()
    }

    pub(crate) fn body(&self) -> Result<RawBody, SpoolError> {
        let at = self.octets.len() - self.body_octets().len();
        match self.header.kind {
            BodyKind::None => Ok(RawBody::Inline(Bytes::new())),
            BodyKind::Inline => Ok(RawBody::Inline(self.octets.slice(at..))),
            BodyKind::File => {
                let mut from = Reader::new(self.body_octets());
                match (from.u64(), from.u32()) {
                    (Ok(octets), Ok(sum)) => Ok(RawBody::File { octets, sum }),
                    _ => Err(self.corrupt("the reference to a file is cut short".to_owned())),
                }
            }
        }
    }

    pub(crate) fn check_body(&self) -> Result<(), SpoolError> {
        if crc32c::crc32c(self.body_octets()) == self.header.body_sum {
            return Ok(());
        }
        Err(self.corrupt("the checksum of the content is wrong".to_owned()))
    }

    /// The content as it lies in the entry, with its checksum, right or wrong.
    pub(crate) fn body_as_it_is(&self) -> (BodyKind, Bytes, u32) {
        let at = self.octets.len() - self.body_octets().len();
        (self.header.kind, self.octets.slice(at..), self.header.body_sum)
    }

    pub(crate) fn corrupt(&self, why: String) -> SpoolError {
        SpoolError::Corrupt { file: self.path.clone(), offset: self.offset(), why }
    }

    /// When it was decided.
    pub(crate) const fn at(&self) -> Time {
        self.header.at
    }

    fn body_octets(&self) -> &[u8] {
        let at = ENTRY_HEADER_OCTETS + self.header.event_octets as usize;
        self.octets.get(at..).unwrap_or_default()
    }

    pub(crate) const fn offset(&self) -> u64 {
        self.place.offset as u64
    }
}

/// The name of a slot's file.
pub(crate) fn slot_name(slot: u32) -> String {
    format!("{slot:04}.seg")
}
