//! The reading of all segments, the oldest first: the index as the writer had it, and the records.
//!
//! Invariant: what is read changes the index as it did when it was written; records that are
//! written meanwhile are about other messages, and never older.

use std::{
    collections::VecDeque,
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
};

use merpati_mail::{Event, Lsn, QueueId, Record, Time, event::Keeping};

use crate::{
    Damage, Recovery, SpoolError,
    ahead::{SEGMENTS, Steps},
    disk::place,
    format::Sealed,
    handle::Shared,
    index::{Place, Segment, low},
    recover::Located,
    scan::{Found, Scan, Step},
};

/// Why all segments are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To check everything in them, and change nothing.
    Check,
    /// To know what lives, and change nothing.
    Look,
    /// To go on with them. What cannot be read is set aside.
    Recover,
}

/// The reading of all segments.
pub(crate) struct Replay<'a> {
    shared: &'a Shared,
    purpose: Purpose,
    each: &'a mut dyn FnMut(Record) -> ControlFlow<()>,
    pub(crate) recovery: Recovery,
    pub(crate) next: Lsn,
    pub(crate) newest: Option<Sealed>,
    /// The latest of any name.
    pub(crate) epoch: u64,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        purpose: Purpose,
        damage: Vec<Damage>,
        each: &'a mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Self {
        let recovery = Recovery { damage, ..Recovery::default() };
        Self { shared, purpose, each, recovery, next: Lsn(1), newest: None, epoch: 0 }
    }

    /// Reads these segments, of which the index knows nothing but that they are there. Breaks off
    /// where who takes the records wants no more.
    pub(crate) fn all(
        &mut self,
        segments: &[Located],
        in_background: bool,
    ) -> Result<ControlFlow<()>, SpoolError> {
        let (shared, purpose) = (self.shared, self.purpose);
        if !in_background {
            for segment in segments {
                let steps = Steps::Here(Box::new(scan(shared, purpose, segment)));
                if self.segment(segment, steps)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            return Ok(ControlFlow::Continue(()));
        }
        std::thread::scope(|scope| {
            let mut coming = segments.iter();
            let mut begun: VecDeque<(&Located, Steps<'_>)> = VecDeque::new();
            loop {
                let room = SEGMENTS.saturating_sub(begun.len());
                let more = coming.by_ref().take(room);
                begun.extend(
                    more.map(|segment| {
                        (segment, Steps::ahead(scope, scan(shared, purpose, segment)))
                    }),
                );
                let Some((segment, steps)) = begun.pop_front() else {
                    return Ok(ControlFlow::Continue(()));
                };
                if self.segment(segment, steps)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        })
    }

    fn segment(
        &mut self,
        segment: &Located,
        mut steps: Steps<'_>,
    ) -> Result<ControlFlow<()>, SpoolError> {
        let Located { sequence, slot, .. } = *segment;
        self.next = self.next.max(segment.first);
        let damage_before = self.recovery.damage.len();
        let end = loop {
            match steps.step()? {
                Step::Frame(header, found) => {
                    if self.frame(segment, header.first, found).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Step::Damage { offset, octets, why } => {
                    if self.purpose == Purpose::Recover {
                        set_aside(self.shared, segment, offset, octets);
                    }
                    self.damage(slot, offset, octets, why);
                }
                Step::End(end) => break end,
            }
        };
        if let Some((sealed_end, next)) = segment.end {
            let is_short = end < sealed_end || self.next < next;
            if is_short && self.recovery.damage.len() == damage_before {
                let why = "the segment ends before its recorded end".to_owned();
                self.damage(slot, end, sealed_end.saturating_sub(end), why);
            }
            self.next = self.next.max(next);
        }
        self.newest = Some(Sealed { sequence, mark: segment.mark, slot, end, next: self.next });
        self.shared.index().read(sequence);
        self.shared.segments_unread.fetch_sub(1, Ordering::Relaxed);
        Ok(ControlFlow::Continue(()))
    }

    fn frame(&mut self, segment: &Located, first: Lsn, found: Vec<Found>) -> ControlFlow<()> {
        let mut lsn = first;
        for entry in found {
            let keeping = entry.event.keeping();
            let place = place(low(segment.sequence), entry.offset, entry.octets, keeping);
            let place = Place { has_file: entry.has_file, ..place };
            self.check_body(segment.slot, &entry);
            self.record(segment, lsn, place, (entry.at, entry.event))?;
            lsn = Lsn(lsn.0 + 1);
        }
        self.next = lsn;
        ControlFlow::Continue(())
    }

    fn record(
        &mut self,
        segment: &Located,
        lsn: Lsn,
        place: Place,
        (at, event): (Time, Event),
    ) -> ControlFlow<()> {
        let keeping = event.keeping();
        if let Some(id) = message(keeping) {
            self.epoch = self.epoch.max(epoch(id));
        }
        // Contents that are not needed any more are found by their names at the end.
        self.shared.index().apply(keeping, place, lsn);
        self.recovery.records += 1;
        self.recovery.last_at = self.recovery.last_at.max(at);
        (self.each)(Record { lsn, at, node: segment.node, event })
    }

    fn check_body(&mut self, slot: u32, entry: &Found) {
        if !entry.has_bad_body {
            return;
        }
        let whose = match entry.event.keeping() {
            Keeping::Opens(id) | Keeping::Stores(id) => id.to_string(),
            Keeping::About(_) | Keeping::Closes(_) | Keeping::Latest(_) => "a message".to_owned(),
        };
        let why = format!("the checksum of the content of {whose} is wrong");
        self.damage(slot, entry.offset, entry.octets, why);
    }

    fn damage(&mut self, slot: u32, offset: u64, octets: u64, why: String) {
        let file = self.shared.slot_path(slot);
        self.recovery.damage.push(Damage { file, offset, octets, why });
    }
}

/// Tells the index which segments there are, before anything in them is read.
pub(crate) fn register(shared: &Shared, segments: &[Located]) {
    let all = segments.iter().map(|segment| {
        let Located { sequence, slot, octets, .. } = *segment;
        Segment::new(sequence, slot, octets, Arc::clone(&segment.file))
    });
    shared.index().segments.extend(all);
    shared.segments_unread.store(segments.len(), Ordering::Relaxed);
}

/// The message that a record is about.
pub(crate) const fn message(keeping: Keeping) -> Option<QueueId> {
    match keeping {
        Keeping::About(id) | Keeping::Closes(id) | Keeping::Opens(id) | Keeping::Stores(id) => {
            Some(id)
        }
        Keeping::Latest(_) => None,
    }
}

/// The epoch of a name.
pub(crate) fn epoch(id: QueueId) -> u64 {
    (id.bits() >> 32) & u64::from(QueueId::EPOCH_MAX)
}

fn scan<'a>(shared: &Shared, purpose: Purpose, segment: &'a Located) -> Scan<'a> {
    let scan = Scan::new(segment, shared.slot_path(segment.slot));
    match purpose {
        Purpose::Check => scan.reading_bodies(),
        Purpose::Look | Purpose::Recover => scan,
    }
}

/// Keeps a copy of what cannot be read, for the operator; a failure to do so changes nothing.
fn set_aside(shared: &Shared, segment: &Located, offset: u64, octets: u64) {
    let dir = shared.dir.join("corrupt");
    let path = dir.join(format!("{}-{offset}", segment.sequence));
    let copy = || -> std::io::Result<()> {
        shared.io.create_dir(&dir)?;
        let mut piece = vec![0; usize::try_from(octets).unwrap_or(0)];
        let count = segment.file.read_at(&mut piece, offset)?;
        piece.truncate(count);
        let file = shared.io.create(&path)?;
        file.write_at(&mut [std::io::IoSlice::new(&piece)], 0)
    };
    drop(copy());
}
