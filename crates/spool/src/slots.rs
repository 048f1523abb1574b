//! Which slot takes the next segment: a few are always ready, made off the commit path.
//!
//! Invariant: a slot is ready only when its header says Free, durably, and its name is durable.
//! Slots that were used before go first: their blocks are written, so that a sync need not wait
//! for the file system's own journal.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
};

use merpati_mail::NodeId;

use crate::{
    SpoolError,
    format::SegmentHeader,
    handle::slot_name,
    io::{Io, IoFile},
    large::is_no_room,
};

/// A slot without a segment.
pub(crate) struct Slot {
    pub(crate) number: u32,
    pub(crate) octets: u64,
    pub(crate) file: Arc<dyn IoFile>,
}

/// How slots are made.
#[derive(Clone)]
pub(crate) struct Maker {
    pub(crate) io: Arc<dyn Io>,
    pub(crate) dir: PathBuf,
    pub(crate) node: NodeId,
    pub(crate) octets: u64,
    /// Octets that the file system keeps for others.
    pub(crate) free_bytes_min: u64,
}

impl Maker {
    fn make(&self, number: u32, free_bytes_min: u64) -> io::Result<Slot> {
        let room = self.io.free_bytes(&self.dir)?;
        if room.saturating_sub(self.octets) < free_bytes_min {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let path = self.dir.join(slot_name(number));
        let made = self.io.create(&path).and_then(|file| self.format(number, file));
        let slot = match made {
            Ok(slot) => slot,
            Err(error) => {
                // Half a slot is no use, and takes room that somebody else may need.
                drop(self.io.remove(&path));
                return Err(error);
            }
        };
        self.io.sync_dir(&self.dir)?;
        Ok(slot)
    }

    /// Gives a file its length and the header of a free slot.
    pub(crate) fn format(&self, number: u32, file: Arc<dyn IoFile>) -> io::Result<Slot> {
        file.allocate(self.octets)?;
        let header = SegmentHeader::free(self.node).encode();
        file.write_at(&mut [IoSlice::new(&header)], 0)?;
        file.sync_data()?;
        let octets = file.octets()?;
        Ok(Slot { number, octets, file })
    }
}

/// The slots that are ready, and the making of more.
pub(crate) struct Slots {
    maker: Maker,
    ready: VecDeque<Slot>,
    next_number: u32,
    /// The most slots there may be, used ones included.
    count_max: usize,
    preparer: Option<Preparer>,
    /// Whether the last one could not be made for want of room.
    is_short: bool,
}

impl Slots {
    pub(crate) fn new(
        maker: Maker,
        ready: VecDeque<Slot>,
        next_number: u32,
        count_max: usize,
    ) -> Self {
        Self { maker, ready, next_number, count_max, preparer: None, is_short: false }
    }

    /// Makes further slots on a thread of their own.
    pub(crate) fn prepare_in_background(&mut self) -> Result<(), SpoolError> {
        self.preparer = Some(Preparer::start(self.maker.clone())?);
        Ok(())
    }

    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many segments may still begin, with `used` in use: those that are ready, that are being
    /// made, and that may be made.
    pub(crate) fn free(&self, used: usize) -> usize {
        self.ready.len() + self.pending() + self.makeable(used)
    }

    /// Octets of a slot that is made.
    pub(crate) const fn segment_octets(&self) -> u64 {
        self.maker.octets
    }

    /// How many more may be made, with `used` in use.
    fn makeable(&self, used: usize) -> usize {
        if self.is_short {
            return 0;
        }
        let count = used + self.ready.len() + self.pending();
        let by_option = self.count_max.saturating_sub(count);
        let room = self.maker.io.free_bytes(&self.maker.dir).unwrap_or(0);
        let by_room = room.saturating_sub(self.maker.free_bytes_min) / self.maker.octets.max(1);
        by_option.min(usize::try_from(by_room).unwrap_or(usize::MAX))
    }

    /// Octets that frames may take in the next slots.
    pub(crate) fn octets_of(&self, nth: usize) -> u64 {
        self.ready.get(nth).map_or(self.maker.octets, |slot| slot.octets)
    }

    /// Sees to it that so many are ready; makes them here and now where they are not.
    ///
    /// The limits of the options bind only what `grows`: outcomes are what lets a spool drain.
    pub(crate) fn ensure(
        &mut self,
        wanted: usize,
        used: usize,
        grows: bool,
    ) -> Result<(), SpoolError> {
        self.collect();
        while self.ready.len() < wanted {
            if self.pending() > 0 {
                self.wait();
                continue;
            }
            if grows && used + self.ready.len() >= self.count_max {
                let why = format!("all {} segments are in use or kept back", self.count_max);
                return Err(SpoolError::Full { why });
            }
            let number = self.number();
            let free_bytes_min = if grows { self.maker.free_bytes_min } else { 0 };
            let made = self.maker.make(number, free_bytes_min);
            self.made(made)?;
        }
        Ok(())
    }

