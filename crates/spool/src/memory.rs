//! A spool in memory, for tests, simulation and a sandbox that keeps nothing.
//!
//! Invariant: it is the journal of [`Disk`] over [`FaultyFiles`], octet for octet; so what it
//! loses, tears and refuses is what a disk would.

use std::{ops::Range, path::PathBuf, sync::Arc};

use merpati_mail::{Draw, Lsn, NodeId, QueueId};

use crate::{
    Disk, Group, Handle, Level, Options, Pressure, Spool, SpoolError, Unread, fault::FaultyFiles,
    io::Io,
};

/// How a spool in memory is kept.
#[derive(Clone, Copy, Debug)]
pub struct MemoryOptions {
    /// Octets of a segment; no group may be larger. Default 512 KiB, of which only what is written
    /// takes room.
    pub segment_bytes: u64,
    /// The most segments, at least 4. Default: no limit.
    pub segments_max: u64,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self { segment_bytes: 512 * 1_024, segments_max: u64::MAX }
    }
}

/// A spool in memory.
pub struct Memory {
    files: FaultyFiles,
    options: Options,
    /// `None` between a crash and the recovery.
    disk: Option<Disk>,
    handle: Handle,
    is_full: bool,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("is_full", &self.is_full).finish_non_exhaustive()
    }
}

impl Memory {
    /// An empty spool for this node.
    pub fn new(node: NodeId) -> Result<Self, SpoolError> {
        Self::with(node, MemoryOptions::default())
    }

    /// The same with other options.
    pub fn with(node: NodeId, memory: MemoryOptions) -> Result<Self, SpoolError> {
        let mut options = Options::new(PathBuf::from("/memory"), node);
        options.segment_bytes = memory.segment_bytes;
        options.bytes_max = memory.segments_max.saturating_mul(options.segment_octets());
        options.free_bytes_min = 0;
        options.segments_ready = 0;
        options.in_background = false;
        let files = FaultyFiles::default();
        let io: Arc<dyn Io> = Arc::new(files.clone());
        let (disk, _) = Disk::open_in(&io, &options, &mut drop)?;
        let handle = disk.handle();
        Ok(Self { files, options, disk: Some(disk), handle, is_full: false })
    }

    /// Power is lost: what was synced survives, and of the rest what the lot says. Until
    /// [`Self::begin`] every call fails, and older handles fail for ever.
    pub fn crash(&mut self, draw: &mut Draw) {
        self.files = self.files.crash(draw);
        self.disk = None;
    }

    /// The process dies and the machine goes on: everything written is still there.
    pub fn kill(&mut self) {
        self.files = self.files.kill();
        self.disk = None;
    }

    /// Opens what survived; it takes new messages before it is read.
    pub fn begin(&mut self) -> Result<Unread, SpoolError> {
        // The lock of a spool that is still open would be in the way.
        self.disk = None;
        let io: Arc<dyn Io> = Arc::new(self.files.clone());
        let (disk, unread) = Disk::begin_in(&io, &self.options)?;
        self.handle = disk.handle();
        self.disk = Some(disk);
        Ok(unread)
    }

    /// The next write fails, and poisons the spool.
    pub fn fail_next_write(&mut self) {
        self.files.fail_next_write();
    }

    /// The next sync fails, and poisons the spool.
    pub fn fail_next_sync(&mut self) {
        self.files.fail_next_sync();
    }

    /// Whether groups that add a message are refused with [`SpoolError::Full`].
    pub const fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
    }

    /// Whether syncs lie: a control for tests that must find out.
    pub fn ignore_sync(&mut self, ignores: bool) {
        self.files.ignore_sync(ignores);
    }

    fn disk(&mut self) -> Result<&mut Disk, SpoolError> {
        self.disk.as_mut().ok_or(SpoolError::Poisoned)
    }
}

impl Spool for Memory {
    fn append(&mut self, groups: &[Group]) -> Result<Range<Lsn>, SpoolError> {
        if self.is_full && groups.iter().any(Group::grows) {
            return Err(SpoolError::Full { why: "the test says so".to_owned() });
        }
        self.disk()?.append(groups)
    }

    fn sync(&mut self) -> Result<Lsn, SpoolError> {
        self.disk()?.sync()
    }

    fn durable(&self) -> Lsn {
        self.disk.as_ref().map_or(Lsn(0), Spool::durable)
    }

    fn handle(&self) -> Handle {
        self.handle.clone()
    }

    fn carry_wanted(&mut self, max: usize) -> Vec<QueueId> {
        self.disk.as_mut().map_or_else(Vec::new, |disk| disk.carry_wanted(max))
    }

    fn maintain(&mut self) -> Result<bool, SpoolError> {
        self.disk()?.maintain()
    }

    fn pressure(&self) -> Pressure {
        let mut pressure = self.disk.as_ref().map_or(NOTHING, Spool::pressure);
        if self.is_full {
            pressure.level = pressure.level.max(Level::OutcomesOnly);
        }
        pressure
    }

    fn node(&self) -> NodeId {
        self.options.node
    }
}

/// The room of a spool that is not there.
const NOTHING: Pressure = Pressure {
    level: Level::Full,
    segments_used: 0,
    segments_ready: 0,
    segments_unread: 0,
    segment_bytes: 0,
    bytes_used: 0,
    bytes_live: 0,
    bytes_free: 0,
    messages: 0,
};
