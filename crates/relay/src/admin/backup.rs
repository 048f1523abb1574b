//! A copy of all living mail while the relay runs.
//!
//! Invariant: what was acknowledged before the copy began and has not ended is in it, with its
//! state; the copy has its name only when it is complete and durable. The thread of the core is
//! held up for one chunk of messages at a time and never waits for the disk; whoever asked and
//! goes away ends it, and nothing is left of it. Not pure.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use merpati_console::{AdminError, spool::BackedUp};
use merpati_mail::{
    Event, QueueId,
    event::{Accepted, Carried},
};
use merpati_spool::{Handle, SpoolCopy, SpoolError, Told};
use tokio::task::{JoinError, spawn_blocking};

use super::Control;

/// A copy in the making, and what could not be read for it.
#[derive(Debug)]
pub(crate) struct Backup {
    copy: SpoolCopy,
    done: BackedUp,
}

impl Backup {
    /// Begins a copy that will be this data directory.
    pub(crate) fn begin(directory: &Path, free_bytes_min: u64) -> Result<Self, SpoolError> {
        let copy = SpoolCopy::begin(directory, free_bytes_min)?;
        let directory = directory.display().to_string();
        Ok(Self { copy, done: BackedUp { directory, ..BackedUp::default() } })
    }

    /// Adds a message as `carried` says that it stands, or as the journal tells it.
    pub(crate) fn add(
        &mut self,
        id: QueueId,
        told: Result<Told, SpoolError>,
        carried: Option<Carried>,
    ) -> Result<(), SpoolError> {
        let added = match told {
            Ok(Told { at, event, body }) => {
                let event = carried.map_or(event, |carried| Event::Carried(Box::new(carried)));
                self.copy.add(at, event, &body)
            }
            // It ended meanwhile.
            Err(SpoolError::Missing(_)) => Ok(()),
            Err(error) => {
                self.done.unreadable.push((id, error.to_string()));
                Ok(())
            }
        };
        match added {
            Err(error @ SpoolError::Corrupt { .. }) => {
                self.done.unreadable.push((id, error.to_string()));
                Ok(())
            }
            other => other,
        }
    }

    /// Makes the copy durable and gives it its name.
    pub(crate) fn finish(self) -> Result<BackedUp, SpoolError> {
        let taken = self.copy.finish()?;
        Ok(BackedUp { messages: taken.messages, octets: taken.octets, ..self.done })
    }
}

impl Control {
    /// Copies all living messages into a data directory that is new or empty.
    pub(super) async fn copy_spool(&self, directory: PathBuf) -> Result<BackedUp, AdminError> {
        let spool = self.spool.clone();
        let begun = spawn_blocking(move || {
            let backup = Backup::begin(&directory, spool.free_bytes_min())?;
            Ok::<_, SpoolError>((backup, spool.messages()))
        });
        let (mut backup, ids) =
            begun.await.map_err(crashed)?.map_err(|why| AdminError::Refused(why.to_string()))?;
        for chunk in ids.chunks(CHUNK_MESSAGES) {
            let (spool, chunk) = (self.spool.clone(), chunk.to_vec());
            let read = spawn_blocking(move || read(&spool, chunk)).await.map_err(crashed)?;
            let queued: Vec<Accepted> = read.iter().filter_map(queued).collect();
            let states: BTreeMap<QueueId, Carried> = self
                .look(move |core| {
                    let states = queued.iter().filter_map(|one| core.queue().carried(one));
                    states.map(|carried| (carried.accepted.id, carried)).collect()
                })
                .await?;
            let spool = self.spool.clone();
            let written = spawn_blocking(move || write(backup, &spool, read, states));
            backup = written.await.map_err(crashed)?.map_err(failed)?;
        }
        let finished = spawn_blocking(move || backup.finish());
        finished.await.map_err(crashed)?.map_err(failed)
    }
}

type Read = Vec<(QueueId, Result<Told, SpoolError>)>;

/// Blocks for the disk.
fn read(spool: &Handle, ids: Vec<QueueId>) -> Read {
    ids.into_iter().map(|id| (id, spool.told(id))).collect()
}

/// A message of which the core has the state.
fn queued((_, told): &(QueueId, Result<Told, SpoolError>)) -> Option<Accepted> {
    match &told.as_ref().ok()?.event {
        Event::Accepted(accepted) => Some((**accepted).clone()),
        Event::Carried(carried) => Some(carried.accepted.clone()),
        Event::Attempted(_)
        | Event::Cancelled(_)
        | Event::Captured(_)
        | Event::ConfigChanged { .. }
        | Event::Delayed { .. }
        | Event::Expired { .. }
        | Event::Held { .. }
        | Event::Released { .. }
        | Event::Rerouted { .. }
        | Event::Retired(_) => None,
    }
}

/// Blocks for the disk.
fn write(
    mut backup: Backup,
    spool: &Handle,
    read: Read,
    mut states: BTreeMap<QueueId, Carried>,
) -> Result<Backup, SpoolError> {
    for (id, told) in read {
        let state = states.remove(&id);
        // Either the core has not heard of it yet, or it is finished; then the journal knows.
        if state.is_none() && !spool.contains(id) {
            continue;
        }
        backup.add(id, told, state)?;
    }
    Ok(backup)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn failed(error: SpoolError) -> AdminError {
    AdminError::Storage(error.to_string())
}

/// The thread that copied panicked.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn crashed(error: JoinError) -> AdminError {
    AdminError::Storage(format!("copying ended badly: {error}"))
}

/// Messages that are read into memory at a time: at most 16 MiB of contents.
const CHUNK_MESSAGES: usize = 64;
