//! Mail out of a spool into files, and back: `docs/spool.md` describes them.
//!
//! Invariant: an export is complete when its manifest is there, which is written last and only when
//! everything else is durable. An import is looked at whole before anything of it is taken.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use merpati_console::spool::{Exported, Manifest};
use merpati_mail::{
    Event, QueueId,
    event::{Carried, Keeping},
};
use merpati_spool::{
    Content, Contents, Disk, FORMAT_VERSION, FORMAT_VERSION_OLDEST, Intake, Options, Spool,
    SpoolError, Told, codec, make_durable,
};
use serde_json::Value;

use super::{look, make_empty, many, unable};
use crate::{
    cli::{Failure, output::Output},
    clock::Clock,
};

pub(super) fn export(
    spool: &Path,
    directory: &Path,
    ids: &[QueueId],
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let living = look(spool, Contents::Unread)?;
    make_empty(directory)?;
    let mut has_failed = living.complain(output);
    let all = living.inspection.handle().messages();
    let wanted: BTreeSet<QueueId> = ids.iter().copied().collect();
    let chosen = if ids.is_empty() { all } else { wanted.into_iter().collect() };
    let mut messages = 0;
    for id in chosen {
        let (told, state) = living.message(id);
        let written = match told {
            Ok(told) => write_message(directory, id, told, state),
            // One message that cannot be read says nothing of the others.
            Err(error) => Ok(Some(error)),
        };
        match written.map_err(|why| Failure::Other(why.to_string()))? {
            None => messages += 1,
            Some(error) => {
                has_failed = true;
                output.complain(&format!("{id} could not be exported: {error}"));
            }
        }
    }
    make_durable(directory)?;
    write_new(&directory.join(MANIFEST), Manifest { messages }.text().as_bytes())?;
    make_durable(directory)?;
    output.line(&format!("{} written to {}", many(messages), directory.display()))?;
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Writes a message; gives the reason where its content cannot be read.
fn write_message(
    directory: &Path,
    id: QueueId,
    told: Told,
    state: Option<Carried>,
) -> Result<Option<SpoolError>, SpoolError> {
    let failed = |path: &Path| {
        let what = format!("write {}", path.display());
        |source| SpoolError::Io { what, source }
    };
    let file = format!("{id}.eml");
    let path = directory.join(&file);
    let event = state.map_or(told.event, |carried| Event::Carried(Box::new(carried)));
    let mut content = create(&path).map_err(failed(&path))?;
    let crc32c = match told.body.copy_to(&mut content) {
        Ok(sum) => sum,
        Err(error @ SpoolError::Corrupt { .. }) => {
            fs::remove_file(&path).map_err(failed(&path))?;
            return Ok(Some(error));
        }
        Err(error) => return Err(error),
    };
    let mut record = Vec::new();
    codec::encode(&event, &mut record);
    let exported = Exported {
        event: &event,
        file: &file,
        crc32c,
        format_version: FORMAT_VERSION,
        record: &BASE64_STANDARD.encode(record),
    };
    let path = directory.join(format!("{id}.json"));
    let text = exported.text().unwrap_or_default();
    write_new(&path, text.as_bytes()).map_err(failed(&path))?;
    Ok(None)
}

pub(super) fn import(
    options: &Options,
    directory: &Path,
    skip_present: bool,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let cards = cards(directory)?;
    for path in &cards {
        Card::read(path)?;
    }
    if let Some(parent) = options.dir.parent() {
        make_private(parent)?;
    }
    let nothing = &mut |_| ();
    let opened = Disk::open(options, nothing).map_err(|why| unable(&why, &options.dir));
    let (disk, recovery) = opened?;
    for damage in &recovery.damage {
        let (file, offset) = (damage.file.display(), damage.offset);
        output.complain(&format!("{file}:{offset}: {}", damage.why));
    }
    let handle = disk.handle();
    let is_new = |path: &&PathBuf| id_of(path).is_some_and(|id| !handle.contains(id));
    let (new, present): (Vec<&PathBuf>, Vec<&PathBuf>) = cards.iter().partition(is_new);
    if let Some(first) = present.first().and_then(|path| id_of(path))
        && !skip_present
    {
        let many = present.len();
        return Err(Failure::Other(format!(
            "{many} of these messages live in the spool already, such as {first}; nothing was \
             imported\nhelp: --skip-present leaves them out"
        )));
    }
    let at = Clock::start(recovery.last_at).now();
    let mut intake = Intake::new(disk);
    for path in new {
        let Card { event, octets, crc32c, content } = Card::read(path)?;
        let mut from = File::open(&content)?;
        let content = Content { file: &content, octets, sum: crc32c, from: &mut from };
        intake.add(at, event, content).map_err(interrupted)?;
    }
    let taken = intake.finish().map_err(interrupted)?;
    let left_out = match present.len() {
        0 => String::new(),
        many => format!("; {many} were there already"),
    };
    let place = options.dir.display();
    output.line(&format!("{} imported into {place}{left_out}", many(taken.messages)))?;
    Ok(ExitCode::SUCCESS)
}

/// What an export says of one message.
struct Card {
    event: Event,
    content: PathBuf,
    octets: u64,
    crc32c: u32,
}

impl Card {
    /// Reads it and sees whether it can be taken. Contents are compared when they are.
    fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |why: &dyn std::fmt::Display| wrong(path, why);
        let card: Value = serde_json::from_slice(&fs::read(path).map_err(|why| wrong(&why))?)
            .map_err(|why| wrong(&why))?;
        let number = |pointer: &str| {
            let number = card.pointer(pointer).and_then(Value::as_u64);
            number.ok_or_else(|| wrong(&format!("{pointer} is missing")))
        };
        let version = u16::try_from(number("/format_version")?).unwrap_or(u16::MAX);
        if !(FORMAT_VERSION_OLDEST..=FORMAT_VERSION).contains(&version) {
            let error = SpoolError::Version { file: path.to_owned(), found: version };
            return Err(Failure::Unable(error.to_string()));
        }
        let record = card.get("record").and_then(Value::as_str);
        let record = record.ok_or_else(|| wrong(&"/record is missing"))?;
        let record = BASE64_STANDARD.decode(record).map_err(|why| wrong(&why))?;
        let event = codec::decode(&record).map_err(|why| wrong(&why))?;
        let (Keeping::Opens(id) | Keeping::Stores(id)) = event.keeping() else {
            return Err(wrong(&"its record does not tell a message"));
        };
        if id_of(path) != Some(id) {
            return Err(wrong(&format!("its record tells {id}")));
        }
        let octets = number("/content/size_bytes")?;
        let crc32c = u32::try_from(number("/content/crc32c")?).map_err(|why| wrong(&why))?;
        // Never by a name from the file: that could lead anywhere.
        let content = path.with_extension("eml");
        let found = fs::metadata(&content).map_err(|why| wrong(&why))?.len();
        if found != octets {
            return Err(wrong(&format!("its content has {found} octets in place of {octets}")));
        }
        Ok(Self { event, content, octets, crc32c })
    }
}

