//! What a spool holds that nobody serves, and what of it cannot be read any more.
//!
//! Invariant: nothing is changed, not even the lock file, and while it is looked at no relay can
//! begin to use it. What is said to live is what a relay would find.

use std::{fmt, ops::ControlFlow, path::Path, path::PathBuf, sync::Arc};

use merpati_mail::{NodeId, QueueId, Record};

use crate::{
    Damage, FORMAT_VERSION, Handle, Options, Recovery, SpoolError, StoredBody,
    disk::new_shared,
    format::Sealed,
    handle::Shared,
    io::{Io, Lock},
    read_only::ReadOnlyFiles,
    recover::survey,
    replay::{Purpose, Replay, register},
};

/// A spool that is looked at and not changed.
pub struct Inspection {
    shared: Arc<Shared>,
    recovery: Recovery,
    torn: Option<Torn>,
    stats: Stats,
    /// The last field, so that the lock goes after everything else.
    _lock: Lock,
}

/// Whether contents are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// All of them, and compared with their checksums.
    Checked,
    /// Only those that are asked for.
    Unread,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The oldest format version of any segment; the one that we write where there is none.
    pub format_version: u16,
    /// Segments in use.
    pub segments: usize,
    /// Files of segments that hold none just now.
    pub segments_free: usize,
    /// Octets of all segments, free ones included, and of all large contents.
    pub octets: u64,
    /// Octets of segments in use and of large contents.
    pub octets_used: u64,
    /// Octets of the records that are needed, and of the large contents of living messages.
    pub octets_live: u64,
    /// Octets that the file system has left.
    pub octets_free: u64,
    /// Messages that live.
    pub messages: usize,
    /// Those of them whose content is a file of its own.
    pub large: usize,
    /// Octets of these files.
    pub octets_large: u64,
    /// Files of contents that belong to no living message; the next start of a relay removes them.
    pub orphans: usize,
}

/// Where the newest segment ends in something that was begun and not completed.
///
/// That is what a crash leaves of writes that nobody was told of. After a clean end there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Which file.
    pub file: PathBuf,
    /// Where in it, in octets.
    pub offset: u64,
}

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspection").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

impl Inspection {
    /// Reads all segments of the spool in `dir` and gives each record, in order, to `each`.
    ///
    /// [`SpoolError::Locked`] where a relay uses it; [`SpoolError::Io`] where there is none.
    pub fn open(
        dir: &Path,
        contents: Contents,
        each: &mut dyn FnMut(Record),
    ) -> Result<Self, SpoolError> {
        let io: Arc<dyn Io> = Arc::new(ReadOnlyFiles);
        let file = dir.join("lock");
        let lock =
            match io.lock(&file).map_err(SpoolError::io(format!("lock {}", file.display())))? {
                Lock::Taken(pid) => return Err(SpoolError::Locked { file, pid }),
                held @ Lock::Held(_) => held,
            };
        let shared = new_shared(io, &Options::new(dir.to_owned(), NodeId::default()));
        let found = survey(&shared)?;
        let purpose = match contents {
            Contents::Checked => Purpose::Check,
            Contents::Unread => Purpose::Look,
        };
        register(&shared, &found.used);
        let mut each = |record| {
            each(record);
            ControlFlow::Continue(())
        };
        let mut replay = Replay::new(&shared, purpose, found.damage, &mut each);
        let _all = replay.all(&found.used, true)?;
        let Replay { mut recovery, next, newest, .. } = replay;
        recovery.next = next;
        recovery.messages = shared.index().len();
        let torn = newest.and_then(|newest| torn(&shared, newest));
        let versions = found.used.iter().filter_map(|segment| segment.version);
        let octets_used = found.used.iter().map(|segment| segment.octets).sum();
        let stats = Stats {
            format_version: versions.min().unwrap_or(FORMAT_VERSION),
            segments: found.used.len(),
            segments_free: found.free.len(),
            octets: octets_used + found.free.iter().map(|slot| slot.octets).sum::<u64>(),
            octets_used,
            ..Stats::default()
        };
        drop(found.used);
        let shared = Arc::new(shared);
        let mut inspection = Self { shared, recovery, torn, stats, _lock: lock };
        inspection.measure()?;
        if contents == Contents::Checked {
            inspection.check_large()?;
        }
        Ok(inspection)
    }

