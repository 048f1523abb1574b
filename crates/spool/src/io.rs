//! What the spool asks of a file system: the seam below which a test can break it.
//!
//! Invariant: `write_at` writes everything or fails; a failure leaves the octets unknown.

use std::{
    fs::{self, File, OpenOptions},
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, IoSlice, Read, Seek, Write},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

/// A file system.
pub trait Io: Send + Sync {
    /// Makes a directory and those above it, where they are missing.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes a file that must not exist yet.
    fn create(&self, file: &Path) -> io::Result<Arc<dyn IoFile>>;
    /// Opens a file to read and write.
    fn open(&self, file: &Path) -> io::Result<Arc<dyn IoFile>>;
    /// The names in a directory, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Removes a file.
    fn remove(&self, file: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Octets that the file system has left.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Locks a file against other processes until the value is dropped.
    fn lock(&self, file: &Path) -> io::Result<Lock>;
    /// A number that nobody outside can guess.
    fn random(&self) -> u64;
}

/// An open file.
pub trait IoFile: Send + Sync {
    /// Reads up to as many octets as `into` has; fewer at the end of the file.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all parts, one behind the other.
    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Makes the content durable, and the length where it changed.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes sure that so many octets have room, and that the file has at least this length.
    fn allocate(&self, octets: u64) -> io::Result<()>;
    /// The length in octets.
    fn octets(&self) -> io::Result<u64>;
}

/// Whether the lock was free.
pub enum Lock {
    /// It is ours until this is dropped.
    Held(Box<dyn Send + Sync>),
    /// Another process has it; its process id if it says so.
    Taken(Option<u32>),
}

/// The files of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFiles;

impl Io for RealFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn create(&self, file: &Path) -> io::Result<Arc<dyn IoFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(file)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, file: &Path) -> io::Result<Arc<dyn IoFile>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).write(true).open(file)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().into_string()));
        // A name that is not UTF-8 is none of ours.
        Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().filter_map(Result::ok).collect())
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        fs::remove_file(file)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let room = rustix::fs::statvfs(dir)?;
        Ok(room.f_bavail.saturating_mul(room.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.rewind()?;
                writeln!(file, "{}", std::process::id())?;
                Ok(Lock::Held(Box::new(file)))
            }
            Err(fs::TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The process id is only for the message.
                let read = file.read_to_string(&mut text);
                Ok(Lock::Taken(read.ok().and_then(|_| text.trim().parse().ok())))
            }
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn random(&self) -> u64 {
        // Keyed by the operating system; unguessable is all that is asked.
        RandomState::new().build_hasher().finish()
    }
}

struct RealFile(File);

impl IoFile for RealFile {
    fn read_at(&self, mut into: &mut [u8], mut offset: u64) -> io::Result<usize> {
        let wanted = into.len();
        while !into.is_empty() {
            match self.0.read_at(into, offset) {
                Ok(0) => break,
                Ok(count) => {
                    into = into.get_mut(count..).unwrap_or_default();
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(wanted - into.len())
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        let mut rest = parts;
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let some = rest.get(..rest.len().min(IOV_MAX)).unwrap_or_default();
            match rustix::io::pwritev(&self.0, some, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    IoSlice::advance_slices(&mut rest, count);
                    offset += count as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, octets: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, octets) {
            // A file system without it: the length alone, and room is not promised.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                if self.0.metadata()?.len() < octets {
                    self.0.set_len(octets)
                } else {
                    Ok(())
                }
            }
            other => other.map_err(io::Error::from),
        }
    }

    fn octets(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// The most parts that Linux takes in one call.
const IOV_MAX: usize = 1_024;