/// The cards of a complete export, by their names.
fn cards(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let path = directory.join(MANIFEST);
    let text = fs::read(&path).map_err(|why| {
        let directory = directory.display();
        Failure::Unable(format!("there is no complete export at {directory}: {MANIFEST}: {why}"))
    })?;
    let manifest: Value = serde_json::from_slice(&text).map_err(|why| wrong(&path, &why))?;
    if manifest.get("format").and_then(Value::as_str) != Some("merpati-export") {
        return Err(wrong(&path, &"it is not the manifest of an export"));
    }
    let version = manifest.get("version").and_then(Value::as_u64).unwrap_or(0);
    if version != MANIFEST_VERSION {
        let why = format!("it has version {version}; this program reads {MANIFEST_VERSION}");
        return Err(wrong(&path, &why));
    }
    let entries = fs::read_dir(directory)?.map(|entry| Ok(entry?.path()));
    let mut cards: Vec<PathBuf> = entries.collect::<std::io::Result<_>>()?;
    cards.retain(|path| path.extension() == Some(OsStr::new("json")) && id_of(path).is_some());
    cards.sort();
    let (found, wanted) = (cards.len() as u64, manifest.get("messages").and_then(Value::as_u64));
    if wanted != Some(found) {
        let wanted = wanted.unwrap_or(0);
        return Err(wrong(&path, &format!("{found} messages are there in place of {wanted}")));
    }
    Ok(cards)
}

fn id_of(path: &Path) -> Option<QueueId> {
    path.file_stem()?.to_str()?.parse().ok()
}

fn wrong(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::Unable(format!("{}: {why}", path.display()))
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn interrupted(error: SpoolError) -> Failure {
    Failure::Other(format!(
        "{error}\nhelp: some of the messages may have been imported; once this is mended, go on \
         with --skip-present"
    ))
}

/// A data directory, as the relay would make it.
fn make_private(directory: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|why| Failure::Unable(format!("{}: {why}", directory.display())))
}

fn create(path: &Path) -> std::io::Result<File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn write_new(path: &Path, octets: &[u8]) -> std::io::Result<()> {
    create(path)?.write_all(octets)
}

const MANIFEST: &str = "export.json";
const MANIFEST_VERSION: u64 = 1;
