//! Which captured messages there are, and which of them must go.
//!
//! Invariant: the index is the fold of the journal's `Captured` and `Retired`; contents stay in the
//! spool. Not pure: shared by the committer, which changes it, and the API, which reads it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use merpati_console::{Listing, Page, Query, Summary, admin::SandboxFacts};
use merpati_mail::{QueueId, Time};
use tokio::sync::watch;

/// How much captured mail is kept; where there is more, the oldest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Messages. Default: any number.
    pub messages_max: usize,
    /// Octets of their contents. Default: any number.
    pub bytes_max: u64,
    /// Age. Default: any.
    pub age_max: Duration,
}

impl Default for Quota {
    fn default() -> Self {
        Self { messages_max: usize::MAX, bytes_max: u64::MAX, age_max: Duration::MAX }
    }
}

/// The captured messages.
#[derive(Debug)]
pub struct Store {
    quota: Mutex<Quota>,
    index: Mutex<Index>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Index {
    /// Ids sort in the order of acceptance.
    by_id: BTreeMap<QueueId, Summary>,
    bytes: u64,
    captured: u64,
}

impl Store {
    /// An empty store.
    pub fn new(quota: Quota) -> Self {
        Self {
            quota: Mutex::new(quota),
            index: Mutex::default(),
            changes: watch::Sender::default(),
        }
    }

    /// Keeps so much from now on; what is beyond it goes with the next [`Self::expire`].
    pub fn set_quota(&self, quota: Quota) {
        *self.quota.lock().unwrap_or_else(PoisonError::into_inner) = quota;
    }

