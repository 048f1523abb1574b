//! Messages on their way into a spool that nobody serves yet: an import, or a copy of another one.
//!
//! Invariant: what [`Intake::finish`] has counted is durable; a copy has its name only when all of
//! it is. A spool takes no more than the limits of its options leave for new messages.

use std::{
    ffi::OsString,
    fmt, fs,
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use merpati_mail::{Event, NodeId, Time};

use crate::{
    Body, BodyFile, Disk, Group, LARGE_BODY_BYTES, Level, Options, Spool, SpoolError, StoredBody,
    handle::accepted_of,
    io::{Io, RealFiles},
};

/// What takes messages into a spool, in batches.
#[derive(Debug)]
pub struct Intake {
    disk: Disk,
    groups: Vec<Group>,
    /// Octets of contents in `groups`.
    octets: usize,
    taken: Taken,
}

/// How much was taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Messages.
    pub messages: u64,
    /// Octets of their contents.
    pub octets: u64,
    /// Contents that got a file of their own.
    pub large: u64,
}

/// A content that is taken in.
pub struct Content<'a> {
    /// Where it comes from, for errors.
    pub file: &'a Path,
    /// Its length.
    pub octets: u64,
    /// Its CRC-32C; another one is an error, and the message is not taken.
    pub sum: u32,
    /// The content itself, and nothing behind it.
    pub from: &'a mut dyn Read,
}

impl fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Intake {
    /// Takes messages into this journal.
    pub fn new(disk: Disk) -> Self {
        Self { disk, groups: Vec::new(), octets: 0, taken: Taken::default() }
    }

    /// Takes a message that `event` tells whole; it is durable after [`Self::finish`] and perhaps
    /// before. The caller sees to it that none of this name lives here.
    pub fn add(&mut self, at: Time, event: Event, content: Content<'_>) -> Result<(), SpoolError> {
        let Some(id) = accepted_of(&event).map(|accepted| accepted.id) else {
            return Err(corrupt(content.file, "it does not tell a message"));
        };
        let octets = content.octets;
        let body = if octets > LARGE_BODY_BYTES as u64 {
            self.check_room()?;
            self.taken.large += 1;
            let mut large = self.disk.handle().large(id)?;
            each_piece(content, &mut |piece| large.write(piece))?;
            Body::File(large.finish()?)
        } else {
            let mut whole = Vec::with_capacity(usize::try_from(octets).unwrap_or(0));
            each_piece(content, &mut |piece| {
                whole.extend_from_slice(piece);
                Ok(())
            })?;
            self.octets += whole.len();
            if whole.is_empty() { Body::None } else { Body::Bytes(vec![Bytes::from(whole)]) }
        };
        self.taken.messages += 1;
        self.taken.octets += octets;
        self.groups.push(Group::with_body(at, event, body));
        if self.octets >= BATCH_OCTETS || self.groups.len() >= BATCH_GROUPS {
            self.flush()?;
        }
        Ok(())
    }

    /// Makes everything durable.
    pub fn finish(mut self) -> Result<Taken, SpoolError> {
        self.flush()?;
        Ok(self.taken)
    }

    /// One batch, durable: whoever else uses the disk does not wait for much at a time.
    fn flush(&mut self) -> Result<(), SpoolError> {
        if self.groups.is_empty() {
            return Ok(());
        }
        self.check_room()?;
        self.disk.append(&self.groups)?;
        self.disk.sync()?;
        self.groups.clear();
        self.octets = 0;
        Ok(())
    }

    /// A message told anew binds no limit; here it is new all the same.
    fn check_room(&self) -> Result<(), SpoolError> {
        if self.disk.pressure().level == Level::Roomy {
            return Ok(());
        }
        let why = "it may take no more messages by its limits, or the file system has no more room";
        Err(SpoolError::Full { why: why.to_owned() })
    }
}

/// A copy of a spool in the making. Dropped before it is finished, it goes.
#[derive(Debug)]
pub struct SpoolCopy {
    dir: PathBuf,
    draft: PathBuf,
    intake: Option<Intake>,
}

