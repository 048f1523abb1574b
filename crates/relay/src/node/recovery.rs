//! What a restart finds: the fold of the journal for the queue and for the sandbox.
//!
//! Invariant: a later telling of a message replaces the earlier one, and what is taken while the
//! journal is read is about other messages than all that it held, so the order of the two does not
//! matter. Nothing is delivered, listed or forgotten before all is read. Not pure: reads the
//! journal, on the thread that will own the queue.

use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc, time::Instant};

use merpati_console::Summary;
use merpati_flow::{
    Core,
    queue::{self, Queue},
};
use merpati_mail::{Event, QueueId, Record};
use merpati_spool::{Group, Handle, Recovery, SpoolError, Unread};

use crate::{
    admin,
    clock::Clock,
    committer::Committer,
    conductor::Inbox,
    health::Health,
    sinks::{Notice, Sinks},
    store::Store,
};

/// A journal that is yet to be read, and who is told of what it holds.
pub(super) struct Recovering {
    pub(super) unread: Unread,
    pub(super) spool: Handle,
    pub(super) queue: queue::Fold,
    pub(super) committer: Committer,
    pub(super) clock: Arc<Clock>,
    pub(super) health: Arc<Health>,
    pub(super) store: Arc<Store>,
    pub(super) sinks: Sinks,
    /// Of the configuration with which the relay runs.
    pub(super) digest: [u8; 32],
}

impl Recovering {
    /// Reads the journal, and makes the core of the queue that it holds and the epoch of new names.
    /// `None` where the relay is to end before.
    pub(super) fn read(self, inbox: &Inbox, core: impl FnOnce(Queue, u32) -> Core) -> Option<Core> {
        let began = Instant::now();
        let sinks = self.sinks.clone();
        let mut fold = Fold { queue: self.queue, sinks, captured: BTreeSet::new(), digest: None };
        let mut count = 0_u64;
        let read = self.unread.read(&mut |record| {
            fold.apply(record);
            // What is taken meanwhile must not pile up.
            let is_time = count.is_multiple_of(TAKEN_EVERY);
            count += 1;
            if is_time { fold.take(inbox) } else { ControlFlow::Continue(()) }
        });
        let recovery = match read {
            Ok(recovery) => recovery?,
            Err(error) => {
                let why = format!("it cannot be read: {error}");
                self.health.fail(why.clone());
                self.sinks.spool_failed(self.clock.now(), why);
                return None;
            }
        };
        let Recovery { epoch, messages, ref damage, .. } = recovery;
        for damage in damage {
            tracing::error!(
                file = %damage.file.display(),
                offset = damage.offset,
                why = %damage.why,
                "the spool is damaged; what is behind this place in the file was not read"
            );
        }
        self.clock.pass(recovery.last_at);
        let found = fold.summaries(&self.spool, inbox)?;
        self.store.recover(found);
        let queue = fold.queue.finish();
        let at = self.clock.now();
        if fold.digest != Some(self.digest) {
            let event = Event::ConfigChanged { digest: self.digest };
            // Where it cannot be taken, the journal failed, and the first message learns it.
            self.committer.commit_lazily(Group::of(at, event)).ok();
        }
        let (damaged, took) = (damage.len(), began.elapsed());
        self.sinks.tell([Notice::Recovered { at, messages, damaged, took }]);
        self.committer.look();
        self.health.recover();
        Some(core(queue, epoch))
    }
}

/// The queue, the names of the captured messages that live, and the configuration with which the
/// relay ran last; `None` the first time.
struct Fold {
    queue: queue::Fold,
    sinks: Sinks,
    captured: BTreeSet<QueueId>,
    digest: Option<[u8; 32]>,
}

impl Fold {
    fn apply(&mut self, record: Record) {
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
            | Event::Released { .. }
            | Event::Rerouted { .. } => {}
        }
    }

    /// Takes in what became durable meanwhile; breaks where the relay is to end.
    fn take(&mut self, inbox: &Inbox) -> ControlFlow<()> {
        for record in inbox.take_durable()? {
            self.queue.apply(record.at, &record.event);
        }
        // The limit of the queue holds from the beginning.
        self.sinks.metrics().queue(self.queue.len(), 0);
        ControlFlow::Continue(())
    }

    /// What lists show of them; `None` where the relay is to end. One that cannot be read is left
    /// out, and said.
    fn summaries(&mut self, spool: &Handle, inbox: &Inbox) -> Option<Vec<Summary>> {
        let summary = |id: QueueId| -> Result<Summary, SpoolError> {
            let stored = spool.read(id)?;
            let head = admin::content(&stored.body, HEAD_OCTETS)?;
            let size_bytes = stored.accepted.size_bytes;
            Ok(Summary { size_bytes, ..Summary::of(id, &stored.accepted.envelope, &head) })
        };
        let mut found = Vec::new();
        for (nth, id) in std::mem::take(&mut self.captured).into_iter().enumerate() {
            if nth.is_multiple_of(SUMMARIES_AT_ONCE) && self.take(inbox).is_break() {
                return None;
            }
            match summary(id) {
                Ok(summary) => found.push(summary),
                Err(error) => tracing::error!(%id, %error, "a captured message cannot be read"),
            }
        }
        self.take(inbox).is_continue().then_some(found)
    }
}

/// How much of a large content is looked at for its header.
const HEAD_OCTETS: u64 = 64 << 10;
/// After so many records it is looked at what was taken meanwhile.
const TAKEN_EVERY: u64 = 256;
/// The same while captured messages are read.
const SUMMARIES_AT_ONCE: usize = 64;

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
