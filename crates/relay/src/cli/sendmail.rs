//! `merpati sendmail`: what programs call that send by a command, as they always have.
//!
//! The message goes by SMTP to a listener of this machine, and where none takes it just now into
//! the drop directory, from which the relay collects it. So the listener must take mail from
//! 127.0.0.1: `relay.networks` says whether that may go everywhere.
//!
//! Invariant: it ends with 0 only where a relay has taken the message or it is synced into the drop
//! directory. Exit codes are those of `sysexits.h`, as programs expect of sendmail.

mod arguments;
mod message;

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
};

pub(super) use self::arguments::{Mode, SendmailArguments};
use super::{Failure, client::Client, output::Output, send::now};
use crate::{
    conversation::{Conversation, Trouble},
    drop_box,
};

/// Carries out one call; what goes wrong is told on standard error.
pub(super) fn run(arguments: &SendmailArguments, output: &mut Output) -> ExitCode {
    let done = match arguments.mode {
        Mode::Deliver => deliver(arguments),
        Mode::Speak => speak().map_err(|why| (EX_UNAVAILABLE, why)),
        // The queue runs by itself; the others are no work of ours.
        Mode::Initialise | Mode::List | Mode::RunQueue => Ok(()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, why)) => {
            output.complain(&format!("sendmail: {why}"));
            ExitCode::from(code)
        }
    }
}

/// `newaliases`: has a running relay read its tables again.
pub(super) fn new_aliases(client: &Client, output: &mut Output) -> Result<ExitCode, Failure> {
    match client.post("/v1/reload") {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(Failure::RelayDown(_)) => {
            output.complain("newaliases: no relay runs; it reads its tables when it starts");
            Ok(ExitCode::SUCCESS)
        }
        Err(other) => Err(other),
    }
}

type Wrong = (u8, String);

fn deliver(arguments: &SendmailArguments) -> Result<(), Wrong> {
    let mut octets = Vec::new();
    let stdin = io::stdin().lock();
    read(stdin, arguments.ends_at_dot, &mut octets).map_err(|why| (EX_IOERR, why.to_string()))?;
    let login = login();
    let submission = message::Submission::of(arguments, &octets, &login, now());
    let submission = submission.map_err(|why| (EX_USAGE, why))?;
    match hand_over(&submission) {
        Ok(()) => Ok(()),
        Err(trouble) if trouble.is_passing() => drop_off(&submission)
            .map_err(|error| (EX_TEMPFAIL, format!("{trouble}; and not into {error}"))),
        Err(trouble @ Trouble::Refused { .. }) => {
            let is_unknown = matches!(&trouble, Trouble::Refused { reply, command }
                if command.starts_with("RCPT") && reply.starts_with("55"));
            Err((if is_unknown { EX_NOUSER } else { EX_UNAVAILABLE }, trouble.to_string()))
        }
        Err(trouble) => Err((EX_UNAVAILABLE, trouble.to_string())),
    }
}

fn hand_over(submission: &message::Submission) -> Result<(), Trouble> {
    let mut conversation = Conversation::open(&server())?;
    conversation.reply("the connection")?;
    for command in submission.commands() {
        conversation.say(&command)?;
    }
    conversation.send(&submission.content)?;
    // It is taken: what the server says to QUIT changes nothing.
    let _ = conversation.say("QUIT");
    Ok(())
}

/// Writes the message where the relay will find it; errs with where it could not be written, and
/// why. The directory is the relay's, so it is never made here: nobody would look into it.
fn drop_off(submission: &message::Submission) -> Result<(), String> {
    let directory = drop_directory();
    let name = format!("{}.{}", now().as_micros(), std::process::id());
    let draft = directory.join(format!(".{name}"));
    let whole = directory.join(format!("{name}{}", drop_box::SUFFIX));
    let write = || -> io::Result<()> {
        let file = write_synced(&draft, &submission.batch())?;
        fs::rename(&draft, &whole)?;
        // The name as well. The directory itself may be closed to us; and what is left there is
        // left, whatever this says.
        rustix::fs::syncfs(&file).ok();
        Ok(())
    };
    write().map_err(|why| {
        fs::remove_file(&draft).ok();
        format!("{}: {why}", directory.display())
    })
}

/// For ourselves and the group of the directory, which is that of the relay.
fn write_synced(path: &Path, octets: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o640).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o640))?;
    file.write_all(octets)?;
    file.sync_all()?;
    Ok(file)
}

/// Speaks SMTP from standard input to the relay, and back.
fn speak() -> Result<(), String> {
    let conversation = Conversation::open(&server()).map_err(|why| why.to_string())?;
    let stream = conversation.into_stream();
    let mut back = stream.try_clone().map_err(|why| why.to_string())?;
    let talker = std::thread::spawn(move || {
        let mut stream = &stream;
        io::copy(&mut io::stdin().lock(), &mut stream).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
    });
    io::copy(&mut back, &mut io::stdout().lock()).map_err(|why| why.to_string())?;
    // The server has hung up: what is still typed goes nowhere.
    drop(talker);
    Ok(())
}

/// Everything, or up to a line with a dot alone; line ends become those of SMTP.
fn read(from: impl Read, ends_at_dot: bool, octets: &mut Vec<u8>) -> io::Result<()> {
    let mut reader = BufReader::new(from.take(MESSAGE_OCTETS_MAX));
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if reader.get_ref().limit() == 0 {
            return Err(io::Error::other("the message is too long"));
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if ends_at_dot && text == b"." {
            return Ok(());
        }
        octets.extend_from_slice(text);
        octets.extend_from_slice(b"\r\n");
        line.clear();
    }
    Ok(())
}

/// Who calls, and the name of this machine.
fn login() -> message::Login {
    let named = ["LOGNAME", "USER"].iter().find_map(|name| env::var(name).ok());
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    message::Login {
        user: named.filter(|user| !user.is_empty()).unwrap_or_else(account),
        hostname: match hostname.trim() {
            "" => "localhost".to_owned(),
            name => name.to_owned(),
        },
    }
}

/// The name of the account that runs this, or its number.
fn account() -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(uid.as_str())).then(|| name.to_owned())
    });
    name.unwrap_or(uid)
}

fn server() -> String {
    env::var("MERPATI_SENDMAIL_SERVER").unwrap_or_else(|_| "127.0.0.1:25".to_owned())
}

/// That of the relay of this machine, as the package has it, unless one is named.
fn drop_directory() -> PathBuf {
    let named = |name| env::var_os(name).map(PathBuf::from);
    let data = || named("MERPATI_DATA").unwrap_or_else(|| PathBuf::from("/var/lib/merpati"));
    named("MERPATI_DROP").unwrap_or_else(|| data().join(drop_box::DIRECTORY))
}

/// Octets of the longest message that is read.
const MESSAGE_OCTETS_MAX: u64 = 1 << 30;
const EX_USAGE: u8 = 64;
const EX_NOUSER: u8 = 67;
const EX_UNAVAILABLE: u8 = 69;
const EX_IOERR: u8 = 74;
const EX_TEMPFAIL: u8 = 75;
