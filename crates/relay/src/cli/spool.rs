//! `merpati spool`: what is done with the spool as a whole.
//!
//! Invariant: what only looks changes nothing, not a time of a file; what writes says that it is
//! done only when that is durable. All but `backup` need that no relay uses the spool, and its
//! lock sees to that.

mod transfer;

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use merpati_console::spool::{BackedUp, Damaged, Measured, Verified};
use merpati_flow::{
    queue::{Fold, Queue},
    route::Router,
};
use merpati_mail::{Domain, NodeId, QueueId, Record, event::Carried};
use merpati_spool::{Contents, Inspection, Options, SpoolError, Told};
use serde_json::Value;

use super::{
    ConfigArguments, Failure, Format, FormatArguments,
    client::{Client, encoded},
    config_commands::load,
    output::{Output, plain},
};
use crate::{admin::backup::Backup, config::Config};

#[derive(Debug, Subcommand)]
pub(super) enum SpoolCommand {
    /// Copy all living mail into a data directory that a relay can be started with, also while
    /// the relay runs.
    Backup {
        /// The directory that the copy will be; it must be new or empty.
        directory: PathBuf,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Write living mail into files: for each message its content and, beside it, its envelope
    /// and state.
    Export {
        /// The directory; it must be new or empty.
        directory: PathBuf,
        /// Only these messages.
        #[arg(value_name = "ID")]
        ids: Vec<QueueId>,
        #[command(flatten)]
        place: Place,
    },
    /// Take the messages of an export into the spool, under their ids and with their state.
    Import {
        /// The directory of the export.
        directory: PathBuf,
        /// Leave out messages that are in the spool already, instead of refusing all.
        #[arg(long)]
        skip_present: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Tell how much the spool holds, and how much of it is needed.
    Stats {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Read everything, and tell what is damaged: 0 nothing, 1 something, 2 it could not be read.
    Verify {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        format: FormatArguments,
    },
}

/// Which spool.
#[derive(clap::Args, Debug)]
pub(super) struct Place {
    /// A data directory, or the spool in one [default: that of the configuration].
    #[arg(long, value_name = "PATH")]
    spool: Option<PathBuf>,
    #[command(flatten)]
    from: ConfigArguments,
}

impl Place {
    /// The configuration, and the directory of the spool.
    fn find(&self) -> Result<(Config, PathBuf), Failure> {
        let config = load(&self.from)?;
        let directory = match &self.spool {
            Some(path) if path.join("journal").is_dir() => path.clone(),
            Some(path) => path.join(SPOOL),
            None => config.server.data_dir.join(SPOOL),
        };
        Ok((config, directory))
    }
}

pub(super) fn run(
    command: &SpoolCommand,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    match command {
        SpoolCommand::Backup { directory, place, format } => {
            backup(directory, place, format.format, client, output)
        }
        SpoolCommand::Export { directory, ids, place } => {
            transfer::export(&place.find()?.1, directory, ids, output)
        }
        SpoolCommand::Import { directory, skip_present, place } => {
            let (config, spool) = place.find()?;
            transfer::import(&options(&config, spool), directory, *skip_present, output)
        }
        SpoolCommand::Stats { place, format } => {
            let measured = measure(&place.find()?.1)?;
            match format.format {
                Format::Jsonl => output.line(&measured.line())?,
                Format::Table => tell_measured(&measured, output)?,
            }
            Ok(ExitCode::SUCCESS)
        }
        SpoolCommand::Verify { place, format } => {
            let verified = verify(&place.find()?.1)?;
            match format.format {
                Format::Jsonl => output.line(&verified.line())?,
                Format::Table => tell_verified(&verified, output)?,
            }
            let is_whole = verified.damage.is_empty();
            Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// How the relay would open this spool.
fn options(config: &Config, directory: PathBuf) -> Options {
    let mut options = Options::new(directory, NodeId::default());
    options.segment_bytes = config.spool.segment_size.0;
    options.bytes_max = config.spool.journal_max.map_or(u64::MAX, |bytes| bytes.0);
    options.free_bytes_min = config.spool.disk_free_min.0;
    options
}

/// Looks at a spool; what is wrong with it is for the caller to tell.
fn look(directory: &Path, contents: Contents) -> Result<Living, Failure> {
    let mut fold = Fold::new(Router { rules: Vec::new() }, Domain::localhost());
    let each = &mut |record: Record| fold.apply(record.at, &record.event);
    let inspection =
        Inspection::open(directory, contents, each).map_err(|why| unable(&why, directory))?;
    Ok(Living { inspection, queue: fold.finish() })
}

/// A spool that nobody serves, and the state of the messages in it.
struct Living {
    inspection: Inspection,
    queue: Queue,
}

impl Living {
    /// A message with its state; that is `None` where it never changes.
    fn message(&self, id: QueueId) -> (Result<Told, SpoolError>, Option<Carried>) {
        let told = self.inspection.handle().told(id);
        let state = told.as_ref().ok().and_then(Told::accepted);
        let state = state.and_then(|accepted| self.queue.carried(accepted));
        (told, state)
    }

    /// Tells of every damaged place; false where there is none.
    fn complain(&self, output: &mut Output) -> bool {
        for damage in &self.inspection.recovery().damage {
            let (file, offset) = (damage.file.display(), damage.offset);
            output.complain(&format!("{file}:{offset}: {}", damage.why));
        }
        !self.inspection.recovery().damage.is_empty()
    }
}

fn verify(directory: &Path) -> Result<Verified, Failure> {
    let nothing = &mut |_| ();
    let inspection = Inspection::open(directory, Contents::Checked, nothing)
        .map_err(|why| unable(&why, directory))?;
    let (recovery, stats) = (inspection.recovery(), inspection.stats());
    let damage = recovery.damage.iter().map(|damage| Damaged {
        file: damage.file.display().to_string(),
        offset: damage.offset,
        octets: damage.octets,
        why: damage.why.clone(),
    });
    Ok(Verified {
        directory: directory.display().to_string(),
        messages: stats.messages as u64,
        large: stats.large as u64,
        segments: stats.segments as u64,
        records: recovery.records,
        damage: damage.collect(),
        torn: inspection.torn().map(|torn| (torn.file.display().to_string(), torn.offset)),
    })
}

fn tell_verified(found: &Verified, output: &mut Output) -> Result<(), Failure> {
    for Damaged { file, offset, octets, why } in &found.damage {
        let octets = if *octets == 0 { String::new() } else { format!("{octets} octets: ") };
        output.line(&format!("{file}:{offset}: {octets}{why}"))?;
    }
    if let Some((file, offset)) = &found.torn {
        output.line(&format!(
            "{file}:{offset}: a write was begun here and not completed; that is no damage after a \
             crash, and nobody was told of it"
        ))?;
    }
    let places = match found.damage.len() {
        0 => "whole".to_owned(),
        1 => "damaged at 1 place".to_owned(),
        many => format!("damaged at {many} places"),
    };
    let Verified { directory, messages, segments, records, large, .. } = found;
    output.line(&format!(
        "{directory} is {places}: {messages} living messages, {large} of them in files of their \
         own; {records} records in {segments} segments were read"
    ))?;
    if !found.damage.is_empty() {
        output.complain("help: docs/spool.md says what to do");
    }
    Ok(())
}

fn measure(directory: &Path) -> Result<Measured, Failure> {
    let inspection = Inspection::open(directory, Contents::Unread, &mut |_| ())
        .map_err(|why| unable(&why, directory))?;
    let stats = inspection.stats();
    let handle = inspection.handle();
    // Names grow with time. One that cannot be read is none that tells its age.
    let mut told = handle.messages().into_iter().filter_map(|id| handle.told(id).ok());
    let oldest = told.next();
    Ok(Measured {
        directory: directory.display().to_string(),
        format_version: stats.format_version,
        segments: stats.segments as u64,
        segments_free: stats.segments_free as u64,
        bytes: stats.octets,
        bytes_used: stats.octets_used,
        bytes_live: stats.octets_live,
        bytes_free: stats.octets_free,
        messages: stats.messages as u64,
        oldest: oldest.as_ref().and_then(Told::accepted).map(|of| of.envelope.origin.received_at),
        large: stats.large as u64,
        large_bytes: stats.octets_large,
        damaged: inspection.recovery().damage.len() as u64,
    })
}

fn tell_measured(found: &Measured, output: &mut Output) -> Result<(), Failure> {
    let oldest = found.oldest.map_or_else(|| "-".to_owned(), |oldest| oldest.to_string());
    output.facts(&[
        ("spool", found.directory.clone()),
        ("format version", found.format_version.to_string()),
        ("messages", found.messages.to_string()),
        ("oldest", oldest),
        ("large contents", format!("{}, {} octets", found.large, found.large_bytes)),
        ("segments", format!("{} in use, {} free", found.segments, found.segments_free)),
        ("octets", format!("{}, of which {} in use", found.bytes, found.bytes_used)),
        ("living", format!("{} octets, {:.1} %", found.bytes_live, 100.0 * found.share_live())),
        ("room on the disk", format!("{} octets", found.bytes_free)),
        ("damaged places", found.damaged.to_string()),
    ])?;
    Ok(())
}

/// By the running relay, or where none answers, or another spool is meant, by ourselves.
fn backup(
    directory: &Path,
    place: &Place,
    format: Format,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let directory = std::path::absolute(directory)?;
    if place.spool.is_none() {
        let text = directory.to_str().ok_or_else(|| {
            Failure::Usage("the name of the directory must be in UTF-8".to_owned())
        })?;
        match client.post_and_wait(&format!("/v1/spool/backup?directory={}", encoded(text))) {
            Err(Failure::RelayDown(_)) => {}
            answer => return tell_backup(&answer?, format, output),
        }
    }
    let (config, spool) = place.find()?;
    let living = look(&spool, Contents::Unread)?;
    let is_damaged = living.complain(output);
    let backup = Backup::begin(&directory, config.spool.disk_free_min.0)
        .map_err(|why| Failure::Unable(why.to_string()))?;
    let done = copy(&living, backup).map_err(|why| Failure::Other(why.to_string()))?;
    let answer: Value = serde_json::from_str(&done.line()).unwrap_or_default();
    let code = tell_backup(&answer, format, output)?;
    Ok(if is_damaged { ExitCode::FAILURE } else { code })
}

fn copy(living: &Living, mut backup: Backup) -> Result<BackedUp, SpoolError> {
    for id in living.inspection.handle().messages() {
        let (told, state) = living.message(id);
        backup.add(id, told, state)?;
    }
    backup.finish()
}

fn tell_backup(answer: &Value, format: Format, output: &mut Output) -> Result<ExitCode, Failure> {
    let text = |key: &str| plain(answer.get(key));
    let unreadable = answer.get("unreadable").and_then(Value::as_array);
    let unreadable = unreadable.map(Vec::as_slice).unwrap_or_default();
    match format {
        Format::Jsonl => output.line(&answer.to_string())?,
        Format::Table => {
            let messages = answer.get("messages").and_then(Value::as_u64).unwrap_or(0);
            let (octets, directory) = (text("size_bytes"), text("directory"));
            output.line(&format!("{}, {octets} octets, copied to {directory}", many(messages)))?;
        }
    }
    for one in unreadable {
        let (id, why) = (plain(one.get("id")), plain(one.get("why")));
        output.complain(&format!("{id} could not be copied: {why}"));
    }
    Ok(if unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Why a spool cannot be used by a command.
fn unable(error: &SpoolError, directory: &Path) -> Failure {
    match error {
        SpoolError::Locked { .. } => Failure::Unable(format!(
            "{error}\nhelp: stop the relay, or make a copy with `merpati spool backup` and use that"
        )),
        SpoolError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Failure::Unable(format!(
                "there is no spool at {} ({error})\nhelp: name a data directory with --spool, or \
                 the configuration with --config",
                directory.display()
            ))
        }
        SpoolError::Corrupt { .. }
        | SpoolError::Full { .. }
        | SpoolError::Io { .. }
        | SpoolError::Missing(_)
        | SpoolError::Poisoned
        | SpoolError::TooLarge { .. }
        | SpoolError::Version { .. } => Failure::Unable(error.to_string()),
    }
}

/// So many messages, in words.
fn many(messages: u64) -> String {
    format!("{messages} {}", if messages == 1 { "message" } else { "messages" })
}

/// Makes a directory that nobody else may look into; it may be there, but empty.
fn make_empty(directory: &Path) -> Result<(), Failure> {
    let unable =
        |why: &dyn std::fmt::Display| Failure::Unable(format!("{}: {why}", directory.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|e| unable(&e))?;
    if fs::read_dir(directory).map_err(|why| unable(&why))?.next().is_some() {
        return Err(unable(&"the directory is not empty"));
    }
    Ok(())
}

/// The spool in a data directory.
const SPOOL: &str = "spool";
