//! What is done between commits: files and segments go, records are copied, slots are made.
//!
//! Invariant: nothing goes before that which made it needless is durable; segments go strictly
//! from the oldest on, each durably before the next.

use std::{io::IoSlice, sync::Arc, sync::atomic::Ordering};

use crate::{
    SpoolError,
    disk::{Disk, KEPT_BACK},
    format::SegmentHeader,
    index::{Index, Place},
    slots::Slot,
};

impl Disk {
    /// A bounded piece of work; true if there is more.
    pub(crate) fn keep_up(&mut self) -> Result<bool, SpoolError> {
        if !self.shared.is_whole.load(Ordering::Acquire) {
            // What looks needless may be needed: nobody knows before all is read.
            let used = self.shared.index().segments.len();
            return self.slots.prepare(self.segments_ready + KEPT_BACK, used);
        }
        let has_more_files = self.remove_files()?;
        let has_more_segments = self.free_segments()?;
        let has_more_copies = self.copy_forward()?;
        let used = self.shared.index().segments.len();
        let has_more_slots = self.slots.prepare(self.segments_ready + KEPT_BACK, used)?;
        Ok(has_more_files || has_more_segments || has_more_copies || has_more_slots)
    }

    /// Removes large contents whose messages have ended durably.
    fn remove_files(&mut self) -> Result<bool, SpoolError> {
        for _ in 0..FILES_A_CALL {
            let Some((lsn, id)) = self.doomed.front().copied() else { return Ok(false) };
            if lsn >= self.durable {
                return Ok(false);
            }
            self.doomed.pop_front();
            // It may have been told anew with a file meanwhile.
            if self.shared.index().place(id).is_some_and(|place| place.has_file) {
                continue;
            }
            let path = self.shared.bodies().join(id.to_string());
            let octets = self.shared.io.open(&path).and_then(|file| file.octets()).unwrap_or(0);
            match self.shared.io.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(SpoolError::io(format!("remove {}", path.display()))(error));
                }
                Ok(()) | Err(_) => {}
            }
            self.shared.body_octets.fetch_sub(octets, Ordering::Relaxed);
        }
        Ok(!self.doomed.is_empty())
    }

    fn free_segments(&mut self) -> Result<bool, SpoolError> {
        for _ in 0..SEGMENTS_A_CALL {
            let slot = {
                let index = self.shared.index();
                // The newest one stays: it holds the epoch and the end of the journal.
                let Some(oldest) = index.segments.front().filter(|_| index.segments.len() > 1)
                else {
                    return Ok(false);
                };
                if oldest.live_count > 0 || oldest.released >= self.durable {
                    return Ok(false);
                }
                Slot { number: oldest.slot, octets: oldest.octets, file: Arc::clone(&oldest.file) }
            };
            let header = SegmentHeader::free(self.shared.node).encode();
            let written = slot.file.write_at(&mut [IoSlice::new(&header)], 0);
            if let Err(source) = written.and_then(|()| slot.file.sync_data()) {
                self.is_poisoned = true;
                return Err(SpoolError::Io { what: "free a segment".to_owned(), source });
            }
            self.shared.index().segments.pop_front();
            self.slots.give_back(slot, SLOTS_KEPT.max(self.segments_ready + KEPT_BACK))?;
        }
        Ok(true)
    }

    /// Copies records of the oldest segment that nobody else can tell anew.
    fn copy_forward(&mut self) -> Result<bool, SpoolError> {
        let places = {
            let index = self.shared.index();
            if !index.wants_carry() {
                return Ok(false);
            }
            index.to_copy(COPY_OCTETS_A_CALL)
        };
        if places.is_empty() {
            return Ok(false);
        }
        self.draft.clear();
        for place in places {
            self.draft_copy(place)?;
        }
        match self.write_draft() {
            Ok(_) => Ok(true),
            // Deliveries make room; until then the records stay where they are.
            Err(SpoolError::Full { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn draft_copy(&mut self, place: Place) -> Result<(), SpoolError> {
        let (slot, file) = {
            let index = self.shared.index();
            let Some(segment) = index.segment(place.sequence) else { return Ok(()) };
            (segment.slot, Arc::clone(&segment.file))
        };
        let copied = self.shared.raw_at(place, slot, &*file).and_then(|raw| self.draft.copy(&raw));
        if matches!(copied, Err(SpoolError::Corrupt { .. })) {
            // It can never be read again; it must not keep the journal from shrinking.
            self.shared.index().forget(place);
        }
        copied
    }
}

impl Index {
    /// Whether what lives in the oldest segment should be written anew, so that it may go.
    pub(crate) fn wants_carry(&self) -> bool {
        let Some(oldest) = self.segments.front() else { return false };
        if self.segments.len() < 2 || oldest.live_count == 0 {
            return false;
        }
        let is_mostly_dead = oldest.live_octets < oldest.octets / LIVE_FRACTION;
        let used = self.segments.len() as u64;
        let needed = 2 * oldest.octets + USED_FACTOR * self.live_octets;
        is_mostly_dead || used * oldest.octets > needed
    }
}

const FILES_A_CALL: usize = 64;
const SEGMENTS_A_CALL: usize = 4;
const COPY_OCTETS_A_CALL: u64 = 1_024 * 1_024;

/// Free slots that are kept for their written blocks; more of them are removed.
const SLOTS_KEPT: usize = 8;
/// A segment is mostly dead when less than one part in so many lives.
const LIVE_FRACTION: u64 = 4;
/// Segments may take so many times the octets that live.
const USED_FACTOR: u64 = 2;