    /// Has one more made, if fewer than `wanted` are ready. True where there is more to do.
    pub(crate) fn prepare(&mut self, wanted: usize, used: usize) -> Result<bool, SpoolError> {
        self.collect();
        let count = self.ready.len() + self.pending();
        if count >= wanted || used + count >= self.count_max || self.pending() > 0 {
            return Ok(false);
        }
        let number = self.number();
        if let Some(preparer) = &mut self.preparer {
            preparer.ask(number);
            return Ok(false);
        }
        let made = self.maker.make(number, self.maker.free_bytes_min);
        match self.made(made) {
            Ok(()) => Ok(self.ready.len() < wanted),
            // Want of room is told to whoever needs the slot.
            Err(SpoolError::Full { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn take(&mut self) -> Option<Slot> {
        self.ready.pop_front()
    }

    /// A slot whose segment has gone. It goes first next time, or away if there are enough.
    pub(crate) fn give_back(&mut self, slot: Slot, keep: usize) -> Result<(), SpoolError> {
        self.is_short = false;
        if self.ready.len() < keep {
            self.ready.push_front(slot);
            return Ok(());
        }
        let path = self.maker.dir.join(slot_name(slot.number));
        self.maker.io.remove(&path).map_err(SpoolError::io(format!("remove {}", path.display())))
    }

    fn number(&mut self) -> u32 {
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        number
    }

    fn pending(&self) -> usize {
        self.preparer.as_ref().map_or(0, |preparer| preparer.pending)
    }

    fn made(&mut self, made: io::Result<Slot>) -> Result<(), SpoolError> {
        match made {
            Ok(slot) => {
                self.is_short = false;
                self.ready.push_back(slot);
                Ok(())
            }
            Err(error) if is_no_room(&error) => {
                self.is_short = true;
                let dir = self.maker.dir.display();
                Err(SpoolError::Full { why: format!("no room for a segment in {dir}: {error}") })
            }
            Err(source) => Err(SpoolError::Io { what: "make a segment".to_owned(), source }),
        }
    }

    /// Takes what the preparer has finished. Its failures show when the slot is needed.
    fn collect(&mut self) {
        while let Some(made) = self.preparer.as_mut().and_then(Preparer::finished) {
            drop(self.made(made));
        }
    }

    fn wait(&mut self) {
        if let Some(made) = self.preparer.as_mut().and_then(Preparer::wait) {
            drop(self.made(made));
        }
    }
}

/// A thread that makes slots, one at a time.
struct Preparer {
    asks: Option<Sender<u32>>,
    made: Receiver<io::Result<Slot>>,
    thread: Option<JoinHandle<()>>,
    pending: usize,
}

impl Preparer {
    fn start(maker: Maker) -> Result<Self, SpoolError> {
        let (asks, asked) = channel::<u32>();
        let (results, made) = channel();
        let thread = thread::Builder::new()
            .name("spool-prepare".to_owned())
            .spawn(move || {
                while let Ok(number) = asked.recv() {
                    if results.send(maker.make(number, maker.free_bytes_min)).is_err() {
                        break;
                    }
                }
            })
            .map_err(SpoolError::io("start the thread that makes segments"))?;
        Ok(Self { asks: Some(asks), made, thread: Some(thread), pending: 0 })
    }

    fn ask(&mut self, number: u32) {
        if self.asks.as_ref().is_some_and(|asks| asks.send(number).is_ok()) {
            self.pending += 1;
        }
    }

    fn finished(&mut self) -> Option<io::Result<Slot>> {
        let made = self.made.try_recv().ok()?;
        self.pending = self.pending.saturating_sub(1);
        Some(made)
    }

    fn wait(&mut self) -> Option<io::Result<Slot>> {
        let made = self.made.recv();
        // A thread that is gone makes nothing any more.
        self.pending = if made.is_ok() { self.pending.saturating_sub(1) } else { 0 };
        made.ok()
    }
}

impl Drop for Preparer {
    /// Waits: after the lock is given back, nothing of ours may touch the directory.
    fn drop(&mut self) {
        self.asks = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Opens the file of a slot.
pub(crate) fn open(io: &dyn Io, dir: &Path, number: u32) -> Result<Arc<dyn IoFile>, SpoolError> {
    let path = dir.join(slot_name(number));
    io.open(&path).map_err(SpoolError::io(format!("open {}", path.display())))
}