    fn quota(&self) -> Quota {
        *self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what recovery found; what is beyond the quota goes with the next [`Self::expire`].
    pub fn recover(&self, found: Vec<Summary>) {
        let mut index = self.lock();
        for summary in found {
            index.insert(summary);
        }
    }

    /// Keeps captured messages; gives those that must go for it.
    pub fn keep(&self, summaries: Vec<Summary>) -> Vec<QueueId> {
        let mut index = self.lock();
        for summary in summaries {
            index.captured += 1;
            index.insert(summary);
        }
        let evicted = index.evict(&self.quota());
        drop(index);
        self.changes.send_modify(|count| *count += 1);
        evicted
    }

    /// Takes out what is too old or too much, and gives it.
    pub fn expire(&self, now: Time) -> Vec<QueueId> {
        let mut index = self.lock();
        let quota = self.quota();
        let mut expired = index.evict(&quota);
        while let Some((id, summary)) = index.by_id.first_key_value() {
            let id = *id;
            if now.since(summary.received_at) <= quota.age_max {
                break;
            }
            index.remove(id);
            expired.push(id);
        }
        expired
    }

    /// Forgets a message; nothing happens where there is none of this name.
    pub fn remove(&self, id: QueueId) {
        self.lock().remove(id);
    }

    /// Whether there is a message of this name.
    pub fn contains(&self, id: QueueId) -> bool {
        self.lock().by_id.contains_key(&id)
    }

    /// The messages that `query` selects, the newest first.
    pub fn list(&self, query: &Query, page: Page, now: Time) -> Listing {
        let index = self.lock();
        let end = page.older_than.unwrap_or(QueueId::from_bits(u64::MAX));
        let older = index.by_id.range(..end).rev().map(|(_, summary)| summary);
        let mut selected = older.filter(|summary| query.matches(summary, now));
        let messages = selected.by_ref().take(page.limit).cloned().collect();
        Listing { messages, has_more: selected.next().is_some() }
    }

    /// The names of all messages that `query` selects.
    pub fn selected(&self, query: &Query, now: Time) -> Vec<QueueId> {
        let index = self.lock();
        let selected = index.by_id.values().filter(|summary| query.matches(summary, now));
        selected.map(|summary| summary.id).collect()
    }

    /// The oldest message that `query` selects and that is newer than `after`.
    pub fn first_after(&self, query: &Query, after: Option<QueueId>, now: Time) -> Option<Summary> {
        use std::ops::Bound::{Excluded, Unbounded};
        let index = self.lock();
        let newer = index.by_id.range((after.map_or(Unbounded, Excluded), Unbounded));
        newer.map(|(_, summary)| summary).find(|summary| query.matches(summary, now)).cloned()
    }

    /// Sees each batch of messages that is captured.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How much there is.
    pub fn facts(&self) -> SandboxFacts {
        let index = self.lock();
        SandboxFacts {
            messages: index.by_id.len() as u64,
            size_bytes: index.bytes,
            captured: index.captured,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn insert(&mut self, summary: Summary) {
        self.bytes += summary.size_bytes;
        if let Some(before) = self.by_id.insert(summary.id, summary) {
            self.bytes -= before.size_bytes;
        }
    }

    fn remove(&mut self, id: QueueId) {
        if let Some(summary) = self.by_id.remove(&id) {
            self.bytes -= summary.size_bytes;
        }
    }

    /// Takes out the oldest until the rest fits. The newest stays, however large it is.
    fn evict(&mut self, quota: &Quota) -> Vec<QueueId> {
        let mut evicted = Vec::new();
        while self.by_id.len() > 1
            && (self.by_id.len() > quota.messages_max || self.bytes > quota.bytes_max)
        {
            let Some((_, summary)) = self.by_id.pop_first() else { break };
            self.bytes -= summary.size_bytes;
            evicted.push(summary.id);
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(counter: u64, size_bytes: u64) -> Summary {
        Summary {
            id: QueueId::from_bits(counter),
            received_at: Time::from_secs(counter),
            size_bytes,
            reverse_path: String::new(),
            recipients: vec![format!("user{counter}@example.org")],
            from: String::new(),
            to: String::new(),
            cc: String::new(),
            subject: format!("number {counter}"),
            message_id: String::new(),
        }
    }

    fn ids(bits: &[u64]) -> Vec<QueueId> {
        bits.iter().copied().map(QueueId::from_bits).collect()
    }

    #[test]
    fn the_oldest_goes_where_there_is_too_much() {
        let quota = Quota { messages_max: 3, bytes_max: 100, age_max: Duration::from_secs(10) };
        let store = Store::new(quota);
        store.recover(vec![summary(1, 10), summary(2, 10)]);
        assert_eq!(store.keep(vec![summary(3, 10), summary(4, 10)]), ids(&[1]));
        assert_eq!(store.keep(vec![summary(5, 85)]), ids(&[2, 3]));
        assert_eq!(store.keep(vec![summary(6, 500)]), ids(&[4, 5]));
        assert_eq!(store.expire(Time::from_secs(16)), ids(&[]));
        assert_eq!(store.expire(Time::from_secs(17)), ids(&[6]));
        let facts = store.facts();
        assert_eq!((facts.messages, facts.size_bytes, facts.captured), (0, 0, 4));
    }

    #[test]
    fn lists_are_paged_from_the_newest_and_waiting_begins_with_the_oldest() {
        let store = Store::new(Quota::default());
        store.recover((1..=5).map(|n| summary(n, 1)).collect());
        let all = Query::default();
        let page = |older_than, limit| {
            let page = Page { older_than, limit };
            let listing = store.list(&all, page, Time::EPOCH);
            let found: Vec<_> = listing.messages.iter().map(|summary| summary.id).collect();
            (found, listing.has_more)
        };
        assert_eq!(page(None, 2), (ids(&[5, 4]), true));
        assert_eq!(page(Some(QueueId::from_bits(4)), 3), (ids(&[3, 2, 1]), false));
        let next = |after| store.first_after(&all, after, Time::EPOCH).map(|found| found.id);
        assert_eq!(next(None), Some(QueueId::from_bits(1)));
        assert_eq!(next(Some(QueueId::from_bits(4))), Some(QueueId::from_bits(5)));
        assert_eq!(next(Some(QueueId::from_bits(5))), None);
    }
}
