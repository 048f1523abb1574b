//! What is there after a crash: which segments, which frames in them, and what is damaged.
//!
//! Invariant: reading changes nothing that recovery relies on, so a crash during recovery is
//! recovered from in the same way. `docs/format.md` §4 is the text of this file.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::Arc,
};

use merpati_mail::{Lsn, NodeId, Time};

use crate::{
    SpoolError,
    format::{
        FRAME_HEADER_OCTETS, FRAMES_AT, FrameHeader, HeaderBlock, SEGMENT_HEADER_OCTETS, Sealed,
        SegmentHeader, State,
    },
    handle::{Shared, slot_name},
    io::IoFile,
    slots::{self, Maker, Slot},
};

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records that were read.
    pub records: u64,
    /// Messages that live.
    pub messages: usize,
    /// The latest time of any record; [`Time::EPOCH`] where there is none.
    pub last_at: Time,
    /// The place that the next event will have.
    pub next: Lsn,
    /// The epoch of the ids that are given from now on.
    pub epoch: u32,
    /// What could not be read although it was durable once; empty where all is well.
    pub damage: Vec<Damage>,
}

/// Octets that were durable once and cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which file.
    pub file: PathBuf,
    /// Where in it, in octets.
    pub offset: u64,
    /// How many octets were passed over.
    pub octets: u64,
    /// What does not fit.
    pub why: String,
}

/// A segment that is to be read.
pub(crate) struct Located {
    /// Of its format; `None` where its header cannot be read.
    pub(crate) version: Option<u16>,
    pub(crate) sequence: u64,
    pub(crate) slot: u32,
    pub(crate) mark: u64,
    pub(crate) epoch: u64,
    pub(crate) node: NodeId,
    /// The place of its first event.
    pub(crate) first: Lsn,
    pub(crate) octets: u64,
    pub(crate) file: Arc<dyn IoFile>,
    /// Where its frames end and which event follows, where its successor tells.
    pub(crate) end: Option<(u64, Lsn)>,
}

/// The slots of a directory, sorted out.
pub(crate) struct Survey {
    /// The oldest first.
    pub(crate) used: Vec<Located>,
    /// Slots without a segment, good ones and others.
    pub(crate) free: Vec<Seen>,
    pub(crate) next_number: u32,
    pub(crate) damage: Vec<Damage>,
}

/// A slot as it was found.
pub(crate) struct Seen {
    number: u32,
    file: Arc<dyn IoFile>,
    pub(crate) octets: u64,
    header: HeaderBlock,
}

/// Reads all headers, and changes nothing.
pub(crate) fn survey(shared: &Shared) -> Result<Survey, SpoolError> {
    let mut slots = look_at_slots(shared)?;
    let next_number = slots.last().map_or(0, |slot| slot.number.saturating_add(1));
    let mut used: BTreeMap<u64, Located> = BTreeMap::new();
    let mut sealed: BTreeMap<u64, Sealed> = BTreeMap::new();
    slots.retain(|seen| {
        let HeaderBlock::Good(header) = &seen.header else { return true };
        if header.state == State::Free {
            return true;
        }
        used.insert(header.sequence, located(seen, header));
        if let Some(before) = header.before {
            sealed.insert(before.sequence, before);
        }
        false
    });
    let mut damage = Vec::new();
    salvage(shared, &mut slots, &mut used, &sealed, &mut damage);
    for (sequence, before) in &sealed {
        if let Some(segment) = used.get_mut(sequence) {
            segment.end = Some((before.end, before.next));
        }
    }
    report_holes(shared, &used, &sealed, &mut damage);
    Ok(Survey { used: used.into_values().collect(), free: slots, next_number, damage })
}

/// Makes slots without a segment ready, those with an unusable header too.
pub(crate) fn make_ready(free: Vec<Seen>, maker: &Maker) -> Result<VecDeque<Slot>, SpoolError> {
    let mut ready = VecDeque::new();
    for seen in free {
        let is_whole = matches!(seen.header, HeaderBlock::Good(_)) && seen.octets >= maker.octets;
        let slot = if is_whole {
            // The process may have died before this header was durable.
            seen.file.sync_data().map_err(SpoolError::io("sync a free segment"))?;
            Slot { number: seen.number, octets: seen.octets, file: seen.file }
        } else {
            match maker.format(seen.number, seen.file) {
                Ok(slot) => slot,
                Err(error) if crate::large::is_no_room(&error) => continue,
                Err(error) => return Err(SpoolError::io("repair a free segment")(error)),
            }
        };
        ready.push_back(slot);
    }
    Ok(ready)
}

