//! The journal on disk: one owner appends, syncs and frees; readers go their own way.
//!
//! Invariant: nothing is told durable before a sync covered it; after a failed write or sync
//! nothing is written any more.

use std::{
    collections::VecDeque,
    fmt,
    io::IoSlice,
    ops::{ControlFlow, Range},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use merpati_mail::{Lsn, NodeId, QueueId, Record, event::Keeping};

use crate::{
    Group, Handle, Level, Pressure, Recovery, Spool, SpoolError, Unread,
    draft::Draft,
    format::{FORMAT_VERSION, FRAMES_AT, Sealed, SegmentHeader, State},
    handle::Shared,
    index::{Index, Keeps, Place, Segment, low},
    io::{Io, IoFile, Lock, RealFiles},
    open, replay,
    slots::Slots,
};

/// How a journal on disk is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory; made where it is missing.
    pub dir: PathBuf,
    /// The node that writes.
    pub node: NodeId,
    /// Octets of a segment, 8 KiB to 1 GiB; no group may be larger. Default 64 MiB.
    pub segment_bytes: u64,
    /// Octets of segments, free ones included, and of large contents, above which no new messages
    /// are taken; outcomes are. Default: no limit.
    pub bytes_max: u64,
    /// Octets of the file system that new messages leave to others. Default 256 MiB.
    pub free_bytes_min: u64,
    /// Free segments that are kept ready beside the two kept back. Default 2.
    pub segments_ready: usize,
    /// Whether a thread makes them; otherwise `maintain` does. Default true.
    pub in_background: bool,
}

impl Options {
    /// The defaults for this directory.
    pub const fn new(dir: PathBuf, node: NodeId) -> Self {
        Self {
            dir,
            node,
            segment_bytes: 64 * 1_024 * 1_024,
            bytes_max: u64::MAX,
            free_bytes_min: 256 * 1_024 * 1_024,
            segments_ready: 2,
            in_background: true,
        }
    }

    pub(crate) fn segment_octets(&self) -> u64 {
        self.segment_bytes.clamp(SEGMENT_OCTETS_MIN, SEGMENT_OCTETS_MAX)
    }
}

/// The journal on disk.
pub struct Disk {
    pub(crate) shared: Arc<Shared>,
    pub(crate) slots: Slots,
    pub(crate) draft: Draft,
    /// The segment that is being written; `None` until the first commit after the start.
    pub(crate) tail: Option<Tail>,
    /// The newest segment as it would be sealed now.
    pub(crate) newest: Option<Sealed>,
    pub(crate) next: Lsn,
    pub(crate) durable: Lsn,
    pub(crate) is_poisoned: bool,
    /// Large contents that may go once the event that ended their message is durable.
    pub(crate) doomed: VecDeque<(Lsn, QueueId)>,
    pub(crate) segments_ready: usize,
    /// The epoch of names when the journal was opened.
    pub(crate) began: u64,
    /// The last field, so that the lock goes after everything else.
    pub(crate) _lock: Arc<Lock>,
}

/// The segment that is being written.
pub(crate) struct Tail {
    sequence: u64,
    mark: u64,
    file: Arc<dyn IoFile>,
    octets: u64,
    end: u64,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

impl Disk {
    /// Opens the journal and finds where it ends, which takes no longer where it holds more.
    ///
    /// It takes new messages at once. Until [`Unread::read`] has ended well nothing goes, and the
    /// messages that it held before are unknown: [`SpoolError::Missing`].
    pub fn begin(options: &Options) -> Result<(Self, Unread), SpoolError> {
        let io: Arc<dyn Io> = Arc::new(RealFiles);
        Self::begin_in(&io, options)
    }

    /// The same on another file system.
    pub fn begin_in(io: &Arc<dyn Io>, options: &Options) -> Result<(Self, Unread), SpoolError> {
        open::begin(io, options)
    }

    /// Opens the journal and gives each record that survived, in order, to `each`.
    pub fn open(
        options: &Options,
        each: &mut dyn FnMut(Record),
    ) -> Result<(Self, Recovery), SpoolError> {
        let io: Arc<dyn Io> = Arc::new(RealFiles);
        Self::open_in(&io, options, each)
    }

    /// The same on another file system.
    pub fn open_in(
        io: &Arc<dyn Io>,
        options: &Options,
        each: &mut dyn FnMut(Record),
    ) -> Result<(Self, Recovery), SpoolError> {
        let (disk, unread) = Self::begin_in(io, options)?;
        let read = unread.read(&mut |record| {
            each(record);
            ControlFlow::Continue(())
        })?;
        // Nobody broke off.
        Ok((disk, read.unwrap_or_default()))
    }