    /// What a relay would find; `damage` is all that is wrong.
    pub const fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// What a crash left at the end; `None` where the last write is whole.
    pub const fn torn(&self) -> Option<&Torn> {
        self.torn.as_ref()
    }

    /// How much there is.
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    /// To read messages. What it cannot do is to take large contents: nothing can be written.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Counts what only the index and the directory of large contents know.
    fn measure(&mut self) -> Result<(), SpoolError> {
        let shared = &self.shared;
        let dir = shared.bodies();
        let names = match shared.io.list(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            listed => listed.map_err(SpoolError::io(format!("list {}", dir.display())))?,
        };
        let stats = &mut self.stats;
        for name in names {
            let Ok(id) = name.parse::<QueueId>() else { continue };
            let octets = shared.io.open(&dir.join(&name)).and_then(|file| file.octets());
            let octets = octets.unwrap_or(0);
            stats.octets += octets;
            stats.octets_used += octets;
            stats.octets_large += octets;
            if shared.index().place(id).is_some_and(|place| place.has_file) {
                stats.octets_live += octets;
            } else {
                stats.orphans += 1;
            }
        }
        let index = shared.index();
        stats.messages = index.len();
        stats.large = index
            .messages()
            .filter(|id| index.place(*id).is_some_and(|place| place.has_file))
            .count();
        stats.octets_live += index.live_octets;
        drop(index);
        stats.octets_free =
            shared.io.free_bytes(&shared.dir).map_err(SpoolError::io("ask for free room"))?;
        Ok(())
    }

    /// Reads every large content of a living message.
    fn check_large(&mut self) -> Result<(), SpoolError> {
        let handle = self.handle();
        for id in handle.messages() {
            if !self.shared.index().place(id).is_some_and(|place| place.has_file) {
                continue;
            }
            let path = self.shared.bodies().join(id.to_string());
            let checked = handle.told(id).and_then(|told| match told.body {
                StoredBody::Bytes(_) => Ok(()),
                StoredBody::File(file) => {
                    file.check()?;
                    has_length(&self.shared, &path, file.len())
                }
            });
            let damage = match checked {
                Ok(()) => continue,
                Err(SpoolError::Corrupt { file, offset, why }) => {
                    Damage { file, offset, octets: 0, why: format!("{why} (message {id})") }
                }
                Err(error @ SpoolError::Io { .. }) => {
                    let why = format!("{error} (message {id})");
                    Damage { file: path, offset: 0, octets: 0, why }
                }
                Err(error) => return Err(error),
            };
            let same = |d: &Damage| d.file == damage.file && d.offset == damage.offset;
            // A bad record was told when its segment was read.
            if !self.recovery.damage.iter().any(same) {
                self.recovery.damage.push(damage);
            }
        }
        Ok(())
    }
}

fn has_length(shared: &Shared, path: &Path, wanted: u64) -> Result<(), SpoolError> {
    let octets = shared.io.open(path).and_then(|file| file.octets());
    let octets = octets.map_err(SpoolError::io(format!("measure {}", path.display())))?;
    if octets == wanted {
        return Ok(());
    }
    let why = format!("the content has {octets} octets in place of {wanted}");
    Err(SpoolError::Corrupt { file: path.to_owned(), offset: wanted, why })
}

/// Whether something of the newest segment begins where its last whole frame ends.
fn torn(shared: &Shared, newest: Sealed) -> Option<Torn> {
    let index = shared.index();
    let segment = index.segments.iter().find(|segment| segment.sequence == newest.sequence)?;
    let mut mark = [0; 8];
    segment.file.read_at(&mut mark, newest.end).ok()?;
    let is_begun = mark == newest.mark.to_le_bytes();
    is_begun.then(|| Torn { file: shared.slot_path(newest.slot), offset: newest.end })
}
