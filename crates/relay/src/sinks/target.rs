//! Where the mail log goes: a file that is moved on when it is full, standard output, the journal
//! of systemd.
//!
//! Invariant: a line is never parted between two files, and what can be written is written, also
//! where a file cannot be moved on. Not pure: writes.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    num::NonZeroU32,
    os::unix::{
        fs::{FileExt, FileTypeExt, OpenOptionsExt},
        net::UnixDatagram,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::net::sockopt::set_socket_send_buffer_size;
use serde::Deserialize;

/// Where the mail log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the end of this file; made where it is missing, mode 0640 less the umask.
    File(PathBuf, Rotation),
    /// To the journal of systemd that listens here.
    Journal(PathBuf),
    /// Nowhere.
    Off,
    /// To standard output.
    Stdout,
}

/// When a log file is moved on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Octets that a file has at most; `None`: any number. A file has one write at least.
    pub size_max: Option<u64>,
    /// How many of the files before it are kept.
    pub files_max: NonZeroU32,
}

/// What went wrong with lines.
#[derive(Debug)]
pub(super) struct Trouble {
    /// How many of them are written nowhere; 0 where only something beside them went wrong.
    pub(super) lost: u64,
    /// `None` where it was told before.
    pub(super) why: Option<io::Error>,
}

impl Trouble {
    /// None of these lines is written.
    fn losing(lines: &[u8], why: io::Error) -> Self {
        Self { lost: count(lines), why: Some(why) }
    }
}

/// Takes lines.
pub(super) enum Place {
    File(LogFile),
    Journal(Journal),
    Stdout,
}

impl Place {
    /// The same file by its name: it may have been moved on since it was opened.
    pub(super) fn anew(self) -> Self {
        match self {
            Self::File(file) => {
                let opened = LogFile::open(&file.path, file.rotation);
                Self::File(opened.unwrap_or(file))
            }
            Self::Journal(_) | Self::Stdout => self,
        }
    }

    /// Opens the target; `None` where it is nowhere.
    pub(super) fn open(target: &Target) -> io::Result<Option<Self>> {
        Ok(match target {
            Target::File(path, rotation) => Some(Self::File(LogFile::open(path, *rotation)?)),
            Target::Journal(socket) => {
                let journal = UnixDatagram::unbound()?;
                journal.connect(socket).map_err(|why| {
                    let place = socket.display();
                    io::Error::new(why.kind(), format!("no journal listens at {place}: {why}"))
                })?;
                // Not connected: the journal may be started anew, with another socket.
                let journal = UnixDatagram::unbound()?;
                // A journal that hangs must not keep the history back for ever.
                journal.set_write_timeout(Some(JOURNAL_WAIT))?;
                // For the longest lines. What the machine allows has to do.
                set_socket_send_buffer_size(&journal, JOURNAL_BUFFER).ok();
                let socket = socket.clone();
                Some(Self::Journal(Journal { out: journal, socket, hangs_until: None }))
            }
            Target::Off => None,
            Target::Stdout => Some(Self::Stdout),
        })
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Trouble> {
        match self {
            Self::File(file) => file.write(lines),
            Self::Journal(journal) => journal.write(lines),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                let written = out.write_all(lines).and_then(|()| out.flush());
                written.map_err(|why| Trouble::losing(lines, why))
            }
        }
    }
}

/// The journal of systemd.
pub(super) struct Journal {
    out: UnixDatagram,
    socket: PathBuf,
    /// Until then it is told nothing: it did not answer in time.
    hangs_until: Option<Instant>,
}

impl Journal {
    fn write(&mut self, lines: &[u8]) -> Result<(), Trouble> {
        if self.hangs_until.is_some_and(|until| until > Instant::now()) {
            return Err(Trouble { lost: count(lines), why: None });
        }
        self.hangs_until = None;
        let mut trouble = Trouble { lost: 0, why: None };
        let mut left = count(lines);
        for line in lines.split(|octet| *octet == b'\n').filter(|line| !line.is_empty()) {
            left -= 1;
            let Err(why) = self.out.send_to(&entry(line), &self.socket) else { continue };
            trouble.lost += 1;
            if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
                self.hangs_until = Some(Instant::now() + JOURNAL_PAUSE);
                let pause = JOURNAL_PAUSE.as_secs();
                let why = format!("the journal hangs: for {pause} s its lines are lost");
                let why = Some(io::Error::new(ErrorKind::TimedOut, why));
                return Err(Trouble { lost: trouble.lost + left, why });
            }
            // One that cannot be told is no reason to keep the others back.
            trouble.why = Some(why);
        }
        if trouble.lost == 0 { Ok(()) } else { Err(trouble) }
    }
}

/// A log file and what is to become of it.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    octets: u64,
    rotation: Rotation,
    /// Whether its last line was not written to its end.
    is_torn: bool,
    /// Until then it is not moved on: that failed.
    stays_until: Option<Instant>,
}

