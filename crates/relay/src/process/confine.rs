//! Where the relay may write: the kernel holds it to that (Landlock).
//!
//! Invariant: it is decided before there is a second thread, and never widened. Not pure.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use landlock::{
    ABI, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
};

use crate::config::{Config, LogTo};

/// How far the kernel holds the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// As it was asked for.
    Held,
    /// It was not asked for.
    NotAsked,
    /// This kernel cannot, or not all of it.
    NotHeld,
}

/// Forbids the process to write anywhere but where it must and where the operator allows it.
pub(super) fn confine(config: &Config) -> anyhow::Result<Confinement> {
    if !config.server.confine {
        return Ok(Confinement::NotAsked);
    }
    let writing = AccessFs::from_write(NEWEST);
    let mut rules = Ruleset::default().handle_access(writing)?.create()?;
    let data = &config.server.data_dir;
    make(data).with_context(|| format!("cannot make {}", data.display()))?;
    for place in places(config) {
        let wrong = |why: &str| {
            let why = format!("{}: cannot allow writing there: {why}", place.key);
            let help = format!("make the directory {}", place.path.display());
            anyhow::anyhow!("{}", config.wrong_at(place.key, why, help).first())
        };
        let path = PathFd::new(&place.path).map_err(|why| wrong(&why.to_string()))?;
        if !place.path.is_dir() {
            return Err(wrong("it is no directory"));
        }
        rules = rules.add_rule(PathBeneath::new(path, writing))?;
    }
    let status = rules.restrict_self()?.ruleset;
    Ok(match status {
        RulesetStatus::FullyEnforced => Confinement::Held,
        RulesetStatus::NotEnforced | RulesetStatus::PartiallyEnforced => Confinement::NotHeld,
    })
}

/// A directory below which may be written, and the option that names it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    path: PathBuf,
    key: &'static str,
}

fn places(config: &Config) -> BTreeSet<Place> {
    let server = &config.server;
    let parent = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let place = |path: PathBuf, key| Place { path, key };
    let mut places: BTreeSet<Place> = [
        place(server.data_dir.clone(), "server.data_dir"),
        place(parent(&server.control_socket), "server.control_socket"),
    ]
    .into();
    if let LogTo::File(path) = &config.log.to {
        places.insert(place(parent(path), "log.to"));
    }
    let more = server.writable.iter().cloned();
    places.extend(more.map(|path| place(path, "server.writable")));
    places
}

fn make(directory: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// All of writing (Linux 6.2). What newer kernels can forbid besides is not of this program's
/// world.
const NEWEST: ABI = ABI::V3;
