//! What happened lately, in files of a bounded size: what `merpati trace` looks through.
//!
//! The lines are those of the mail log, of events and refused mail alone, with what was said where
//! an attempt went wrong. They are here whatever becomes of the log.
//!
//! Invariant: what is lost here is a memory, never mail: nothing waits for these files, nothing is
//! synced, and a line that is torn is passed over. The oldest file goes before there is more than
//! allowed. Not pure: files.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Writes the history.
#[derive(Debug)]
pub struct History {
    directory: PathBuf,
    /// Octets of one file.
    part_octets_max: u64,
    number: u64,
    file: File,
    octets: u64,
    /// Whether a write failed in the middle of a line.
    is_torn: bool,
}

impl History {
    /// Goes on with the history in this directory, which is made where it is missing; in all it
    /// takes about `octets_max`.
    pub fn open(directory: &Path, octets_max: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let number = parts(directory)?.last().map_or(1, |(number, _)| *number);
        let (file, octets) = open_part(directory, number)?;
        let history = Self {
            directory: directory.to_path_buf(),
            part_octets_max: octets_max.div_ceil(PARTS),
            number,
            is_torn: octets > 0 && !ends_a_line(&file, octets),
            file,
            octets,
        };
        history.forget()?;
        Ok(history)
    }

    /// Adds whole lines.
    pub fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.octets > 0 && self.octets + lines.len() as u64 > self.part_octets_max {
            self.turn()?;
        }
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.octets += 1;
        }
        self.is_torn = true;
        self.file.write_all(lines)?;
        self.is_torn = false;
        self.octets += lines.len() as u64;
        Ok(())
    }

    /// Begins another file, and forgets the oldest.
    fn turn(&mut self) -> io::Result<()> {
        let next = self.number + 1;
        // Somebody may have removed it meanwhile.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let (file, octets) = open_part(&self.directory, next)?;
        (self.file, self.octets, self.number, self.is_torn) = (file, octets, next, false);
        self.forget()
    }

    fn forget(&self) -> io::Result<()> {
        let all = parts(&self.directory)?;
        let kept = usize::try_from(PARTS).unwrap_or(usize::MAX);
        let gone = all.len().saturating_sub(kept);
        all.into_iter().take(gone).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

/// Hands every line of the history to `tell`, the oldest first, without its end. Blocks for the
/// disk; a history that is not there has no lines.
pub fn each_line(directory: &Path, mut tell: impl FnMut(&[u8])) -> io::Result<()> {
    let mut line = Vec::new();
    for (_, path) in parts(directory)? {
        let file = match File::open(&path) {
            Ok(file) => file,
            // It was forgotten while we read the one before.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut reader = BufReader::with_capacity(READ_OCTETS, file);
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            // What has no end yet is being written.
            if let Some(whole) = line.strip_suffix(b"\n") {
                tell(whole);
            }
        }
    }
    Ok(())
}

/// The files of a history with their numbers, the oldest first.
fn parts(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut parts = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_suffix(SUFFIX).and_then(|number| number.parse().ok());
        if let Some(number) = number {
            parts.push((number, path));
        }
    }
    parts.sort();
    Ok(parts)
}

fn open_part(directory: &Path, number: u64) -> io::Result<(File, u64)> {
    let path = directory.join(format!("{number:010}{SUFFIX}"));
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).read(true).mode(0o600).open(path)?;
    let octets = file.metadata()?.len();
    Ok((file, octets))
}

fn ends_a_line(file: &File, octets: u64) -> bool {
    let mut last = [0];
    file.read_exact_at(&mut last, octets - 1).is_ok() && last == *b"\n"
}

/// Into how many files the history is cut; with each of them an eighth of it is forgotten.
const PARTS: u64 = 8;
const SUFFIX: &str = ".jsonl";
const READ_OCTETS: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(directory: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        each_line(directory, |line| lines.push(String::from_utf8_lossy(line).into_owned()))
            .unwrap();
        lines
    }

    #[test]
    fn the_oldest_lines_are_forgotten_before_there_is_too_much() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("history");
        let mut history = History::open(&directory, 800).unwrap();
        for number in 0..100 {
            history.write(format!("line {number:04} of 19.\n").as_bytes()).unwrap();
        }
        let octets: u64 =
            parts(&directory).unwrap().iter().map(|(_, p)| p.metadata().unwrap().len()).sum();
        assert!(octets <= 800, "{octets}");
        let lines = all(&directory);
        assert!(lines.len() >= 30, "{lines:?}");
        assert!(lines.last().unwrap().starts_with("line 0099"));
        let first = 100 - lines.len();
        assert!(lines[0].starts_with(&format!("line {first:04}")), "{lines:?}");
    }

    #[test]
    fn a_history_goes_on_behind_a_line_that_was_torn() {
        let folder = tempfile::tempdir().unwrap();
        assert!(all(&folder.path().join("none")).is_empty());
        let mut history = History::open(folder.path(), 8_000).unwrap();
        history.write(b"whole\n{\"torn\":").unwrap();
        drop(history);
        let mut history = History::open(folder.path(), 8_000).unwrap();
        history.write(b"next\n").unwrap();
        history.write(b"being writ").unwrap();
        assert_eq!(all(folder.path()), ["whole", "{\"torn\":", "next"]);
    }
}