fn look_at_slots(shared: &Shared) -> Result<Vec<Seen>, SpoolError> {
    let dir = shared.journal();
    let names = shared.io.list(&dir).map_err(SpoolError::io(format!("list {}", dir.display())))?;
    let mut numbers: Vec<u32> = names
        .iter()
        .filter_map(|name| name.strip_suffix(".seg")?.parse().ok())
        .filter(|number| names.contains(&slot_name(*number)))
        .collect();
    numbers.sort_unstable();
    let mut slots = Vec::with_capacity(numbers.len());
    for number in numbers {
        let path = shared.slot_path(number);
        let file = slots::open(&*shared.io, &dir, number)?;
        let octets =
            file.octets().map_err(SpoolError::io(format!("measure {}", path.display())))?;
        let mut block = [0; SEGMENT_HEADER_OCTETS];
        let count = file
            .read_at(&mut block, 0)
            .map_err(SpoolError::io(format!("read {}", path.display())))?;
        let header = SegmentHeader::decode(block.get(..count).unwrap_or_default());
        if let HeaderBlock::Other(found) = header {
            return Err(SpoolError::Version { file: path, found });
        }
        slots.push(Seen { number, file, octets, header });
    }
    Ok(slots)
}

fn located(seen: &Seen, header: &SegmentHeader) -> Located {
    Located {
        version: Some(header.version),
        sequence: header.sequence,
        slot: seen.number,
        mark: header.mark,
        epoch: header.epoch,
        node: header.node,
        first: header.first,
        octets: seen.octets,
        file: Arc::clone(&seen.file),
        end: None,
    }
}

/// Finds segments whose header cannot be read: by what the next segment says of them, or by frames
/// that are newer than everything else.
fn salvage(
    shared: &Shared,
    slots: &mut Vec<Seen>,
    used: &mut BTreeMap<u64, Located>,
    sealed: &BTreeMap<u64, Sealed>,
    damage: &mut Vec<Damage>,
) {
    let newest = used.last_key_value().map(|(sequence, segment)| (*sequence, segment.epoch));
    slots.retain(|seen| {
        if seen.header != HeaderBlock::Bad {
            return true;
        }
        let Some(frame) = first_frame(&*seen.file) else { return true };
        let told = sealed
            .values()
            .find(|s| s.slot == seen.number && s.mark == frame.mark)
            .map(|s| s.sequence);
        // A slot that was being used again has only frames older than the newest segment.
        let is_newest = used.values().all(|segment| segment.first < frame.first);
        let newest_sequence = newest.map_or(1, |(sequence, _)| sequence + 1);
        let Some(sequence) = told.or(is_newest.then_some(newest_sequence)) else { return true };
        if used.contains_key(&sequence) {
            return true;
        }
        damage.push(Damage {
            file: shared.slot_path(seen.number),
            offset: 0,
            octets: 0,
            why: format!("the header cannot be read; its frames are those of segment {sequence}"),
        });
        let epoch = newest.map_or(0, |(_, epoch)| epoch);
        used.insert(
            sequence,
            Located {
                version: None,
                sequence,
                slot: seen.number,
                mark: frame.mark,
                epoch,
                node: shared.node,
                first: frame.first,
                octets: seen.octets,
                file: Arc::clone(&seen.file),
                end: None,
            },
        );
        false
    });
}

fn first_frame(file: &dyn IoFile) -> Option<FrameHeader> {
    let mut octets = [0; FRAME_HEADER_OCTETS];
    let count = file.read_at(&mut octets, FRAMES_AT).ok()?;
    FrameHeader::decode(octets.get(..count)?)
}

fn report_holes(
    shared: &Shared,
    used: &BTreeMap<u64, Located>,
    sealed: &BTreeMap<u64, Sealed>,
    damage: &mut Vec<Damage>,
) {
    let mut expected: Option<u64> = None;
    for (sequence, segment) in used {
        if expected.is_some_and(|expected| expected != *sequence) {
            let before = sealed.get(&sequence.wrapping_sub(1));
            let slot = before.map_or(segment.slot, |before| before.slot);
            damage.push(Damage {
                file: shared.slot_path(slot),
                offset: 0,
                octets: before.map_or(0, |before| before.end),
                why: format!("the segments before {sequence} are missing"),
            });
        }
        expected = Some(sequence + 1);
    }
}
