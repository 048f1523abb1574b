//! What was accepted lately and is kept in memory, so that mail that is delivered at once is never
//! read back from the disk.
//!
//! Invariant: a copy of what the spool has, bounded in octets; whatever is not here is read there.
//! When it is full, what comes later is not kept: the mail that is due first stays. What was not
//! tried within seconds waits for a next hop that is slow or in trouble, and would only keep others
//! out. Not pure: shared between threads.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use merpati_flow::Loaded;
use merpati_mail::{QueueId, event::Accepted};

/// Messages in memory.
#[derive(Debug)]
pub struct Fresh {
    kept: Mutex<Kept>,
    octets_max: usize,
}

#[derive(Debug, Default)]
struct Kept {
    messages: HashMap<QueueId, Arc<Loaded>>,
    /// In which order they came, also those that are forgotten.
    came: VecDeque<(Instant, QueueId)>,
    octets: usize,
}

impl Fresh {
    /// Keeps at most so many octets.
    pub fn new(octets_max: usize) -> Self {
        Self { kept: Mutex::default(), octets_max }
    }

    /// Keeps a message whose whole content is `content`, where there is room.
    pub fn keep(&self, now: Instant, accepted: Accepted, content: Bytes) {
        let octets = cost(&content);
        let mut kept = self.lock();
        if kept.octets + octets <= self.octets_max {
            kept.octets += octets;
            let id = accepted.id;
            kept.came.push_back((now, id));
            kept.messages.insert(id, Arc::new(Loaded { accepted, header: content }));
        }
    }

    /// A message with its whole content in the place of its header; `None` where it is not kept.
    pub fn get(&self, id: QueueId) -> Option<Arc<Loaded>> {
        self.lock().messages.get(&id).map(Arc::clone)
    }

    /// Keeps a message no longer: it is finished, or waits.
    pub fn forget(&self, id: QueueId) {
        // Freed when the lock is given back: all sessions need it.
        let _gone = self.lock().forget(id);
    }

    /// Forgets what was kept for long enough; whether something is left.
    pub fn forget_old(&self, now: Instant) -> bool {
        let mut gone = Vec::new();
        let mut kept = self.lock();
        while let Some(&(came, id)) = kept.came.front()
            && now.saturating_duration_since(came) >= KEPT_FOR
        {
            kept.came.pop_front();
            gone.extend(kept.forget(id));
        }
        let is_left = !kept.messages.is_empty();
        let emptied = (!is_left).then(|| std::mem::take(&mut *kept));
        drop(kept);
        drop((gone, emptied));
        is_left
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Each change is whole before the lock is given back.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn forget(&mut self, id: QueueId) -> Option<Arc<Loaded>> {
        let gone = self.messages.remove(&id)?;
        self.octets -= cost(&gone.header);
        Some(gone)
    }
}

/// What a message takes in memory, roughly.
fn cost(content: &Bytes) -> usize {
    content.len() + ENVELOPE_OCTETS
}

/// How long a message is kept that is not tried.
const KEPT_FOR: Duration = Duration::from_secs(3);
/// An envelope and its place in the map.
const ENVELOPE_OCTETS: usize = 1_024;

#[cfg(test)]
mod tests {
    use merpati_mail::NodeId;

    use super::*;
    use crate::samples;

    fn accepted(counter: u32) -> Accepted {
        samples::accepted(QueueId::new(NodeId::default(), 1, counter))
    }

    #[test]
    fn what_comes_first_is_kept_until_it_is_forgotten() {
        let (fresh, now) = (Fresh::new(2 * (ENVELOPE_OCTETS + 3)), Instant::now());
        let ids: Vec<QueueId> = (0..3)
            .map(|counter| {
                fresh.keep(now, accepted(counter), Bytes::from_static(b"abc"));
                accepted(counter).id
            })
            .collect();
        assert_eq!(fresh.get(ids[1]).map(|m| m.header.clone()), Some(Bytes::from_static(b"abc")));
        assert!(fresh.get(ids[2]).is_none(), "there was no room");
        fresh.forget(ids[0]);
        fresh.forget(ids[0]);
        fresh.keep(now, accepted(2), Bytes::from_static(b"abc"));
        assert!(fresh.get(ids[2]).is_some() && fresh.get(ids[0]).is_none());
    }

    #[test]
    fn what_is_not_tried_makes_room_for_what_comes() {
        let (fresh, now) = (Fresh::new(2 * (ENVELOPE_OCTETS + 3)), Instant::now());
        let keep = |at, counter| {
            fresh.keep(at, accepted(counter), Bytes::from_static(b"abc"));
            fresh.get(accepted(counter).id).is_some()
        };
        let later = now + KEPT_FOR / 2;
        assert!(keep(now, 0) && keep(later, 1) && !keep(later, 2));
        assert!(fresh.forget_old(later) && fresh.get(accepted(0).id).is_some());
        assert!(fresh.forget_old(now + KEPT_FOR));
        assert!(fresh.get(accepted(0).id).is_none() && fresh.get(accepted(1).id).is_some());
        assert!(keep(now + KEPT_FOR, 2));
        assert!(!fresh.forget_old(now + 2 * KEPT_FOR));
        assert!(fresh.lock().came.is_empty());
    }
}
