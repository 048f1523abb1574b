//! What a restart finds: the fold of the journal for the queue and for the sandbox.
//!
//! Invariant: a later telling of a message replaces the earlier one. Not pure: reads contents.

use std::collections::BTreeSet;

use merpati_console::Summary;
use merpati_flow::queue::Queue;
use merpati_mail::{Event, QueueId, Record, Time};
use merpati_spool::{Disk, Handle, SpoolError};

use crate::admin;

/// What recovery found.
pub(super) struct Recovered {
    pub(super) disk: Disk,
    pub(super) queue: Queue,
    /// The epoch of the names that are given from now on.
    pub(super) epoch: u32,
    pub(super) captured: Vec<Summary>,
    pub(super) last_at: Time,
    /// The configuration with which the relay ran last; `None` the first time.
    pub(super) digest: Option<[u8; 32]>,
}

/// The queue, and the names of the captured messages that live.
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) queue: Queue,
    captured: BTreeSet<QueueId>,
    pub(super) digest: Option<[u8; 32]>,
}

impl Fold {
    /// Begins with an empty queue.
    pub(super) const fn new(queue: Queue) -> Self {
        Self { queue, captured: BTreeSet::new(), digest: None }
    }

    pub(super) fn apply(&mut self, record: Record) {
        self.queue.apply(record.at, &record.event);
        match record.event {
            Event::Captured(captured) => {
                self.captured.insert(captured.id);
            }
            Event::Retired(id) => {
                self.captured.remove(&id);
            }
            Event::ConfigChanged { digest } => self.digest = Some(digest),
            // They are about the queue alone.
            Event::Accepted(_)
            | Event::Attempted(_)
            | Event::Cancelled(_)
            | Event::Carried(_)
            | Event::Delayed { .. }
            | Event::Expired { .. }
            | Event::Held { .. }
            | Event::Released { .. } => {}
        }
    }

    /// What lists show of them. One that cannot be read is left out, and said.
    pub(super) fn summaries(&self, spool: &Handle) -> Vec<Summary> {
        let summary = |id: QueueId| -> Result<Summary, SpoolError> {
            let stored = spool.read(id)?;
            let head = admin::content(&stored.body, HEAD_OCTETS)?;
            let size_bytes = stored.accepted.size_bytes;
            Ok(Summary { size_bytes, ..Summary::of(id, &stored.accepted.envelope, &head) })
        };
        let read = self.captured.iter().copied().filter_map(|id| match summary(id) {
            Ok(summary) => Some(summary),
            Err(error) => {
                tracing::error!(%id, %error, "a captured message cannot be read");
                None
            }
        });
        read.collect()
    }
}

/// How much of a large content is looked at for its header.
const HEAD_OCTETS: u64 = 64 << 10;
