//! Contents that are too large for the journal: a file for each, written while they arrive.
//!
//! Invariant: a file that no event names is removed: when its value is dropped, or at the latest
//! by the next recovery. A file that an event names was durable, with its name, before that event.

use std::{
    fmt,
    io::IoSlice,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use merpati_mail::QueueId;

use crate::{
    SpoolError,
    io::{Io, IoFile},
};

/// A large content while it arrives. Dropped before it is finished, its file goes.
pub struct LargeBody {
    file: BodyFile,
    pending: Vec<u8>,
    dir: PathBuf,
}

impl fmt::Debug for LargeBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LargeBody").field("file", &self.file).finish_non_exhaustive()
    }
}

impl LargeBody {
    pub(crate) fn create(
        io: &Arc<dyn Io>,
        dir: &Path,
        id: QueueId,
        total: &Arc<AtomicU64>,
    ) -> Result<Self, SpoolError> {
        let path = dir.join(id.to_string());
        let file = io.create(&path).map_err(|error| {
            if is_no_room(&error) {
                SpoolError::Full { why: format!("no room for {}", path.display()) }
            } else {
                SpoolError::Io { what: format!("create {}", path.display()), source: error }
            }
        })?;
        let inner = Inner {
            io: Arc::clone(io),
            path,
            file,
            is_kept: AtomicBool::new(false),
            total: Arc::clone(total),
            counted: AtomicU64::new(0),
        };
        let file = BodyFile { inner: Arc::new(inner), octets: 0, sum: 0 };
        Ok(Self { file, pending: Vec::new(), dir: dir.to_owned() })
    }

    /// Adds octets at the end. On [`SpoolError::Full`] drop the value: the file goes with it.
    pub fn write(&mut self, octets: &[u8]) -> Result<(), SpoolError> {
        self.pending.extend_from_slice(octets);
        if self.pending.len() >= WRITE_OCTETS { self.flush() } else { Ok(()) }
    }

    /// Makes the file and its name durable. Blocks for as long as the disk takes.
    pub fn finish(mut self) -> Result<BodyFile, SpoolError> {
        self.flush()?;
        let inner = &self.file.inner;
        let what = || format!("sync {}", inner.path.display());
        inner.file.sync_data().map_err(|error| passing(what(), error))?;
        inner.io.sync_dir(&self.dir).map_err(|error| passing(what(), error))?;
        Ok(self.file)
    }

    fn flush(&mut self) -> Result<(), SpoolError> {
        let inner = &self.file.inner;
        let count = self.pending.len() as u64;
        inner
            .file
            .write_at(&mut [IoSlice::new(&self.pending)], self.file.octets)
            .map_err(|error| passing(format!("write {}", inner.path.display()), error))?;
        inner.total.fetch_add(count, Ordering::Relaxed);
        inner.counted.fetch_add(count, Ordering::Relaxed);
        self.file.sum = crc32c::crc32c_append(self.file.sum, &self.pending);
        self.file.octets += count;
        self.pending.clear();
        Ok(())
    }
}

/// A large content that is complete. Dropped before any event names it, its file goes.
#[derive(Clone)]
pub struct BodyFile {
    inner: Arc<Inner>,
    octets: u64,
    sum: u32,
}

impl fmt::Debug for BodyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyFile")
            .field("path", &self.inner.path)
            .field("octets", &self.octets)
            .finish_non_exhaustive()
    }
}

impl BodyFile {
    /// A file that an event names.
    pub(crate) fn open(
        io: &Arc<dyn Io>,
        path: PathBuf,
        octets: u64,
        sum: u32,
    ) -> Result<Self, SpoolError> {
        let file = io.open(&path).map_err(SpoolError::io(format!("open {}", path.display())))?;
        let inner = Inner {
            io: Arc::clone(io),
            path,
            file,
            is_kept: AtomicBool::new(true),
            total: Arc::default(),
            counted: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner), octets, sum })
    }

    /// Its length in octets.
    pub const fn len(&self) -> u64 {
        self.octets
    }

    /// Whether it has no octet.
    pub const fn is_empty(&self) -> bool {
        self.octets == 0
    }

    /// Reads up to as many octets as `into` has; fewer only at the end. Blocks for the disk.
    pub fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize, SpoolError> {
        let left = usize::try_from(self.octets.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = into.len().min(left);
        let into = into.get_mut(..wanted).unwrap_or_default();
        let path = &self.inner.path;
        let count = self
            .inner
            .file
            .read_at(into, offset)
            .map_err(SpoolError::io(format!("read {}", path.display())))?;
        if count < wanted {
            return Err(SpoolError::Corrupt {
                file: path.clone(),
                offset: offset + count as u64,
                why: format!("the content ends before octet {}", self.octets),
            });
        }
        Ok(count)
    }

    /// Reads everything and compares the checksum.
    pub fn check(&self) -> Result<(), SpoolError> {
        let mut piece = vec![0; WRITE_OCTETS];
        let (mut at, mut sum) = (0, 0);
        while at < self.octets {
            let count = self.read_at(&mut piece, at)?;
            sum = crc32c::crc32c_append(sum, piece.get(..count).unwrap_or_default());
            at += count as u64;
        }
        if sum == self.sum {
            return Ok(());
        }
        let why = "the checksum of the content is wrong".to_owned();
        Err(SpoolError::Corrupt { file: self.inner.path.clone(), offset: 0, why })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.inner.path
    }

    pub(crate) const fn sum(&self) -> u32 {
        self.sum
    }

    /// From now on an event names the file.
    pub(crate) fn keep(&self) {
        self.inner.is_kept.store(true, Ordering::Relaxed);
    }
}

struct Inner {
    io: Arc<dyn Io>,
    path: PathBuf,
    file: Arc<dyn IoFile>,
    is_kept: AtomicBool,
    /// Octets of all large contents.
    total: Arc<AtomicU64>,
    counted: AtomicU64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.is_kept.load(Ordering::Relaxed) {
            self.total.fetch_sub(self.counted.load(Ordering::Relaxed), Ordering::Relaxed);
            // What cannot be removed now is removed by the next recovery.
            drop(self.io.remove(&self.path));
        }
    }
}

/// The journal is not touched by a large content that fails: it is refused, and all else goes on.
fn passing(what: String, source: std::io::Error) -> SpoolError {
    if is_no_room(&source) {
        SpoolError::Full { why: format!("cannot {what}: {source}") }
    } else {
        SpoolError::Io { what, source }
    }
}

pub(crate) fn is_no_room(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// Contents above this many octets get a file of their own.
pub const LARGE_BODY_BYTES: usize = 256 * 1_024;

const WRITE_OCTETS: usize = 128 * 1_024;