    /// Refuses what is about messages that are not known yet.
    fn check_known(&self, groups: &[Group]) -> Result<(), SpoolError> {
        if self.shared.is_whole.load(Ordering::Acquire) {
            return Ok(());
        }
        let entries = groups.iter().flat_map(|group| &group.entries);
        let mut ids = entries.filter_map(|entry| replay::message(entry.event.keeping()));
        // Names run over into the next epoch.
        let is_new = |id: QueueId| {
            let ago = replay::epoch(id).wrapping_sub(self.began);
            ago & u64::from(QueueId::EPOCH_MAX) <= 1
        };
        ids.find(|id| !is_new(*id)).map_or(Ok(()), |id| Err(SpoolError::Missing(id)))
    }

    /// Sees to it that our names are later than all that the journal holds, wherever those come
    /// from: the header of the next segment says so.
    fn pass_names(&self, groups: &[Group]) {
        let entries = groups.iter().flat_map(|group| &group.entries);
        let ids = entries.filter_map(|entry| replay::message(entry.event.keeping()));
        let Some(latest) = ids.map(replay::epoch).max() else { return };
        if latest > self.shared.ids.load(Ordering::Relaxed) >> 32 {
            self.shared.ids.fetch_max((latest + 1) << 32, Ordering::Relaxed);
        }
    }

    /// Writes the draft: all of it, or nothing where there is no room.
    pub(crate) fn write_draft(&mut self) -> Result<Range<Lsn>, SpoolError> {
        self.make_room()?;
        let first = self.next;
        let mut from = 0;
        while from < self.draft.frames.len() {
            let to = self.run_end(from);
            if to == from {
                self.begin_segment()?;
                continue;
            }
            self.write_run(from..to)?;
            from = to;
        }
        Ok(first..self.next)
    }

    /// Sees to it that the segments are ready that the draft needs, before anything is written.
    fn make_room(&mut self) -> Result<(), SpoolError> {
        let mut rolls = 0;
        let (mut end, mut octets) = self.tail.as_ref().map_or((0, 0), |t| (t.end, t.octets));
        let limit = self.slots.segment_octets() - FRAMES_AT;
        for frame in &self.draft.frames {
            let frame_octets = frame.frame_octets();
            if frame_octets > limit {
                return Err(SpoolError::TooLarge { octets: frame_octets, limit });
            }
            if end + frame_octets > octets {
                (end, octets) = (FRAMES_AT, self.slots.octets_of(rolls));
                rolls += 1;
            }
            end += frame_octets;
        }
        if rolls == 0 {
            return Ok(());
        }
        let kept_back = if self.draft.grows { KEPT_BACK } else { 0 };
        let used = self.shared.index().segments.len();
        self.slots.ensure(rolls + kept_back, used, self.draft.grows)
    }

    /// The end of the run of frames from `from` on that fit into the tail.
    fn run_end(&self, from: usize) -> usize {
        let Some(tail) = &self.tail else { return from };
        let mut end = tail.end;
        let frames = self.draft.frames.iter().skip(from);
        from + frames
            .take_while(|frame| {
                end += frame.frame_octets();
                end <= tail.octets
            })
            .count()
    }

    fn write_run(&mut self, run: Range<usize>) -> Result<(), SpoolError> {
        let Some(tail) = &mut self.tail else { return Err(SpoolError::Poisoned) };
        let next = self.draft.address(run.clone(), tail.mark, self.next, self.durable);
        let mut slices = self.draft.slices(run.clone());
        let octets: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        if let Err(source) = tail.file.write_at(&mut slices, tail.end) {
            self.is_poisoned = true;
            return Err(SpoolError::Io { what: "write the journal".to_owned(), source });
        }
        let mut at = tail.end;
        let mut lsn = self.next;
        let sequence = low(tail.sequence);
        let mut index = self.shared.index();
        for frame in self.draft.frames.get(run).unwrap_or_default() {
            for entry in self.draft.entries.get(frame.entries.clone()).unwrap_or_default() {
                let place = place(sequence, at + entry.offset, entry.octets, entry.keeping);
                let place = Place { has_file: entry.has_file, ..place };
                if let Some(id) = index.apply(entry.keeping, place, lsn) {
                    self.doomed.push_back((lsn, id));
                }
                lsn = Lsn(lsn.0 + 1);
            }
            at += frame.frame_octets();
        }
        drop(index);
        tail.end += octets;
        self.next = next;
        if let Some(newest) = &mut self.newest {
            newest.end = tail.end;
            newest.next = next;
        }
        Ok(())
    }

    /// Begins a segment in a slot that is ready. The one before is sealed, and so must be durable.
    fn begin_segment(&mut self) -> Result<(), SpoolError> {
        self.sync_tail()?;
        let Some(slot) = self.slots.take() else {
            let why = "no segment is ready".to_owned();
            return Err(SpoolError::Full { why });
        };
        let sequence = self.newest.map_or(1, |newest| newest.sequence + 1);
        let mark = self.shared.io.random();
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            state: State::Used,
            node: self.shared.node,
            sequence,
            mark,
            first: self.next,
            epoch: self.shared.ids.load(Ordering::Relaxed) >> 32,
            before: self.newest,
        };
        let octets = header.encode();
        let written = slot.file.write_at(&mut [IoSlice::new(&octets)], 0);
        if let Err(source) = written.and_then(|()| slot.file.sync_data()) {
            self.is_poisoned = true;
            return Err(SpoolError::Io { what: "begin a segment".to_owned(), source });
        }
        let segment = Segment::new(sequence, slot.number, slot.octets, Arc::clone(&slot.file));
        self.shared.index().begin(segment);
        self.newest =
            Some(Sealed { sequence, mark, slot: slot.number, end: FRAMES_AT, next: self.next });
        self.tail =
            Some(Tail { sequence, mark, file: slot.file, octets: slot.octets, end: FRAMES_AT });
        Ok(())
    }