impl LogFile {
    fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        // A FIFO without a reader would hold up everything.
        options.create(true).append(true).mode(0o640).custom_flags(NONBLOCK);
        let file = options.open(path)?;
        let facts = file.metadata()?;
        if facts.file_type().is_fifo() {
            return Err(io::Error::other("a FIFO is no place for a log"));
        }
        // A device or a link is not moved: it would be missed by others.
        let is_ours = path.symlink_metadata().is_ok_and(|facts| facts.is_file());
        let size_max = rotation.size_max.filter(|_| is_ours);
        let rotation = Rotation { size_max, ..rotation };
        let octets = facts.len();
        // A process before us may have ended in the middle of a line, with the disk full.
        let is_torn = facts.is_file() && octets > 0 && !ends_a_line(path, octets);
        Ok(Self { path: path.to_owned(), file, octets, rotation, is_torn, stays_until: None })
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), Trouble> {
        let mut rest = lines;
        while !rest.is_empty() {
            let mut fits = self.fitting(rest);
            if fits == 0 {
                if self.stays_until.is_some_and(|until| until > Instant::now()) {
                    return self.append(rest);
                }
                if self.octets > 0
                    && let Err(why) = self.move_on()
                {
                    self.stays_until = Some(Instant::now() + MOVE_PAUSE);
                    // Better in the wrong file than nowhere.
                    return self.append(rest).and(Err(Trouble { lost: 0, why: Some(why) }));
                }
                fits = self.fitting(rest).max(first_line(rest));
            }
            let (now, later) = rest.split_at(fits);
            let behind = count(later);
            self.append(now).map_err(|why| Trouble { lost: why.lost + behind, ..why })?;
            rest = later;
        }
        Ok(())
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), Trouble> {
        if self.is_torn {
            // What was cut, as by a full disk, must not take the next line with it.
            self.file.write_all(b"\n").map_err(|why| Trouble::losing(lines, why))?;
            self.is_torn = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Ok(0) => return Err(Trouble::losing(rest, ErrorKind::WriteZero.into())),
                Err(why) => return Err(Trouble::losing(rest, why)),
                Ok(written) => {
                    self.octets += written as u64;
                    let (now, later) = rest.split_at(written);
                    self.is_torn = !now.ends_with(b"\n");
                    rest = later;
                }
            }
        }
        Ok(())
    }

    /// Octets of the whole lines that this file still takes.
    fn fitting(&self, lines: &[u8]) -> usize {
        let Some(size_max) = self.rotation.size_max else { return lines.len() };
        let room = usize::try_from(size_max.saturating_sub(self.octets)).unwrap_or(usize::MAX);
        match lines.get(..room) {
            None => lines.len(),
            Some(within) => within.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1),
        }
    }

    /// `mail.log` becomes `mail.log.1`, that `mail.log.2` and so on; the last one goes.
    fn move_on(&mut self) -> io::Result<()> {
        let numbered = |number: u32| -> PathBuf {
            let mut name = OsString::from(&self.path);
            name.push(format!(".{number}"));
            name.into()
        };
        let exists = |path: &Path| path.symlink_metadata().is_ok();
        let kept = self.rotation.files_max.get();
        // Else somebody has moved it already.
        if exists(&self.path) {
            // Only what stands in the way is moved: up to the first number that is free.
            let free = (1..kept).find(|number| !exists(&numbered(*number))).unwrap_or(kept);
            for number in (1..free).rev() {
                fs::rename(numbered(number), numbered(number + 1))?;
            }
            fs::rename(&self.path, numbered(1))?;
        }
        *self = Self::open(&self.path, self.rotation)?;
        Ok(())
    }
}

/// Whether a file of so many octets ends with the end of a line; one that cannot be read does.
fn ends_a_line(path: &Path, octets: u64) -> bool {
    let mut last = [b'\n'];
    File::open(path).and_then(|file| file.read_at(&mut last, octets - 1)).ok();
    last == *b"\n"
}

/// How many lines these are, the last one with or without its end.
fn count(lines: &[u8]) -> u64 {
    let parts = lines.split(|octet| *octet == b'\n');
    parts.filter(|line| !line.is_empty()).count() as u64
}

/// Octets of the first line, with its end.
fn first_line(lines: &[u8]) -> usize {
    lines.iter().position(|octet| *octet == b'\n').map_or(lines.len(), |at| at + 1)
}

/// A line of the log as the journal takes it (systemd's native protocol): what one asks it for has
/// fields of its own.
fn entry(line: &[u8]) -> Vec<u8> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Named {
        event: String,
        id: String,
        listener: String,
    }

    let named: Named = serde_json::from_slice(line).unwrap_or_default();
    let mut entry = b"SYSLOG_IDENTIFIER=merpati\nPRIORITY=6\n".to_vec();
    for (field, value) in [
        ("MERPATI_EVENT", named.event),
        ("MERPATI_ID", named.id),
        ("MERPATI_LISTENER", named.listener),
    ] {
        // A value with a line end would begin a field of its own.
        if !value.is_empty() && !value.contains(char::is_control) {
            entry.extend_from_slice(format!("{field}={value}\n").as_bytes());
        }
    }
    entry.extend_from_slice(b"MESSAGE=");
    entry.extend_from_slice(line);
    entry.push(b'\n');
    entry
}

/// `O_NONBLOCK`; regular files do not mind.
const NONBLOCK: i32 = 0o4000;

/// How long a journal may take for a line.
const JOURNAL_WAIT: Duration = Duration::from_secs(1);
/// How long a journal that took longer is left alone.
const JOURNAL_PAUSE: Duration = Duration::from_secs(30);
/// How long a file that could not be moved on stays as it is.
const MOVE_PAUSE: Duration = Duration::from_mins(1);
/// Octets that may be on their way to the journal.
const JOURNAL_BUFFER: usize = 8 << 20;

/// Where the journal of systemd listens.
pub const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
