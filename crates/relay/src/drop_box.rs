//! Mail that programs of this machine left while no relay took it: `merpati sendmail` writes it
//! into a directory, from which it is collected here.
//!
//! Each file is a conversation as its client says it (RFC 2442): commands, then the content. It is
//! handed to a listener of our own like any other mail, so the rules of that listener hold for it.
//!
//! Invariant: a file is claimed by its name before it is handed over, and goes only when its mail
//! was taken: a crash in between may take it twice, and never loses it. What cannot be handed over
//! now holds up no other; what is refused for good stays beside the others, under another name. Who
//! may write there is not trusted: what is read is a regular file of a bounded size. Not pure:
//! files and sockets.

use std::{
    fs::{self, File},
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use merpati_smtp::server::MailNeeds;
use rustix::fs::{Mode, OFlags};
use tokio::task::spawn_blocking;

use crate::{
    admin::{Setup, Setups, Socket},
    conversation::{Conversation, Trouble},
    listen::{Plan, Sink, Tls},
};

/// The directory in the data directory.
pub const DIRECTORY: &str = "drop";
/// How the names of complete files end.
pub const SUFFIX: &str = ".mail";
/// How the names of files end that are being handed over.
const CLAIMED: &str = "taken";
/// How the names of files end that are refused for good.
const REFUSED: &str = "refused";

/// Collects what is in `directory`, again and again, until it is dropped.
pub async fn collect(directory: PathBuf, setups: Arc<Setups>) {
    let mut pace = LOOK_PACE;
    give_back_claimed(&directory);
    loop {
        tokio::time::sleep(pace).await;
        let (directory, setup) = (directory.clone(), setups.get());
        let looked = spawn_blocking(move || collect_once(&directory, &setup)).await;
        pace = match looked {
            Ok(Looked::Done) => LOOK_PACE,
            Ok(Looked::Waits) => WAIT_PACE,
            Err(error) => {
                tracing::error!(%error, "collecting the drop directory ended badly");
                WAIT_PACE
            }
        };
    }
}

/// What came of a look at the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    /// Nothing is left to be handed over.
    Done,
    /// Something is.
    Waits,
}

/// What becomes of a file.
#[derive(Debug)]
enum Fate {
    /// Its mail was taken; but for these recipients, now or for good.
    Taken(Left),
    /// It is refused for good, or never was mail; in words.
    Refused(String),
    /// It is tried again; in words why.
    Waits(String),
}

/// The recipients that a listener did not take while it took others.
#[derive(Debug, Default)]
struct Left {
    /// Those that may come again.
    later: Vec<String>,
    /// Those that it will never take.
    never: Vec<String>,
}

/// A crash may have left files claimed.
fn give_back_claimed(directory: &Path) {
    for file in files(directory, CLAIMED) {
        rename(&file, "mail");
    }
}

/// Hands over all files, the oldest first.
fn collect_once(directory: &Path, setup: &Setup) -> Looked {
    let mut looked = Looked::Done;
    for file in files(directory, "mail") {
        let Some((server, octets_max)) = own_listener(setup) else {
            tracing::warn!(
                "no listener takes mail in the clear from 127.0.0.1; mail stays in drop"
            );
            return Looked::Waits;
        };
        // Where its name cannot be changed it could not be removed either, and would go again.
        if !rename(&file, CLAIMED) {
            looked = Looked::Waits;
            continue;
        }
        let claimed = file.with_extension(CLAIMED);
        match fate(&claimed, server, octets_max) {
            Fate::Taken(left) => settle(&claimed, &left),
            Fate::Refused(why) => {
                tracing::error!(file = %file.display(), why, "dropped mail was refused");
                rename(&claimed, REFUSED);
            }
            Fate::Waits(why) if is_old(&claimed) => {
                tracing::error!(file = %file.display(), why, "dropped mail has waited too long");
                rename(&claimed, REFUSED);
            }
            Fate::Waits(why) => {
                tracing::warn!(file = %file.display(), why, "dropped mail has to wait");
                rename(&claimed, "mail");
                looked = Looked::Waits;
            }
        }
    }
    looked
}

