//! What is written for some groups: their frames, laid out so that contents need not be copied.
//!
//! Invariant: a frame is whole in the draft before any octet of it is written.

use std::{io::IoSlice, ops::Range};

use bytes::Bytes;
use merpati_mail::{Event, Lsn, QueueId, Time, event::Keeping};

use crate::{
    Body, Entry, Group, SpoolError, codec,
    format::{
        BodyKind, ENTRY_HEADER_OCTETS, EntryHeader, FRAME_HEADER_OCTETS, FrameHeader, padded,
    },
    handle::{Raw, Shared},
    wire::{put_u32, put_u64},
};

/// Frames that are about to be written.
#[derive(Default)]
pub(crate) struct Draft {
    /// Everything but the contents.
    octets: Vec<u8>,
    /// Contents, and before which octet of `octets` each of them goes.
    bodies: Vec<(usize, Bytes)>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) entries: Vec<Drafted>,
    /// Whether any of the groups adds a message.
    pub(crate) grows: bool,
}

/// A frame of a draft.
pub(crate) struct Frame {
    octets: Range<usize>,
    bodies: Range<usize>,
    pub(crate) entries: Range<usize>,
    length: u64,
    /// Over the checksums of its entries so far.
    entries_sum: u32,
}

impl Frame {
    /// Octets of the whole frame, padding included.
    pub(crate) const fn frame_octets(&self) -> u64 {
        padded(FRAME_HEADER_OCTETS as u64 + self.length)
    }
}

/// What the index is told of an entry once it is written.
pub(crate) struct Drafted {
    pub(crate) keeping: Keeping,
    /// From the beginning of its frame.
    pub(crate) offset: u64,
    pub(crate) octets: u64,
    pub(crate) has_file: bool,
}

/// A content on its way into an entry.
struct Content {
    kind: BodyKind,
    pieces: Vec<Bytes>,
    sum: u32,
}

impl Draft {
    pub(crate) fn clear(&mut self) {
        self.octets.clear();
        self.octets.shrink_to(SCRATCH_KEPT_OCTETS);
        self.bodies.clear();
        self.frames.clear();
        self.entries.clear();
        self.grows = false;
    }

    /// Adds the frame of a group.
    pub(crate) fn add(&mut self, group: &Group, shared: &Shared) -> Result<(), SpoolError> {
        self.grows |= group.grows();
        let mut frame = self.begin();
        for entry in &group.entries {
            let content = content(entry, shared)?;
            self.entry(group.at, &entry.event, content, &mut frame);
        }
        self.end(frame);
        Ok(())
    }

    /// Adds a frame with a record as it was read, content included.
    pub(crate) fn copy(&mut self, raw: &Raw) -> Result<(), SpoolError> {
        let mut frame = self.begin();
        let event = codec::decode(raw.event()).map_err(|why| raw.corrupt(why.to_string()))?;
        let (kind, octets, sum) = raw.body_as_it_is();
        let content = Content { kind, pieces: vec![octets], sum };
        self.entry(raw.at(), &event, content, &mut frame);
        self.end(frame);
        Ok(())
    }

    fn begin(&mut self) -> Frame {
        let at = self.octets.len();
        self.octets.resize(at + FRAME_HEADER_OCTETS, 0);
        Frame {
            octets: at..at,
            bodies: self.bodies.len()..self.bodies.len(),
            entries: self.entries.len()..self.entries.len(),
            length: 0,
            entries_sum: 0,
        }
    }

    fn entry(&mut self, at: Time, event: &Event, content: Content, frame: &mut Frame) {
        let offset = self.frame_len(frame);
        let header_at = self.octets.len();
        self.octets.resize(header_at + ENTRY_HEADER_OCTETS, 0);
        codec::encode(event, &mut self.octets);
        let (before, event_octets) = self.octets.split_at_mut(header_at + ENTRY_HEADER_OCTETS);
        let body_octets: usize = content.pieces.iter().map(Bytes::len).sum();
        let header = EntryHeader {
            event_octets: len_u32(event_octets.len()),
            body_octets: len_u32(body_octets),
            kind: content.kind,
            body_sum: content.sum,
            at,
            sum: 0,
        };
        let header = header.encode(event_octets);
        frame.entries_sum = crc32c::crc32c_append(frame.entries_sum, EntryHeader::sum_of(&header));
        if let Some(place) = before.get_mut(header_at..) {
            place.copy_from_slice(&header);
        }
        for piece in content.pieces {
            if piece.len() <= COPIED_OCTETS {
                self.octets.extend_from_slice(&piece);
            } else {
                self.bodies.push((self.octets.len(), piece));
            }
        }
        self.entries.push(Drafted {
            keeping: event.keeping(),
            offset,
            octets: self.frame_len(frame) - offset,
            has_file: content.kind == BodyKind::File,
        });
    }

