//! Mail that programs of this machine left while no relay took it: `merpati sendmail` writes it
//! into a directory, from which it is collected here.
//!
//! Each file is a conversation as its client says it (RFC 2442): commands, then the content. It is
//! handed to a listener of our own like any other mail, so the rules of that listener hold for it.
//!
//! Invariant: a file goes only when its mail was taken, so a crash in between may take it twice,
//! and never loses it; what is refused for good stays beside the others, under another name. Not
//! pure: files and sockets.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use merpati_smtp::server::MailNeeds;
use tokio::task::spawn_blocking;

use crate::{
    admin::{Setup, Setups},
    conversation::{Conversation, Trouble},
    listen::Tls,
};

/// The directory in the data directory.
pub const DIRECTORY: &str = "drop";
/// How the names of complete files end.
pub const SUFFIX: &str = ".mail";

/// Collects what is in `directory`, again and again, until it is dropped.
pub async fn collect(directory: PathBuf, setups: Arc<Setups>) {
    loop {
        tokio::time::sleep(LOOK_PACE).await;
        let (directory, setup) = (directory.clone(), setups.get());
        let looked = spawn_blocking(move || collect_once(&directory, &setup)).await;
        if looked.is_err() {
            tracing::error!("collecting the drop directory panicked");
        }
    }
}

/// Hands over all files, the oldest first, until one cannot be handed over now.
fn collect_once(directory: &Path, setup: &Setup) {
    for file in files(directory) {
        let Some(server) = own_listener(setup) else {
            tracing::warn!(
                "no listener takes mail in the clear from 127.0.0.1; mail stays in drop"
            );
            return;
        };
        match hand_over(&file, server) {
            Ok(refused) => {
                for refusal in refused {
                    tracing::warn!(file = %file.display(), %refusal, "a recipient was refused");
                }
                remove(&file);
            }
            Err(trouble) if trouble.is_passing() => {
                tracing::warn!(file = %file.display(), %trouble, "dropped mail has to wait");
                return;
            }
            Err(trouble) => {
                tracing::error!(file = %file.display(), %trouble, "dropped mail was refused");
                let kept = file.with_extension("refused");
                if let Err(error) = fs::rename(&file, kept) {
                    tracing::error!(file = %file.display(), %error, "it cannot be set aside");
                    return;
                }
            }
        }
    }
}

fn remove(file: &Path) {
    if let Err(error) = fs::remove_file(file) {
        tracing::error!(file = %file.display(), %error, "dropped mail was taken, but stays");
    }
}

/// The complete files, the oldest first: their names begin with a time.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.ends_with(SUFFIX) && !name.starts_with('.')
        })
        .collect();
    files.sort();
    files
}

/// Where a listener of ours hears a client of this machine in the clear.
fn own_listener(setup: &Setup) -> Option<SocketAddr> {
    let is_clear = |name: &str| {
        let plan = setup.plans.iter().find(|plan| plan.options.listener == name);
        plan.is_some_and(|plan| match plan.tls {
            Tls::Implicit(_) => false,
            Tls::Never | Tls::Starttls(_) => plan.options.mail_needs == MailNeeds::Nothing,
        })
    };
    let found = setup.sockets.iter().find(|socket| is_clear(&socket.name))?;
    let mut address = found.address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    Some(address)
}

/// Hands a file over; gives what was said to recipients that were refused while others were not.
fn hand_over(file: &Path, server: SocketAddr) -> Result<Vec<String>, Trouble> {
    let octets = fs::read(file)?;
    let (commands, content) = parts(&octets)
        .ok_or_else(|| Trouble::Name(format!("{}: it is no batch of SMTP", file.display())))?;
    let mut conversation = Conversation::open(&server.to_string())?;
    conversation.reply("the connection")?;
    let (mut refused, mut last, mut taken) = (Vec::new(), None, 0);
    for command in commands.iter().filter(|command| !is_verb(command, "DATA")) {
        match conversation.say(command) {
            Ok(_) => taken += usize::from(is_verb(command, "RCPT")),
            Err(trouble @ Trouble::Refused { .. })
                if is_verb(command, "RCPT") && !trouble.is_passing() =>
            {
                refused.push(trouble.to_string());
                last = Some(trouble);
            }
            Err(trouble) => return Err(trouble),
        }
    }
    if let Some(trouble) = last.filter(|_| taken == 0) {
        return Err(trouble);
    }
    conversation.say("DATA")?;
    conversation.send(&unstuffed(content))?;
    conversation.say("QUIT").ok();
    Ok(refused)
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

/// Without the dots that were put before lines that begin with one.
fn unstuffed(content: &[u8]) -> Vec<u8> {
    let lines = content.split_inclusive(|octet| *octet == b'\n');
    lines.flat_map(|line| line.strip_prefix(b".").unwrap_or(line)).copied().collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_commands_and_a_content() {
        let text = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n\
                     S: x\r\n\r\n..a\r\n.\r\nQUIT\r\n";
        let (commands, content) = parts(text).unwrap();
        assert_eq!(commands, ["EHLO x", "MAIL FROM:<>", "RCPT TO:<a@b.example>", "DATA"]);
        assert_eq!(unstuffed(content), b"S: x\r\n\r\n.a\r\n");
        assert_eq!(parts(b"EHLO x\r\nDATA\r\n.\r\n").unwrap().1, b"");
        for broken in [&b""[..], b"EHLO x\r\n", b"DATA\r\nno end\r\n", b"\xff\r\nDATA\r\n.\r\n"] {
            assert!(parts(broken).is_none(), "{broken:?}");
        }
    }

    #[test]
    fn only_complete_files_are_collected_the_oldest_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["200.1.mail", "100.2.mail", ".300.3.mail", "400.refused", "note.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<String> = files(folder.path())
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["100.2.mail", "200.1.mail"]);
        assert!(files(&folder.path().join("none")).is_empty());
    }
}
