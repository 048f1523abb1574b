//! How headers of segments, frames and entries lie on disk: `docs/format.md` §2 and §3.
//!
//! Invariant: a header that does not carry its checksum is no header. Pure.

use merpati_mail::{Lsn, NodeId, Time};

use crate::wire::{CodecError, Reader, put_u16, put_u32, put_u64};

/// What the header block of a slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Of the format in which the segment is written.
    pub(crate) version: u16,
    pub(crate) state: State,
    pub(crate) node: NodeId,
    pub(crate) sequence: u64,
    pub(crate) mark: u64,
    pub(crate) first: Lsn,
    pub(crate) epoch: u64,
    pub(crate) before: Option<Sealed>,
}

/// Whether a slot holds a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    Used,
}

/// A segment that is not written any more, and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) sequence: u64,
    pub(crate) mark: u64,
    pub(crate) slot: u32,
    /// The offset behind its last frame.
    pub(crate) end: u64,
    /// The place behind its last event.
    pub(crate) next: Lsn,
}

/// What a header block turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderBlock {
    Bad,
    Good(SegmentHeader),
    /// A good one of a format that we do not read.
    Other(u16),
}

impl SegmentHeader {
    /// The header of a slot without a segment.
    pub(crate) fn free(node: NodeId) -> Self {
        Self {
            version: FORMAT_VERSION,
            state: State::Free,
            node,
            sequence: 0,
            mark: 0,
            first: Lsn(0),
            epoch: 0,
            before: None,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_OCTETS);
        out.extend_from_slice(MAGIC);
        put_u16(&mut out, self.version);
        out.push(match self.state {
            State::Free => 0,
            State::Used => 1,
        });
        out.push(0);
        put_u16(&mut out, self.node.number());
        put_u16(&mut out, 0);
        for number in [self.sequence, self.mark, self.first.0, self.epoch] {
            put_u64(&mut out, number);
        }
        let before =
            self.before.unwrap_or(Sealed { sequence: 0, mark: 0, slot: 0, end: 0, next: Lsn(0) });
        for number in [before.sequence, before.mark, before.end, before.next.0] {
            put_u64(&mut out, number);
        }
        put_u32(&mut out, before.slot);
        out.resize(SEGMENT_HEADER_OCTETS - 4, 0);
        let sum = crc32c::crc32c(&out);
        put_u32(&mut out, sum);
        out
    }

    pub(crate) fn decode(octets: &[u8]) -> HeaderBlock {
        let Some(octets) = octets.get(..SEGMENT_HEADER_OCTETS) else { return HeaderBlock::Bad };
        let (covered, sum) = octets.split_at(SEGMENT_HEADER_OCTETS - 4);
        if crc32c::crc32c(covered).to_le_bytes() != sum || !covered.starts_with(MAGIC) {
            return HeaderBlock::Bad;
        }
        let mut from = Reader::new(covered);
        Self::read(&mut from).unwrap_or(HeaderBlock::Bad)
    }

    fn read(from: &mut Reader<'_>) -> Result<HeaderBlock, CodecError> {
        from.take(MAGIC.len())?;
        // Each version that is still read has its arm here: `docs/format.md` §7.
        match from.u16()? {
            1 => Self::read_version_1(from),
            other => Ok(HeaderBlock::Other(other)),
        }
    }

    fn read_version_1(from: &mut Reader<'_>) -> Result<HeaderBlock, CodecError> {
        let state = match from.u8()? {
            0 => State::Free,
            1 => State::Used,
            _ => return Ok(HeaderBlock::Bad),
        };
        from.u8()?;
        let node = NodeId::new(from.u16()?).ok_or_else(|| CodecError::new("no such node"))?;
        from.u16()?;
        let (sequence, mark) = (from.u64()?, from.u64()?);
        let (first, epoch) = (Lsn(from.u64()?), from.u64()?);
        let before = Sealed {
            sequence: from.u64()?,
            mark: from.u64()?,
            end: from.u64()?,
            next: Lsn(from.u64()?),
            slot: from.u32()?,
        };
        let before = (before.sequence != 0).then_some(before);
        let version = 1;
        Ok(HeaderBlock::Good(Self { version, state, node, sequence, mark, first, epoch, before }))
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) mark: u64,
    /// Octets of all entries.
    pub(crate) length: u32,
    pub(crate) count: u32,
    pub(crate) first: Lsn,
    pub(crate) synced: Lsn,
    /// Over the checksums of its entries, one after another.
    pub(crate) entries_sum: u32,
}

impl FrameHeader {
    pub(crate) fn encode(&self) -> [u8; FRAME_HEADER_OCTETS] {
        let mut out = Vec::with_capacity(FRAME_HEADER_OCTETS);
        put_u64(&mut out, self.mark);
        put_u32(&mut out, self.length);
        put_u32(&mut out, self.count);
        put_u64(&mut out, self.first.0);
        put_u64(&mut out, self.synced.0);
        put_u32(&mut out, self.entries_sum);
        let sum = crc32c::crc32c(&out);
        put_u32(&mut out, sum);
        out.first_chunk().copied().unwrap_or([0; FRAME_HEADER_OCTETS])
    }