    fn end(&mut self, mut frame: Frame) {
        frame.bodies.end = self.bodies.len();
        frame.entries.end = self.entries.len();
        let total = self.frame_len(&frame);
        frame.length = total - FRAME_HEADER_OCTETS as u64;
        for _ in total..frame.frame_octets() {
            self.octets.push(0);
        }
        frame.octets.end = self.octets.len();
        self.frames.push(frame);
    }

    /// Octets of a frame so far.
    fn frame_len(&self, frame: &Frame) -> u64 {
        let bodies = self.bodies.get(frame.bodies.start..).unwrap_or_default();
        let bodies: u64 = bodies.iter().map(|(_, body)| body.len() as u64).sum();
        (self.octets.len() - frame.octets.start) as u64 + bodies
    }

    /// Fills in the headers of some frames, now that it is known where they go.
    pub(crate) fn address(
        &mut self,
        frames: Range<usize>,
        mark: u64,
        mut first: Lsn,
        synced: Lsn,
    ) -> Lsn {
        for frame in self.frames.get(frames).unwrap_or_default() {
            let count = len_u32(frame.entries.len());
            let length = u32::try_from(frame.length).unwrap_or(u32::MAX);
            let entries_sum = frame.entries_sum;
            let header = FrameHeader { mark, length, count, first, synced, entries_sum };
            let range = frame.octets.start..frame.octets.start + FRAME_HEADER_OCTETS;
            if let Some(place) = self.octets.get_mut(range) {
                place.copy_from_slice(&header.encode());
            }
            first = Lsn(first.0 + u64::from(count));
        }
        first
    }

    /// The octets of some frames, in the order in which they are written.
    pub(crate) fn slices(&self, frames: Range<usize>) -> Vec<IoSlice<'_>> {
        let frames = self.frames.get(frames).unwrap_or_default();
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            return Vec::new();
        };
        let bodies = self.bodies.get(first.bodies.start..last.bodies.end).unwrap_or_default();
        let mut slices = Vec::with_capacity(2 * bodies.len() + 1);
        let mut at = first.octets.start;
        for (before, body) in bodies {
            slices.push(IoSlice::new(self.octets.get(at..*before).unwrap_or_default()));
            slices.push(IoSlice::new(body));
            at = *before;
        }
        slices.push(IoSlice::new(self.octets.get(at..last.octets.end).unwrap_or_default()));
        slices
    }
}

fn content(entry: &Entry, shared: &Shared) -> Result<Content, SpoolError> {
    match &entry.body {
        Body::None => Ok(Content { kind: BodyKind::None, pieces: Vec::new(), sum: 0 }),
        Body::Bytes(pieces) => {
            let sum = pieces.iter().fold(0, |sum, piece| crc32c::crc32c_append(sum, piece));
            Ok(Content { kind: BodyKind::Inline, pieces: pieces.clone(), sum })
        }
        Body::File(file) => {
            let mut reference = Vec::with_capacity(12);
            put_u64(&mut reference, file.len());
            put_u32(&mut reference, file.sum());
            let sum = crc32c::crc32c(&reference);
            Ok(Content { kind: BodyKind::File, pieces: vec![reference.into()], sum })
        }
        Body::Same => {
            let Some(id) = opened(&entry.event) else {
                return Ok(Content { kind: BodyKind::None, pieces: Vec::new(), sum: 0 });
            };
            // A content that went bad goes along with its checksum, so that a reader finds out.
            let (kind, octets, sum) = shared.raw(id)?.body_as_it_is();
            Ok(Content { kind, pieces: vec![octets], sum })
        }
    }
}

fn opened(event: &Event) -> Option<QueueId> {
    match event.keeping() {
        Keeping::Opens(id) | Keeping::Stores(id) => Some(id),
        Keeping::About(_) | Keeping::Closes(_) | Keeping::Latest(_) => None,
    }
}

/// A length that a segment can hold fits; others are refused before they are written.
fn len_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// A piece up to this length is cheaper to copy than to hand to the kernel by itself.
const COPIED_OCTETS: usize = 512;
const SCRATCH_KEPT_OCTETS: usize = 4 * 1_024 * 1_024;
