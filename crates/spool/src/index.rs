//! Which records are needed, where they lie, and which segment may therefore go.
//!
//! Invariant: for each segment, `live_octets` and `live_count` tell what in it is needed, and
//! `released` the place of the last record that made something in it needless. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use merpati_mail::{IdMap, Lsn, QueueId, event::Keeping};

use crate::io::IoFile;

/// Where a record lies: 16 octets, so that a message costs about 25 in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The segment, modulo 2^32.
    pub(crate) sequence: u32,
    /// The offset of the entry in the slot.
    pub(crate) offset: u32,
    /// Octets of the entry.
    pub(crate) octets: u32,
    pub(crate) keeps: Keeps,
    /// Whether its content is a file of its own.
    pub(crate) has_file: bool,
}

/// Who can write the record anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// The owner of the queue.
    Opens,
    /// The spool.
    Stores,
}

/// A segment in use.
pub(crate) struct Segment {
    pub(crate) sequence: u64,
    pub(crate) slot: u32,
    pub(crate) octets: u64,
    pub(crate) file: Arc<dyn IoFile>,
    /// The messages whose record was written here, in order; some of them live.
    opened: Vec<QueueId>,
    /// How far in `opened` somebody was asked to carry.
    asked: usize,
    pub(crate) live_octets: u64,
    pub(crate) live_count: u32,
    pub(crate) released: Lsn,
}

impl Segment {
    pub(crate) fn new(sequence: u64, slot: u32, octets: u64, file: Arc<dyn IoFile>) -> Self {
        Self {
            sequence,
            slot,
            octets,
            file,
            opened: Vec::new(),
            asked: 0,
            live_octets: 0,
            live_count: 0,
            released: Lsn(0),
        }
    }
}

/// The records that are needed.
#[derive(Default)]
pub(crate) struct Index {
    messages: IdMap<Place>,
    latest: BTreeMap<&'static str, (Lsn, Place)>,
    /// The oldest first.
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) live_octets: u64,
}

impl Index {
    /// A segment begins; what was written before lies in the others.
    pub(crate) fn begin(&mut self, segment: Segment) {
        if let Some(newest) = self.segments.back_mut() {
            newest.opened.shrink_to_fit();
        }
        self.segments.push_back(segment);
    }

    /// All of this segment was read.
    pub(crate) fn read(&mut self, sequence: u64) {
        if let Some(segment) = self.segment_mut(low(sequence)) {
            segment.opened.shrink_to_fit();
        }
    }

    /// Takes note of a record. Gives the message whose large content is not needed any more.
    pub(crate) fn apply(&mut self, keeping: Keeping, place: Place, lsn: Lsn) -> Option<QueueId> {
        match keeping {
            Keeping::About(_) => None,
            Keeping::Closes(id) => {
                let old = self.messages.remove(id)?;
                self.release(old, lsn);
                old.has_file.then_some(id)
            }
            Keeping::Latest(name) => {
                self.need(place);
                let newer = self.latest.get(name).filter(|(newest, _)| *newest > lsn).copied();
                if let Some((newest, _)) = newer {
                    // What recovery reads may be older than what was written meanwhile.
                    self.release(place, newest);
                } else if let Some((_, old)) = self.latest.insert(name, (lsn, place)) {
                    self.release(old, lsn);
                }
                None
            }
            Keeping::Opens(id) | Keeping::Stores(id) => {
                let old = self.messages.insert(id, place);
                self.need(place);
                if let Some(segment) = self.segment_mut(place.sequence) {
                    segment.opened.push(id);
                }
                let old = old?;
                self.release(old, lsn);
                (old.has_file && !place.has_file).then_some(id)
            }
        }
    }

    /// Gives up a record that cannot be read any more.
    pub(crate) fn forget(&mut self, place: Place) {
        self.messages.retain(|_, other| *other != place);
        self.latest.retain(|_, (_, other)| *other != place);
        self.release(place, Lsn(0));
    }

    pub(crate) fn place(&self, id: QueueId) -> Option<Place> {
        self.messages.get(id).copied()
    }

    /// The segment with this sequence modulo 2^32.
    pub(crate) fn segment(&self, sequence: u32) -> Option<&Segment> {
        self.position(sequence).and_then(|at| self.segments.get(at))
    }

    /// The messages that live, in the order of their names.
    pub(crate) fn messages(&self) -> impl Iterator<Item = QueueId> {
        self.messages.iter().map(|(id, _)| id)
    }

    /// How many messages live.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Messages in the oldest segment that somebody else must carry, not asked for just now.
    pub(crate) fn ask_to_carry(&mut self, max: usize) -> Vec<QueueId> {
        let Some(oldest) = self.segments.front_mut() else { return Vec::new() };
        let sequence = low(oldest.sequence);
        if oldest.asked >= oldest.opened.len() {
            oldest.asked = 0;
        }
        let mut found = Vec::new();
        for id in oldest.opened.iter().skip(oldest.asked) {
            if found.len() >= max {
                break;
            }
            oldest.asked += 1;
            let place = self.messages.get(*id);
            if place.is_some_and(|p| p.sequence == sequence && p.keeps == Keeps::Opens) {
                found.push(*id);
            }
        }
        found
    }

    /// Records in the oldest segment that the spool copies, up to so many octets of them.
    pub(crate) fn to_copy(&self, octets_max: u64) -> Vec<Place> {
        let Some(oldest) = self.segments.front() else { return Vec::new() };
        let sequence = low(oldest.sequence);
        let latest = self.latest.values().map(|(_, place)| *place);
        let stored = oldest.opened.iter().filter_map(|id| self.place(*id));
        let mut octets = 0;
        let mut places: Vec<Place> = latest
            .chain(stored)
            .filter(|place| place.sequence == sequence && place.keeps == Keeps::Stores)
            .take_while(|place| {
                let fits = octets == 0 || octets + u64::from(place.octets) <= octets_max;
                octets += u64::from(place.octets);
                fits
            })
            .collect();
        // A message that was told twice in this segment is named twice.
        places.sort_by_key(|place| place.offset);
        places.dedup();
        places
    }

    fn need(&mut self, place: Place) {
        self.live_octets += u64::from(place.octets);
        if let Some(segment) = self.segment_mut(place.sequence) {
            segment.live_octets += u64::from(place.octets);
            segment.live_count += 1;
        }
    }

    fn release(&mut self, place: Place, lsn: Lsn) {
        self.live_octets -= u64::from(place.octets);
        if let Some(segment) = self.segment_mut(place.sequence) {
            segment.live_octets -= u64::from(place.octets);
            segment.live_count -= 1;
            segment.released = segment.released.max(lsn);
        }
    }

    fn segment_mut(&mut self, sequence: u32) -> Option<&mut Segment> {
        self.position(sequence).and_then(|at| self.segments.get_mut(at))
    }

    fn position(&self, sequence: u32) -> Option<usize> {
        // Almost always without holes, so that the distance is the position.
        let first = low(self.segments.front()?.sequence);
        let guess = sequence.wrapping_sub(first) as usize;
        let fits = |at: usize| self.segments.get(at).is_some_and(|s| low(s.sequence) == sequence);
        if fits(guess) {
            return Some(guess);
        }
        self.segments.iter().position(|segment| low(segment.sequence) == sequence)
    }
}

/// The lower half of a sequence; no journal has 2^32 segments at a time.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
pub(crate) const fn low(sequence: u64) -> u32 {
    sequence as u32
}