    fn sync_tail(&mut self) -> Result<(), SpoolError> {
        if self.durable >= self.next {
            return Ok(());
        }
        if let Some(tail) = &self.tail
            && let Err(source) = tail.file.sync_data()
        {
            self.is_poisoned = true;
            return Err(SpoolError::Io { what: "sync the journal".to_owned(), source });
        }
        self.durable = self.next;
        Ok(())
    }

    pub(crate) const fn check(&self) -> Result<(), SpoolError> {
        if self.is_poisoned { Err(SpoolError::Poisoned) } else { Ok(()) }
    }
}

impl Spool for Disk {
    fn append(&mut self, groups: &[Group]) -> Result<Range<Lsn>, SpoolError> {
        self.check()?;
        self.check_known(groups)?;
        self.pass_names(groups);
        self.draft.clear();
        for group in groups.iter().filter(|group| !group.entries.is_empty()) {
            self.draft.add(group, &self.shared)?;
        }
        self.make_room()?;
        // Before the write: if it fails, the event may be there all the same.
        for entry in groups.iter().flat_map(|group| &group.entries) {
            if let crate::Body::File(file) = &entry.body {
                file.keep();
            }
        }
        self.write_draft()
    }

    fn sync(&mut self) -> Result<Lsn, SpoolError> {
        self.check()?;
        self.sync_tail()?;
        Ok(self.durable)
    }

    fn durable(&self) -> Lsn {
        self.durable
    }

    fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    fn carry_wanted(&mut self, max: usize) -> Vec<QueueId> {
        let mut index = self.shared.index();
        let is_whole = self.shared.is_whole.load(Ordering::Acquire);
        if is_whole && !self.is_poisoned && index.wants_carry() {
            index.ask_to_carry(max)
        } else {
            Vec::new()
        }
    }

    fn maintain(&mut self) -> Result<bool, SpoolError> {
        self.check()?;
        self.keep_up()
    }

    fn pressure(&self) -> Pressure {
        let bytes_used = self.shared.bytes_used();
        let index = self.shared.index();
        let used = index.segments.len();
        let ready = self.slots.ready();
        let free = self.slots.free(used);
        let segment_bytes = self.slots.segment_octets();
        let level = match free {
            0 => Level::Full,
            free if free <= KEPT_BACK || bytes_used >= self.shared.bytes_max => Level::OutcomesOnly,
            _ => Level::Roomy,
        };
        let in_tail = self.tail.as_ref().map_or(0, |tail| tail.octets - tail.end);
        let segments_free = free.saturating_sub(KEPT_BACK) as u64;
        Pressure {
            level,
            segments_used: used,
            segments_unread: self.shared.segments_unread.load(Ordering::Relaxed),
            segments_ready: ready,
            segment_bytes,
            bytes_used,
            bytes_live: index.live_octets,
            bytes_free: segments_free.saturating_mul(segment_bytes).saturating_add(in_tail),
            messages: index.len(),
        }
    }

    fn node(&self) -> NodeId {
        self.shared.node
    }
}

/// Where a record lies, and who writes it anew.
pub(crate) fn place(sequence: u32, offset: u64, octets: u64, keeping: Keeping) -> Place {
    Place {
        sequence,
        // Invariant: a slot has at most 1 GiB.
        offset: u32::try_from(offset).unwrap_or(u32::MAX),
        octets: u32::try_from(octets).unwrap_or(u32::MAX),
        keeps: match keeping {
            Keeping::Opens(_) => Keeps::Opens,
            Keeping::About(_) | Keeping::Closes(_) | Keeping::Latest(_) | Keeping::Stores(_) => {
                Keeps::Stores
            }
        },
        has_file: false,
    }
}

pub(crate) fn new_shared(io: Arc<dyn Io>, options: &Options) -> Shared {
    Shared {
        io,
        dir: options.dir.clone(),
        node: options.node,
        free_bytes_min: options.free_bytes_min,
        bytes_max: options.bytes_max,
        ids: AtomicU64::new(0),
        body_octets: Arc::default(),
        index: Mutex::new(Index::default()),
        segments_unread: AtomicUsize::new(0),
        is_whole: AtomicBool::new(false),
    }
}

/// Free segments that new messages do not get: one for outcomes, one for what is carried.
pub(crate) const KEPT_BACK: usize = 2;

const SEGMENT_OCTETS_MIN: u64 = 8 * 1_024;
const SEGMENT_OCTETS_MAX: u64 = 1_024 * 1_024 * 1_024;