/// Keeps what is left for other recipients, and removes the file.
fn settle(file: &Path, left: &Left) {
    let octets = open(file, u64::MAX).unwrap_or_default();
    for (recipients, ending) in [(&left.later, "mail"), (&left.never, REFUSED)] {
        if recipients.is_empty() {
            continue;
        }
        let mut of_them = file.as_os_str().to_owned();
        of_them.push(format!(".{ending}"));
        let batch = batch_for(&octets, recipients);
        if let Err(error) = fs::write(&of_them, batch) {
            // Better twice for some than never for these.
            tracing::error!(file = %file.display(), %error, "what is left cannot be kept");
            rename(file, "mail");
            return;
        }
        tracing::warn!(file = %file.display(), ?recipients, ending, "recipients were not taken");
    }
    if let Err(error) = fs::remove_file(file) {
        tracing::error!(file = %file.display(), %error, "dropped mail was taken, but stays");
    }
}

/// The same conversation with these recipients alone.
fn batch_for(octets: &[u8], recipients: &[String]) -> Vec<u8> {
    let Some((commands, content)) = parts(octets) else { return octets.to_vec() };
    let mut batch = Vec::with_capacity(octets.len());
    for command in &commands {
        if is_verb(command, "RCPT") && !recipients.contains(command) {
            continue;
        }
        batch.extend_from_slice(command.as_bytes());
        batch.extend_from_slice(b"\r\n");
    }
    batch.extend_from_slice(content);
    batch.extend_from_slice(b".\r\nQUIT\r\n");
    batch
}

fn rename(file: &Path, ending: &str) -> bool {
    let renamed = fs::rename(file, file.with_extension(ending));
    if let Err(error) = &renamed {
        tracing::error!(file = %file.display(), %error, "dropped mail cannot be renamed");
    }
    renamed.is_ok()
}

fn is_old(file: &Path) -> bool {
    let written = fs::symlink_metadata(file).and_then(|facts| facts.modified());
    let age = written.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
    age.is_ok_and(|age| age > AGE_MAX)
}

/// The files whose names end so, the oldest first: their names begin with a time.
fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_it = path.extension().is_some_and(|extension| extension == ending);
            is_it && !name.starts_with('.')
        })
        .collect();
    files.sort();
    files
}

/// Where a listener of ours hears a client of this machine in the clear, and how much it takes:
/// first one whose mail is delivered.
fn own_listener(setup: &Setup) -> Option<(SocketAddr, u64)> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let is_open = |plan: &Plan| match plan.tls {
        Tls::Implicit(_) => false,
        Tls::Never | Tls::Starttls(_) => {
            plan.options.mail_needs == MailNeeds::Nothing && !plan.lists.is_proxy(loopback)
        }
    };
    let plan_of = |socket: &Socket| {
        setup.plans.iter().find(|plan| plan.options.listener == socket.name && is_open(plan))
    };
    let is_near = |address: SocketAddr| address.ip().is_loopback() || address.ip().is_unspecified();
    let all = setup.sockets.iter().filter(|socket| is_near(socket.address));
    let all = all.filter_map(|socket| Some((socket.address, plan_of(socket)?)));
    let (mut address, plan) = all.min_by_key(|(_, plan)| plan.sink != Sink::Queue)?;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => loopback,
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    Some((address, plan.options.limits.message_bytes_max))
}

/// The octets of a regular file that is not longer than this.
fn open(file: &Path, octets_max: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(file, flags, Mode::empty())?);
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut octets = Vec::new();
    file.take(octets_max.saturating_add(1)).read_to_end(&mut octets)?;
    if octets.len() as u64 > octets_max {
        return Err(io::Error::other(format!("it is longer than {octets_max} octets")));
    }
    Ok(octets)
}

/// Hands a file over.
fn fate(file: &Path, server: SocketAddr, octets_max: u64) -> Fate {
    let octets = match open(file, octets_max.saturating_add(ENVELOPE_OCTETS_MAX)) {
        Ok(octets) => octets,
        Err(error) => return Fate::Refused(format!("it cannot be read: {error}")),
    };
    let Some((commands, content)) = parts(&octets) else {
        return Fate::Refused("it is no batch of SMTP".to_owned());
    };
    match hand_over(&commands, content, server) {
        Ok(left) => Fate::Taken(left),
        Err(trouble) if trouble.is_passing() => Fate::Waits(trouble.to_string()),
        Err(trouble) => Fate::Refused(trouble.to_string()),
    }
}