    /// `None` where these are not the octets of a frame header.
    pub(crate) fn decode(octets: &[u8]) -> Option<Self> {
        let octets = octets.get(..FRAME_HEADER_OCTETS)?;
        let (covered, sum) = octets.split_at(FRAME_HEADER_OCTETS - 4);
        if crc32c::crc32c(covered).to_le_bytes() != sum {
            return None;
        }
        let mut from = Reader::new(covered);
        let header = Self {
            mark: from.u64().ok()?,
            length: from.u32().ok()?,
            count: from.u32().ok()?,
            first: Lsn(from.u64().ok()?),
            synced: Lsn(from.u64().ok()?),
            entries_sum: from.u32().ok()?,
        };
        (header.count > 0).then_some(header)
    }

    /// Octets of the whole frame, padding included.
    pub(crate) fn frame_octets(&self) -> u64 {
        padded(FRAME_HEADER_OCTETS as u64 + u64::from(self.length))
    }
}

/// The header of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    pub(crate) event_octets: u32,
    pub(crate) body_octets: u32,
    pub(crate) kind: BodyKind,
    pub(crate) body_sum: u32,
    /// When it was decided.
    pub(crate) at: Time,
    /// Over the first 24 octets and the event.
    pub(crate) sum: u32,
}

/// Where the content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyKind {
    File,
    Inline,
    None,
}

impl EntryHeader {
    /// The octets of the header, with the checksum over it and `event`.
    pub(crate) fn encode(&self, event: &[u8]) -> [u8; ENTRY_HEADER_OCTETS] {
        let mut out = Vec::with_capacity(ENTRY_HEADER_OCTETS);
        put_u32(&mut out, self.event_octets);
        put_u32(&mut out, self.body_octets);
        out.push(match self.kind {
            BodyKind::None => 0,
            BodyKind::Inline => 1,
            BodyKind::File => 2,
        });
        out.extend_from_slice(&[0; 3]);
        put_u32(&mut out, self.body_sum);
        put_u64(&mut out, self.at.as_micros());
        let sum = crc32c::crc32c_append(crc32c::crc32c(&out), event);
        put_u32(&mut out, sum);
        out.first_chunk().copied().unwrap_or([0; ENTRY_HEADER_OCTETS])
    }

    /// The octets of the checksum in those of a header.
    pub(crate) fn sum_of(octets: &[u8]) -> &[u8] {
        octets.get(ENTRY_HEADER_OCTETS - 4..ENTRY_HEADER_OCTETS).unwrap_or_default()
    }

    /// Not yet checked: see [`Self::covers`].
    pub(crate) fn decode(octets: &[u8]) -> Option<Self> {
        let mut from = Reader::new(octets);
        let (event_octets, body_octets) = (from.u32().ok()?, from.u32().ok()?);
        let kind = match from.array::<4>().ok()? {
            [0, 0, 0, 0] => BodyKind::None,
            [1, 0, 0, 0] => BodyKind::Inline,
            [2, 0, 0, 0] => BodyKind::File,
            _ => return None,
        };
        let body_sum = from.u32().ok()?;
        let at = Time::from_micros(from.u64().ok()?);
        let sum = from.u32().ok()?;
        Some(Self { event_octets, body_octets, kind, body_sum, at, sum })
    }

    /// Whether the checksum is right for this header and this event.
    pub(crate) fn covers(&self, event: &[u8]) -> bool {
        Self::decode(&self.encode(event)).is_some_and(|right| right.sum == self.sum)
    }

    /// Octets of the whole entry.
    pub(crate) fn entry_octets(&self) -> u64 {
        ENTRY_HEADER_OCTETS as u64 + u64::from(self.event_octets) + u64::from(self.body_octets)
    }
}

/// The next multiple of 8.
pub(crate) const fn padded(octets: u64) -> u64 {
    octets.div_ceil(8) * 8
}

/// The version of the format that is written, in the header of each segment.
pub const FORMAT_VERSION: u16 = 1;

/// The oldest version of the format that is still read; `docs/format.md` §7 says how one goes.
pub const FORMAT_VERSION_OLDEST: u16 = 1;

/// Where the frames of a segment begin.
pub(crate) const FRAMES_AT: u64 = 4_096;
pub(crate) const SEGMENT_HEADER_OCTETS: usize = 128;
pub(crate) const FRAME_HEADER_OCTETS: usize = 40;
pub(crate) const ENTRY_HEADER_OCTETS: usize = 28;

const MAGIC: &[u8; 8] = b"MERPATIJ";
