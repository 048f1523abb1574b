//! Files that can be read and never changed: what a command may look at that only looks.
//!
//! Invariant: nothing here writes, makes or removes anything, so a spool on a medium that cannot
//! be written can be looked at too.

use std::{
    fs::{File, TryLockError},
    io::{self, IoSlice, Read},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use crate::io::{Io, IoFile, Lock, RealFiles};

/// The files of the operating system, to be read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadOnlyFiles;

impl Io for ReadOnlyFiles {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn create(&self, _file: &Path) -> io::Result<Arc<dyn IoFile>> {
        Err(refused())
    }

    fn open(&self, file: &Path) -> io::Result<Arc<dyn IoFile>> {
        Ok(Arc::new(ReadOnlyFile(File::open(file)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealFiles.list(dir)
    }

    fn remove(&self, _file: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealFiles.free_bytes(dir)
    }

    /// Shared with others who only read. Where there is no lock file, no relay was ever here.
    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Lock::Held(Box::new(())));
            }
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Lock::Held(Box::new(file))),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The process id is only for the message.
                let read = file.read_to_string(&mut text);
                Ok(Lock::Taken(read.ok().and_then(|_| text.trim().parse().ok())))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn random(&self) -> u64 {
        RealFiles.random()
    }
}

struct ReadOnlyFile(File);

impl IoFile for ReadOnlyFile {
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

    fn write_at(&self, _parts: &mut [IoSlice<'_>], _offset: u64) -> io::Result<()> {
        Err(refused())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _octets: u64) -> io::Result<()> {
        Err(refused())
    }

    fn octets(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

fn refused() -> io::Error {
    io::ErrorKind::ReadOnlyFilesystem.into()
}