fn hand_over(commands: &[String], content: &[u8], server: SocketAddr) -> Result<Left, Trouble> {
    let mut conversation = Conversation::open(&server.to_string())?;
    conversation.reply("the connection")?;
    let (mut left, mut last, mut taken) = (Left::default(), None, 0);
    for command in commands.iter().filter(|command| !is_verb(command, "DATA")) {
        match conversation.say(command) {
            Ok(_) => taken += usize::from(is_verb(command, "RCPT")),
            Err(trouble @ Trouble::Refused { .. }) if is_verb(command, "RCPT") => {
                let these = if trouble.is_passing() { &mut left.later } else { &mut left.never };
                these.push(command.clone());
                last = Some(trouble);
            }
            Err(trouble) => return Err(trouble),
        }
    }
    if let Some(trouble) = last.filter(|_| taken == 0) {
        return Err(trouble);
    }
    conversation.say("DATA")?;
    // The dots are there already.
    conversation.send_stuffed(content)?;
    conversation.say("QUIT").ok();
    Ok(left)
}

/// The commands up to DATA, and the content without its end.
fn parts(octets: &[u8]) -> Option<(Vec<String>, &[u8])> {
    let mut commands = Vec::new();
    let mut rest = octets;
    loop {
        let end = rest.iter().position(|octet| *octet == b'\n')?;
        let line = std::str::from_utf8(rest.get(..end)?).ok()?.trim_end_matches('\r');
        rest = rest.get(end + 1..)?;
        let is_last = is_verb(line, "DATA");
        if !["EHLO", "MAIL", "RCPT", "DATA"].iter().any(|verb| is_verb(line, verb)) {
            return None;
        }
        commands.push(line.to_owned());
        if is_last {
            break;
        }
    }
    if rest.starts_with(b".\r\n") {
        return Some((commands, &[]));
    }
    let end = rest.windows(END.len()).position(|part| part == END)?;
    // The line end before the dot belongs to the content.
    Some((commands, rest.get(..end + 2)?))
}

fn is_verb(command: &str, verb: &str) -> bool {
    command.get(..verb.len()).is_some_and(|start| start.eq_ignore_ascii_case(verb))
}

/// Makes the directory where it is missing, for the relay and whom the administrator lets in.
pub fn make(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if directory.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

const END: &[u8] = b"\r\n.\r\n";
/// How often it is looked.
const LOOK_PACE: Duration = Duration::from_secs(1);
/// How long it is waited where something could not be handed over.
const WAIT_PACE: Duration = Duration::from_secs(30);
/// The age at which a file is set aside that could never be handed over.
const AGE_MAX: Duration = Duration::from_hours(5 * 24);
/// Room for the commands of a batch.
const ENVELOPE_OCTETS_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_commands_and_a_content() {
        let text = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n\
                     S: x\r\n\r\n..a\r\n.\r\nQUIT\r\n";
        let (commands, content) = parts(text).unwrap();
        assert_eq!(commands, ["EHLO x", "MAIL FROM:<>", "RCPT TO:<a@b.example>", "DATA"]);
        assert_eq!(content, b"S: x\r\n\r\n..a\r\n");
        let one = batch_for(text, &["RCPT TO:<a@b.example>".to_owned()]);
        assert_eq!(one, text);
        assert!(!String::from_utf8(batch_for(text, &[])).unwrap().contains("RCPT"));
        assert_eq!(parts(b"EHLO x\r\nDATA\r\n.\r\n").unwrap().1, b"");
        for broken in [
            &b""[..],
            b"EHLO x\r\n",
            b"DATA\r\nno end\r\n",
            b"\xff\r\nDATA\r\n.\r\n",
            b"QUIT\r\nDATA\r\n.\r\n",
        ] {
            assert!(parts(broken).is_none(), "{broken:?}");
        }
    }

    #[test]
    fn only_a_regular_file_of_a_bounded_size_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a"), b"12345").unwrap();
        std::os::unix::fs::symlink(path("a"), path("link")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("fifo"),
            rustix::fs::FileType::Fifo,
            Mode::RWXU,
            0,
        )
        .unwrap();
        assert_eq!(open(&path("a"), 5).unwrap(), b"12345");
        for (name, octets_max) in [("a", 4), ("link", 9), ("fifo", 9), ("none", 9)] {
            assert!(open(&path(name), octets_max).is_err(), "{name}");
        }
    }

    #[test]
    fn only_complete_files_are_collected_the_oldest_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["200.1.mail", "100.2.mail", ".300.3.mail", "400.refused", "note.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<String> = files(folder.path(), "mail")
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["100.2.mail", "200.1.mail"]);
        assert!(files(&folder.path().join("none"), "mail").is_empty());
    }
}