impl SpoolCopy {
    /// Begins a copy that will be the data directory `dir`, the spool in it being `dir/spool`.
    ///
    /// `dir` must not exist, or be empty. The copy leaves `free_bytes_min` octets of its file
    /// system to others.
    pub fn begin(dir: &Path, free_bytes_min: u64) -> Result<Self, SpoolError> {
        let what = || format!("write a copy to {}", dir.display());
        let refused = |why: &str| {
            SpoolError::io(what())(io::Error::new(io::ErrorKind::AlreadyExists, why.to_owned()))
        };
        let name = dir.file_name().ok_or_else(|| refused("it has no name of its own"))?;
        match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => return Err(refused("it is there already, and not empty")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(SpoolError::io(what())(error)),
        }
        let mut draft_name = OsString::from(name);
        draft_name.push(".unfinished");
        let draft = dir.with_file_name(draft_name);
        match fs::DirBuilder::new().mode(0o700).create(&draft) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let draft = draft.display();
                return Err(refused(&format!("remove {draft}, which an earlier one left behind")));
            }
            made => made.map_err(SpoolError::io(what()))?,
        }
        let mut copy = Self { dir: dir.to_owned(), draft, intake: None };
        let mut options = Options::new(copy.draft.join(SPOOL), NodeId::default());
        options.free_bytes_min = free_bytes_min;
        options.segments_ready = 0;
        options.in_background = false;
        let (disk, _) = Disk::open(&options, &mut drop)?;
        copy.intake = Some(Intake::new(disk));
        Ok(copy)
    }

    /// Takes a message, told by `event`.
    pub fn add(&mut self, at: Time, event: Event, body: &StoredBody) -> Result<(), SpoolError> {
        let Some(intake) = &mut self.intake else { return Err(SpoolError::Poisoned) };
        let (file, sum) = body.source();
        let octets = body.len();
        intake.add(at, event, Content { file, octets, sum, from: &mut body.reader() })
    }

    /// Makes the copy durable and gives it its name.
    pub fn finish(mut self) -> Result<Taken, SpoolError> {
        let Some(intake) = self.intake.take() else { return Err(SpoolError::Poisoned) };
        let taken = intake.finish()?;
        let spool = self.draft.join(SPOOL);
        let done = fs::remove_file(spool.join("lock"))
            .and_then(|()| RealFiles.sync_dir(&spool))
            .and_then(|()| RealFiles.sync_dir(&self.draft))
            .and_then(|()| fs::rename(&self.draft, &self.dir))
            .and_then(|()| match self.dir.parent().filter(|parent| *parent != Path::new("")) {
                Some(parent) => RealFiles.sync_dir(parent),
                None => RealFiles.sync_dir(Path::new(".")),
            });
        done.map_err(SpoolError::io(format!("complete {}", self.dir.display())))?;
        Ok(taken)
    }
}

impl Drop for SpoolCopy {
    fn drop(&mut self) {
        // Its lock and its files go before its directory. A finished copy has another name.
        self.intake = None;
        fs::remove_dir_all(&self.draft).ok();
    }
}

impl StoredBody {
    /// Writes the whole content and gives its CRC-32C, which was right.
    pub fn copy_to(&self, into: &mut dyn Write) -> Result<u32, SpoolError> {
        let (file, sum) = self.source();
        let write = |error| SpoolError::io("write the content of a message")(error);
        let content = Content { file, octets: self.len(), sum, from: &mut self.reader() };
        each_piece(content, &mut |piece| into.write_all(piece).map_err(write))?;
        Ok(sum)
    }

    /// Where it lies, and its checksum.
    fn source(&self) -> (&Path, u32) {
        match self {
            Self::Bytes(bytes) => (Path::new("the journal"), crc32c::crc32c(bytes)),
            Self::File(file) => (file.path(), file.sum()),
        }
    }

    fn reader(&self) -> BodyReader<'_> {
        BodyReader { body: self, at: 0 }
    }
}

/// Reads a stored content from its beginning.
struct BodyReader<'a> {
    body: &'a StoredBody,
    at: u64,
}

impl Read for BodyReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = match self.body {
            StoredBody::Bytes(bytes) => {
                let at = usize::try_from(self.at).unwrap_or(usize::MAX);
                bytes.get(at..).unwrap_or_default().read(into)?
            }
            StoredBody::File(file) => read_file(file, into, self.at)?,
        };
        self.at += count as u64;
        Ok(count)
    }
}

fn read_file(file: &BodyFile, into: &mut [u8], at: u64) -> io::Result<usize> {
    file.read_at(into, at).map_err(|error| {
        if let SpoolError::Io { source, .. } = error {
            source
        } else {
            io::Error::new(io::ErrorKind::InvalidData, error)
        }
    })
}

/// Makes durable all that was written into the file system of this directory.
///
/// For many small files that is far cheaper than to sync each of them.
pub fn make_durable(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fs::File::open(dir)?)?)
}

/// Gives a content in pieces, and fails where its length or its checksum is not what it should be.
fn each_piece(
    content: Content<'_>,
    each: &mut dyn FnMut(&[u8]) -> Result<(), SpoolError>,
) -> Result<(), SpoolError> {
    let Content { file, octets, sum, from } = content;
    let mut piece = vec![0; PIECE_OCTETS.min(usize::try_from(octets).unwrap_or(usize::MAX)) + 1];
    let (mut count, mut found) = (0, 0);
    loop {
        let read = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => piece.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // One content that cannot be read says nothing of the others.
            Err(error) => return Err(corrupt(file, &format!("it cannot be read: {error}"))),
        };
        count += read.len() as u64;
        if count > octets {
            return Err(corrupt(file, &format!("the content is longer than {octets} octets")));
        }
        found = crc32c::crc32c_append(found, read);
        each(read)?;
    }
    if count < octets {
        return Err(corrupt(file, &format!("the content ends before octet {octets}")));
    }
    if found != sum {
        return Err(corrupt(file, "the checksum of the content is wrong"));
    }
    Ok(())
}

fn corrupt(file: &Path, why: &str) -> SpoolError {
    SpoolError::Corrupt { file: file.to_owned(), offset: 0, why: why.to_owned() }
}

/// The spool in a data directory.
const SPOOL: &str = "spool";
/// What is written and synced at a time.
const BATCH_OCTETS: usize = 4 * 1_024 * 1_024;
const BATCH_GROUPS: usize = 1_024;
const PIECE_OCTETS: usize = 128 * 1_024;
