//! Which frames of a segment count: `docs/format.md` §4, point 4.
//!
//! Invariant: in the newest segment nothing behind the first frame that does not read counts,
//! unless a later frame proves that it was durable once.

use std::path::PathBuf;

use merpati_mail::{Event, Lsn, Time};

use crate::{
    SpoolError, codec,
    format::{ENTRY_HEADER_OCTETS, EntryHeader, FRAME_HEADER_OCTETS, FRAMES_AT, FrameHeader},
    io::IoFile,
    recover::Located,
};

/// An event with the place of its entry.
pub(crate) struct Found {
    pub(crate) at: Time,
    pub(crate) event: Event,
    pub(crate) offset: u64,
    pub(crate) octets: u64,
    pub(crate) has_file: bool,
    /// Whether the content in the entry was looked at, and its checksum is wrong.
    pub(crate) has_bad_body: bool,
}

/// What comes next in a segment.
pub(crate) enum Step {
    /// Octets that were durable once and do not read.
    Damage { offset: u64, octets: u64, why: String },
    /// The segment ends at this offset.
    End(u64),
    /// A frame with its entries.
    Frame(FrameHeader, Vec<Found>),
}

/// Reads a segment from its first frame on.
pub(crate) struct Scan<'a> {
    segment: &'a Located,
    path: PathBuf,
    window: Window<'a>,
    at: u64,
    /// The place of the next event; `None` before the first frame.
    next: Option<Lsn>,
    /// Whether all octets up to the limit were durable once.
    is_sealed: bool,
    /// Whether contents are looked at in a sealed segment too.
    reads_bodies: bool,
    limit: u64,
}

enum Look {
    Bad(&'static str),
    Good(FrameHeader, Vec<Found>),
}

impl<'a> Scan<'a> {
    pub(crate) fn new(segment: &'a Located, path: PathBuf) -> Self {
        let limit = segment.end.map_or(segment.octets, |(end, _)| end.min(segment.octets));
        Self {
            segment,
            path,
            window: Window {
                file: &*segment.file,
                buffer: Vec::new(),
                from: 0,
                octets: usize::try_from(limit).map_or(WINDOW_OCTETS, |l| l.min(WINDOW_OCTETS)),
            },
            at: FRAMES_AT,
            next: None,
            is_sealed: segment.end.is_some(),
            reads_bodies: false,
            limit,
        }
    }

    /// Looks at all contents. One that is bad does not take its frame along where the segment is
    /// sealed: [`Found::has_bad_body`] tells it.
    pub(crate) const fn reading_bodies(mut self) -> Self {
        self.reads_bodies = true;
        self
    }

    /// The next frame; after [`Step::End`] there is none.
    pub(crate) fn step(&mut self) -> Result<Step, SpoolError> {
        if self.at >= self.limit {
            return Ok(Step::End(self.at));
        }
        match self.look(self.at, !self.is_sealed)? {
            Look::Good(header, found) if self.next.is_none_or(|next| header.first >= next) => {
                self.at += header.frame_octets();
                self.next = Some(Lsn(header.first.0 + u64::from(header.count)));
                Ok(Step::Frame(header, found))
            }
            Look::Good(..) => self.pass("a frame is older than the one before it"),
            Look::Bad(why) => self.pass(why),
        }
    }

    /// Passes over octets that do not read, if they were durable once.
    fn pass(&mut self, why: &'static str) -> Result<Step, SpoolError> {
        let offset = self.at;
        let from = self.after_bad(offset)?;
        let behind = self.search(from)?;
        let to = match behind {
            Some(at) if self.is_sealed || self.is_proven(at)? => at,
            Some(_) | None if self.is_sealed => self.limit,
            Some(_) | None => {
                self.limit = offset;
                return Ok(Step::End(offset));
            }
        };
        self.at = to;
        Ok(Step::Damage { offset, octets: to - offset, why: why.to_owned() })
    }

    /// Where the frame behind a bad one may begin: behind it, if its own header is good. Inside
    /// is content, which may imitate frames.
    fn after_bad(&mut self, at: u64) -> Result<u64, SpoolError> {
        let header = self.header(at)?;
        let end = header.map_or(at + 8, |header| at + header.frame_octets());
        Ok(if end > self.limit { at + 8 } else { end })
    }

    /// The next good frame at or behind `at`.
    fn search(&mut self, mut at: u64) -> Result<Option<u64>, SpoolError> {
        let mark = self.segment.mark.to_le_bytes();
        while at < self.limit {
            let octets = self.window.get(at, SEARCH_OCTETS.min(self.limit - at))?;
            if octets.len() < FRAME_HEADER_OCTETS {
                return Ok(None);
            }
            let searched = octets.len() as u64 / 8 * 8;
            match octets.as_chunks::<8>().0.iter().position(|chunk| *chunk == mark) {
                None => at += searched,
                Some(chunk) => {
                    at += 8 * chunk as u64;
                    if matches!(self.look(at, true)?, Look::Good(..)) {
                        return Ok(Some(at));
                    }
                    at += 8;
                }
            }
        }
        Ok(None)
    }

