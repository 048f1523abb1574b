//! How a journal is opened: lock, sort out, find the end, go on; then read what it holds.
//!
//! Invariant: until [`Unread::read`] has ended well, nothing of what was there before goes: no
//! segment, no content. After that the index is the one that the writer had, cut at what survived,
//! and with all that was written meanwhile.

use std::{
    collections::VecDeque,
    fmt,
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
};

use merpati_mail::{Lsn, QueueId, Record, Time};

use crate::{
    Disk, Options, Recovery, SpoolError,
    disk::{KEPT_BACK, new_shared},
    draft::Draft,
    format::Sealed,
    handle::Shared,
    io::{Io, Lock},
    recover::{Located, Survey, make_ready, survey},
    replay::{self, Purpose, Replay, message, register},
    scan::{Scan, Step},
    slots::{Maker, Slots},
};

/// What a journal held when it was opened, yet to be read; it takes new messages meanwhile.
pub struct Unread {
    shared: Arc<Shared>,
    segments: Vec<Located>,
    /// Large contents that were there when the journal was opened.
    bodies: Vec<QueueId>,
    recovery: Recovery,
    /// The epoch of names since.
    began: u64,
    in_background: bool,
    /// Until all is read nobody else may open the journal, even where its owner has given it up.
    _lock: Arc<Lock>,
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unread").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

impl Unread {
    /// The time of the last record; [`Time::EPOCH`] where there is none. An older one may have a
    /// later time where the last was copied: [`Recovery::last_at`] tells the latest of all.
    pub const fn last_at(&self) -> Time {
        self.recovery.last_at
    }

