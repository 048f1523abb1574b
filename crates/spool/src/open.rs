//! How a journal is opened: lock, sort out, read everything, and be ready to go on.
//!
//! Invariant: the index after reading is the one that the writer had, cut at what survived.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use merpati_mail::{Event, Lsn, QueueId, Record, event::Keeping};

use crate::{
    Damage, Disk, Options, Recovery, SpoolError,
    ahead::{SEGMENTS, Steps},
    disk::{KEPT_BACK, new_shared, place},
    draft::Draft,
    format::Sealed,
    handle::Shared,
    index::{Place, Segment, low},
    io::{Io, Lock},
    recover::{Located, make_ready, survey},
    scan::{Found, Scan, Step},
    slots::{Maker, Slots},
};

pub(crate) fn open(
    io: &Arc<dyn Io>,
    options: &Options,
    each: &mut dyn FnMut(Record),
) -> Result<(Disk, Recovery), SpoolError> {
    let lock = lock(&**io, options)?;
    let shared = Arc::new(new_shared(Arc::clone(io), options));
    for dir in [shared.journal(), shared.bodies()] {
        io.create_dir(&dir).map_err(SpoolError::io(format!("make {}", dir.display())))?;
    }
    let maker = Maker {
        io: Arc::clone(io),
        dir: shared.journal(),
        node: options.node,
        octets: options.segment_octets(),
        free_bytes_min: options.free_bytes_min,
    };
    let found = survey(&shared)?;
    let ready = make_ready(found.free, &maker)?;
    for dir in [shared.journal(), options.dir.clone()] {
        io.sync_dir(&dir).map_err(SpoolError::io(format!("sync {}", dir.display())))?;
    }
    if let Some(newest) = found.used.last() {
        // A killed process may have left what the kernel has and the disk has not.
        newest.file.sync_data().map_err(SpoolError::io("sync the newest segment"))?;
    }
    let mut replay = Replay::new(&shared, Purpose::Recover, found.damage, each);
    replay.all(&found.used, options.in_background)?;
    let Replay { mut recovery, next, newest, epoch, .. } = replay;
    remove_orphans(&shared)?;
    let epoch = epoch + 1;
    shared.ids.store(epoch << 32, Ordering::Relaxed);
    recovery.next = next;
    recovery.epoch = u32::try_from(epoch).unwrap_or(u32::MAX) & QueueId::EPOCH_MAX;
    recovery.messages = shared.index().len();
    let count_max = options.bytes_max / options.segment_octets();
    let count_max = usize::try_from(count_max).unwrap_or(usize::MAX).max(KEPT_BACK + 2);
    let mut slots = Slots::new(maker, ready, found.next_number, count_max);
    if options.in_background {
        slots.prepare_in_background()?;
        slots.prepare(options.segments_ready + KEPT_BACK, found.used.len())?;
    }
    let disk = Disk {
        shared,
        slots,
        draft: Draft::default(),
        tail: None,
        newest,
        next,
        durable: next,
        is_poisoned: false,
        doomed: VecDeque::new(),
        segments_ready: options.segments_ready,
        _lock: lock,
    };
    Ok((disk, recovery))
}

fn lock(io: &dyn Io, options: &Options) -> Result<Lock, SpoolError> {
    let dir = &options.dir;
    io.create_dir(dir).map_err(SpoolError::io(format!("make {}", dir.display())))?;
    let file = dir.join("lock");
    match io.lock(&file).map_err(SpoolError::io(format!("lock {}", file.display())))? {
        Lock::Taken(pid) => Err(SpoolError::Locked { file, pid }),
        held @ Lock::Held(_) => Ok(held),
    }
}

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
    each: &'a mut dyn FnMut(Record),
    pub(crate) recovery: Recovery,
    pub(crate) next: Lsn,
    pub(crate) newest: Option<Sealed>,
    epoch: u64,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        purpose: Purpose,
        damage: Vec<Damage>,
        each: &'a mut dyn FnMut(Record),
    ) -> Self {
        let recovery = Recovery { damage, ..Recovery::default() };
        Self { shared, purpose, each, recovery, next: Lsn(1), newest: None, epoch: 0 }
    }

    pub(crate) fn all(
        &mut self,
        segments: &[Located],
        in_background: bool,
    ) -> Result<(), SpoolError> {
        let (shared, purpose) = (self.shared, self.purpose);
        if !in_background {
            return segments.iter().try_for_each(|segment| {
                self.segment(segment, Steps::Here(Box::new(scan(shared, purpose, segment))))
            });
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
                let Some((segment, steps)) = begun.pop_front() else { return Ok(()) };
                self.segment(segment, steps)?;
            }
        })
    }

    fn segment(&mut self, segment: &Located, mut steps: Steps<'_>) -> Result<(), SpoolError> {
        let Located { sequence, slot, octets, .. } = *segment;
        self.shared.index().segments.push_back(Segment::new(
            sequence,
            slot,
            octets,
            Arc::clone(&segment.file),
        ));
        self.epoch = self.epoch.max(segment.epoch);
        self.next = self.next.max(segment.first);
        let damage_before = self.recovery.damage.len();
        let end = loop {
            match steps.step()? {
                Step::Frame(header, found) => {
                    let mut lsn = header.first;
                    for entry in found {
                        let keeping = entry.event.keeping();
                        let place = place(low(sequence), entry.offset, entry.octets, keeping);
                        let place = Place { has_file: entry.has_file, ..place };
                        self.check_body(slot, &entry);
                        self.record(segment, lsn, place, (entry.at, entry.event));
                        lsn = Lsn(lsn.0 + 1);
                    }
                    self.next = lsn;
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
        Ok(())
    }

    fn record(
        &mut self,
        segment: &Located,
        lsn: Lsn,
        place: Place,
        (at, event): (merpati_mail::Time, Event),
    ) {
        let keeping = event.keeping();
        if let Keeping::About(id) | Keeping::Closes(id) | Keeping::Opens(id) | Keeping::Stores(id) =
            keeping
        {
            self.epoch = self.epoch.max((id.bits() >> 32) & u64::from(QueueId::EPOCH_MAX));
        }
        // Contents that are not needed any more are found by their names at the end.
        self.shared.index().apply(keeping, place, lsn);
        self.recovery.records += 1;
        self.recovery.last_at = self.recovery.last_at.max(at);
        (self.each)(Record { lsn, at, node: segment.node, event });
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

/// Removes large contents that no living message names, and adds up the others.
fn remove_orphans(shared: &Shared) -> Result<(), SpoolError> {
    let dir = shared.bodies();
    let names = shared.io.list(&dir).map_err(SpoolError::io(format!("list {}", dir.display())))?;
    let mut octets = 0;
    for name in names {
        // What is not named like a content is not ours to remove.
        let Ok(id) = name.parse::<QueueId>() else { continue };
        let path = dir.join(&name);
        let is_named = shared.index().place(id).is_some_and(|place| place.has_file);
        if is_named {
            octets += shared.io.open(&path).and_then(|file| file.octets()).unwrap_or(0);
        } else {
            let what = format!("remove {}", path.display());
            shared.io.remove(&path).map_err(SpoolError::io(what))?;
        }
    }
    shared.body_octets.store(octets, Ordering::Relaxed);
    Ok(())
}