    /// Whether frames from `at` on say that all before the frame at `at` was on stable storage.
    fn is_proven(&mut self, at: u64) -> Result<bool, SpoolError> {
        let Some(first) = self.header(at)?.map(|header| header.first) else { return Ok(false) };
        let mut at = Some(at);
        while let Some(frame) = at {
            let Some(header) = self.header(frame)? else { return Ok(false) };
            if header.synced >= first {
                return Ok(true);
            }
            at = self.search(frame + header.frame_octets())?;
        }
        Ok(false)
    }

    fn header(&mut self, at: u64) -> Result<Option<FrameHeader>, SpoolError> {
        let header = FrameHeader::decode(self.window.get(at, FRAME_HEADER_OCTETS as u64)?);
        Ok(header.filter(|header| header.mark == self.segment.mark))
    }

    fn look(&mut self, at: u64, with_bodies: bool) -> Result<Look, SpoolError> {
        let Some(header) = self.header(at)? else {
            return Ok(Look::Bad("there is no frame"));
        };
        let end = at + FRAME_HEADER_OCTETS as u64 + u64::from(header.length);
        if end > self.limit {
            return Ok(Look::Bad("a frame is longer than its segment"));
        }
        let mut found = Vec::new();
        let mut offset = at + FRAME_HEADER_OCTETS as u64;
        let mut entries_sum = 0;
        for _ in 0..header.count {
            let octets = self.window.get(offset, ENTRY_HEADER_OCTETS as u64)?;
            let Some(entry) = EntryHeader::decode(octets) else {
                return Ok(Look::Bad("the header of an entry does not read"));
            };
            entries_sum = crc32c::crc32c_append(entries_sum, EntryHeader::sum_of(octets));
            if entry.entry_octets() > end - offset {
                return Ok(Look::Bad("an entry is longer than its frame"));
            }
            let octets = self
                .window
                .get(offset + ENTRY_HEADER_OCTETS as u64, u64::from(entry.event_octets))?;
            if octets.len() < entry.event_octets as usize || !entry.covers(octets) {
                return Ok(Look::Bad("the checksum of an event is wrong"));
            }
            let event = codec::decode(octets).map_err(|why| SpoolError::Corrupt {
                file: self.path.clone(),
                offset,
                why: format!("{why}; perhaps a newer version wrote it"),
            })?;
            let has_bad_body =
                (with_bodies || self.reads_bodies) && !self.body_is_whole(offset, &entry)?;
            if with_bodies && has_bad_body {
                return Ok(Look::Bad("the checksum of a content is wrong"));
            }
            let has_file = entry.kind == crate::format::BodyKind::File;
            let octets = entry.entry_octets();
            found.push(Found { at: entry.at, event, offset, octets, has_file, has_bad_body });
            offset += entry.entry_octets();
        }
        if offset != end {
            return Ok(Look::Bad("a frame is longer than its entries"));
        }
        // A slot is used again: where a torn write left out the entries, older ones may lie there.
        if entries_sum != header.entries_sum {
            return Ok(Look::Bad("the entries are not those of the frame"));
        }
        Ok(Look::Good(header, found))
    }

    fn body_is_whole(&mut self, at: u64, entry: &EntryHeader) -> Result<bool, SpoolError> {
        let body_at = at + ENTRY_HEADER_OCTETS as u64 + u64::from(entry.event_octets);
        let body = self.window.get(body_at, u64::from(entry.body_octets))?;
        Ok(body.len() == entry.body_octets as usize && crc32c::crc32c(body) == entry.body_sum)
    }
}

/// A piece of a file in memory.
struct Window<'a> {
    file: &'a dyn IoFile,
    buffer: Vec<u8>,
    from: u64,
    /// How much is read at a time.
    octets: usize,
}

impl Window<'_> {
    /// These octets; fewer at the end of the file.
    fn get(&mut self, at: u64, octets: u64) -> Result<&[u8], SpoolError> {
        let wanted = usize::try_from(octets).unwrap_or(usize::MAX);
        let start = at.checked_sub(self.from).and_then(|start| usize::try_from(start).ok());
        let is_there = start
            .and_then(|start| start.checked_add(wanted))
            .is_some_and(|end| end <= self.buffer.len());
        if !is_there {
            // What it held stays where it is: only what is new is filled with zeros.
            self.buffer.resize(wanted.max(self.octets), 0);
            let count = self
                .file
                .read_at(&mut self.buffer, at)
                .map_err(SpoolError::io("read a segment"))?;
            self.buffer.truncate(count);
            self.from = at;
        }
        let start = usize::try_from(at - self.from).unwrap_or(usize::MAX);
        let rest = self.buffer.get(start..).unwrap_or_default();
        Ok(rest.get(..wanted).unwrap_or(rest))
    }
}

const WINDOW_OCTETS: usize = 1024 * 1024;
const SEARCH_OCTETS: u64 = 1024 * 1024;
