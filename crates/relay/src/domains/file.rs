//! The file of a domain: TOML, described in `docs/format.md` §10.
//!
//! Not pure: writes files.

use std::{
    fmt::Write as _,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt as _, fchown},
    path::Path,
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use merpati_mail::{Domain, Time};
use serde::Deserialize;

use super::{Key, SealingKey, SendingDomain, Stage};
use crate::durable;

/// The version of the file that we write, and the only one that we read.
const VERSION: u32 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DomainFile {
    version: u32,
    #[serde(default)]
    key: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    selector: String,
    stage: String,
    since: String,
    /// PKCS#8 in Base64.
    private: Option<String>,
    /// The same, sealed.
    sealed: Option<String>,
}

/// The keys in the text of a file.
pub(super) fn parse(
    text: &str,
    name: &Domain,
    key: Option<&SealingKey>,
) -> anyhow::Result<Vec<Key>> {
    let file: DomainFile = toml::from_str(text)?;
    if file.version != VERSION {
        bail!("version {} is of another Merpati: this one reads {VERSION}", file.version);
    }
    file.key.into_iter().map(|entry| read(entry, name, key)).collect()
}

fn read(entry: KeyEntry, name: &Domain, key: Option<&SealingKey>) -> anyhow::Result<Key> {
    let selector = entry.selector;
    let about = || format!("key {selector}");
    let octets = |text: &str| STANDARD.decode(text).with_context(about);
    let pkcs8 = match (&entry.private, &entry.sealed, key) {
        (Some(private), None, _) => octets(private)?,
        (None, Some(sealed), Some(key)) => {
            key.open(&octets(sealed)?, &place(name, &selector)).with_context(about)?
        }
        (None, Some(_), None) => bail!("key {selector} is sealed: signing.key_file is missing"),
        (None, None, _) | (Some(_), Some(_), _) => {
            bail!("key {selector} needs one of `private` and `sealed`")
        }
    };
    let stage = Stage::parse(&entry.stage);
    let stage = stage.with_context(|| format!("key {selector} has no stage {:?}", entry.stage))?;
    let since = Time::parse_rfc3339(&entry.since);
    let since = since.with_context(|| format!("key {selector}: {:?} is no time", entry.since))?;
    Key::read(selector.clone(), stage, since, pkcs8).with_context(about)
}

/// The text of the file of a domain.
pub(super) fn write(domain: &SendingDomain, key: Option<&SealingKey>) -> anyhow::Result<String> {
    let mut text = format!(
        "# Kept by Merpati: `merpati domain` changes it. It holds private keys.\nversion = \
         {VERSION}\n"
    );
    for one in &domain.keys {
        let (word, octets) = match key {
            Some(key) => ("sealed", key.seal(&one.pkcs8, &place(&domain.name, &one.selector))?),
            None => ("private", one.pkcs8.clone()),
        };
        let (stage, since) = (one.stage.as_str(), one.since.rfc3339());
        let octets = STANDARD.encode(octets);
        // A string takes anything.
        write!(
            text,
            "\n[[key]]\nselector = \"{}\"\nstage = \"{stage}\"\nsince = \"{since}\"\n\
             {word} = \"{octets}\"\n",
            one.selector,
        )
        .ok();
    }
    Ok(text)
}

/// For which place a key is sealed.
fn place(name: &Domain, selector: &str) -> String {
    format!("{selector}._domainkey.{name}")
}

/// Puts a file in the place of another, durably, for the owner of the directory above alone: who
/// types the command may be root, and the relay another user.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let above = folder.parent().unwrap_or_else(|| Path::new("."));
    let draft = durable::draft_of(path);
    let file = durable::create(&draft, text.as_bytes(), 0o600)?;
    give(&file, &fs::metadata(above)?)?;
    durable::rename(&draft, path)
}

/// The folder of the files, made where it is missing, for the owner of the directory above.
pub(super) fn folder(folder: &Path) -> io::Result<File> {
    if !folder.is_dir() {
        let above = folder.parent().unwrap_or_else(|| Path::new("."));
        DirBuilder::new().mode(0o700).create(folder)?;
        give(&File::open(folder)?, &fs::metadata(above)?)?;
        File::open(above)?.sync_all()?;
    }
    File::open(folder)
}

/// Gives what is open to an owner, if it is somebody else's.
fn give(file: &File, owner: &fs::Metadata) -> io::Result<()> {
    let ours = file.metadata()?;
    if (ours.uid(), ours.gid()) == (owner.uid(), owner.gid()) {
        return Ok(());
    }
    fchown(file, Some(owner.uid()), Some(owner.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_ours_says_what_is_wrong() {
        let name = Domain::parse("ours.example").unwrap();
        let key = "[[key]]\nselector = \"s\"\nsince = \"2026-11-30T00:00:00Z\"\n";
        for (text, want) in [
            (String::new(), "version"),
            ("version = 2".to_owned(), "another Merpati"),
            ("version = 1\nfoo = 1".to_owned(), "foo"),
            (format!("version = 1\n{key}stage = \"new\""), "needs one of"),
            (format!("version = 1\n{key}stage = \"new\"\nprivate = \"%\""), "key s"),
            (format!("version = 1\n{key}stage = \"new\"\nprivate = \"AAAA\""), "key s"),
            (format!("version = 1\n{key}stage = \"new\"\nsealed = \"AAAA\""), "key_file"),
        ] {
            let why = parse(&text, &name, None).unwrap_err();
            assert!(format!("{why:#}").contains(want), "{text}: {why:#}");
        }
        assert!(parse("version = 1", &name, None).unwrap().is_empty());
    }
}