    /// Reads all of it and gives each record, in order, to `each`; `None` where that breaks off.
    ///
    /// After an error or `None` the journal still takes new messages, and nothing goes from it:
    /// the next recovery begins anew.
    pub fn read(
        mut self,
        each: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<Option<Recovery>, SpoolError> {
        let bodies = measure_bodies(&self.shared, std::mem::take(&mut self.bodies));
        let damage = std::mem::take(&mut self.recovery.damage);
        let mut replay = Replay::new(&self.shared, Purpose::Recover, damage, each);
        if replay.all(&self.segments, self.in_background)?.is_break() {
            return Ok(None);
        }
        let Replay { recovery, epoch, .. } = replay;
        remove_orphans(&self.shared, &bodies)?;
        let mut began = self.began;
        if epoch >= began {
            // Mail of another spool, imported before the journal took note of its names.
            began = epoch + 1;
            self.shared.ids.fetch_max(began << 32, Ordering::Relaxed);
        }
        self.shared.is_whole.store(true, Ordering::Release);
        let messages = self.shared.index().len();
        let next = self.recovery.next;
        Ok(Some(Recovery { next, epoch: given(began), messages, ..recovery }))
    }
}

/// Opens a journal and finds where it ends; what it holds is yet to be read.
pub(crate) fn begin(io: &Arc<dyn Io>, options: &Options) -> Result<(Disk, Unread), SpoolError> {
    let lock = Arc::new(lock(&**io, options)?);
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
    let Survey { used, free, next_number, damage } = survey(&shared)?;
    let ready = make_ready(free, &maker)?;
    for dir in [shared.journal(), options.dir.clone()] {
        io.sync_dir(&dir).map_err(SpoolError::io(format!("sync {}", dir.display())))?;
    }
    if let Some(newest) = used.last() {
        // A killed process may have left what the kernel has and the disk has not.
        newest.file.sync_data().map_err(SpoolError::io("sync the newest segment"))?;
    }
    let bodies = bodies(&shared)?;
    let End { newest, next, epoch, last_at } = end(&shared, &used)?;
    // Nobody may get the name of a content that a start before us left behind.
    let epoch = bodies.iter().copied().map(replay::epoch).fold(epoch, u64::max);
    register(&shared, &used);
    shared.ids.store((epoch + 1) << 32, Ordering::Relaxed);
    let count_max = options.bytes_max / options.segment_octets();
    let count_max = usize::try_from(count_max).unwrap_or(usize::MAX).max(KEPT_BACK + 2);
    let mut slots = Slots::new(maker, ready, next_number, count_max);
    if options.in_background {
        slots.prepare_in_background()?;
        slots.prepare(options.segments_ready + KEPT_BACK, used.len())?;
    }
    let unread = Unread {
        shared: Arc::clone(&shared),
        segments: used,
        bodies,
        recovery: Recovery { last_at, next, damage, ..Recovery::default() },
        began: epoch + 1,
        in_background: options.in_background,
        _lock: Arc::clone(&lock),
    };
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
        began: epoch + 1,
        _lock: lock,
    };
    Ok((disk, unread))
}

/// An epoch as names have it.
fn given(epoch: u64) -> u32 {
    u32::try_from(epoch & u64::from(QueueId::EPOCH_MAX)).unwrap_or(0)
}

/// Where a journal ends.
struct End {
    newest: Option<Sealed>,
    next: Lsn,
    /// The latest of any name.
    epoch: u64,
    last_at: Time,
}

/// Finds the end of the journal in its newest segment; whatever is written next seals that.
///
/// The epoch in the header of a segment is not below that of any name in older ones. Where the
/// newest segment has no record, the one before it tells the time.
fn end(shared: &Shared, used: &[Located]) -> Result<End, SpoolError> {
    let epochs = used.iter().map(|segment| segment.epoch);
    let mut end =
        End { newest: None, next: Lsn(1), epoch: epochs.max().unwrap_or(0), last_at: Time::EPOCH };
    for segment in used.iter().rev() {
        let mut next = segment.first;
        let mut records = 0_u64;
        let mut scan = Scan::new(segment, shared.slot_path(segment.slot));
        let frames_end = loop {
            match scan.step()? {
                Step::Frame(header, found) => {
                    next = Lsn(header.first.0 + u64::from(header.count));
                    for entry in found {
                        records += 1;
                        end.last_at = end.last_at.max(entry.at);
                        let id = message(entry.event.keeping());
                        end.epoch = end.epoch.max(id.map_or(0, replay::epoch));
                    }
                }
                Step::Damage { .. } => {}
                Step::End(end) => break end,
            }
        };
        if end.newest.is_none() {
            let Located { sequence, mark, slot, .. } = *segment;
            end.newest = Some(Sealed { sequence, mark, slot, end: frames_end, next });
            end.next = next;
        }
        if records > 0 {
            break;
        }
    }
    Ok(end)
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

/// The large contents that are there. What is not named like one is not ours.
fn bodies(shared: &Shared) -> Result<Vec<QueueId>, SpoolError> {
    let dir = shared.bodies();
    let names = shared.io.list(&dir).map_err(SpoolError::io(format!("list {}", dir.display())))?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// Adds up these large contents, needed or not: what is removed goes off again.
fn measure_bodies(shared: &Shared, bodies: Vec<QueueId>) -> Vec<(QueueId, u64)> {
    let measure = |id: QueueId| {
        let path = shared.bodies().join(id.to_string());
        let octets = shared.io.open(&path).and_then(|file| file.octets()).unwrap_or(0);
        shared.body_octets.fetch_add(octets, Ordering::Relaxed);
        (id, octets)
    };
    bodies.into_iter().map(measure).collect()
}

/// Removes those of these large contents that no living message names.
fn remove_orphans(shared: &Shared, bodies: &[(QueueId, u64)]) -> Result<(), SpoolError> {
    for (id, octets) in bodies {
        if shared.index().place(*id).is_some_and(|place| place.has_file) {
            continue;
        }
        let path = shared.bodies().join(id.to_string());
        let what = format!("remove {}", path.display());
        shared.io.remove(&path).map_err(SpoolError::io(what))?;
        shared.body_octets.fetch_sub(*octets, Ordering::Relaxed);
    }
    Ok(())
}
