//! What was accepted lately and is kept in memory, so that mail that is delivered at once is never
//! read back from the disk.
//!
//! Invariant: a copy of what the spool has, bounded in octets; whatever is not here is read there.
//! When it is full, what comes later is not kept: the mail that is due first stays. Not pure:
//! shared between threads.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    octets: usize,
}

impl Fresh {
    /// Keeps at most so many octets.
    pub fn new(octets_max: usize) -> Self {
        Self { kept: Mutex::default(), octets_max }
    }

    /// Keeps a message whose whole content is `content`, where there is room.
    pub fn keep(&self, accepted: Accepted, content: Bytes) {
        let octets = cost(&content);
        let mut kept = self.lock();
        if kept.octets + octets <= self.octets_max {
            kept.octets += octets;
            let id = accepted.id;
            kept.messages.insert(id, Arc::new(Loaded { accepted, header: content }));
        }
    }

    /// A message with its whole content in the place of its header; `None` where it is not kept.
    pub fn get(&self, id: QueueId) -> Option<Arc<Loaded>> {
        self.lock().messages.get(&id).map(Arc::clone)
    }

    /// Keeps a message no longer: it is finished, or waits.
    pub fn forget(&self, id: QueueId) {
        let mut kept = self.lock();
        if let Some(gone) = kept.messages.remove(&id) {
            kept.octets -= cost(&gone.header);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Each change is whole before the lock is given back.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a message takes in memory, roughly.
fn cost(content: &Bytes) -> usize {
    content.len() + ENVELOPE_OCTETS
}

/// An envelope and its place in the map.
const ENVELOPE_OCTETS: usize = 1_024;

#[cfg(test)]
mod tests {
    use merpati_mail::{
        BodyType, Envelope, ForwardPath, NodeId, Origin, Overlay, Protocol, Recipient, Requests,
        ReversePath, Time, envelope::Utf8,
    };

    use super::*;

    fn accepted(counter: u32) -> Accepted {
        Accepted {
            id: QueueId::new(NodeId::default(), 1, counter),
            envelope: Envelope {
                reverse_path: ReversePath(None),
                recipients: vec![Recipient::new(ForwardPath::Postmaster)],
                body: BodyType::SevenBit,
                utf8: Utf8::NotDeclared,
                ret: None,
                envid: None,
                requests: Requests::default(),
                origin: Origin {
                    listener: "mx".to_owned(),
                    peer: None,
                    credential: None,
                    protocol: Protocol::Internal,
                    tls: None,
                    received_at: Time::EPOCH,
                },
            },
            edits: Overlay::default(),
            size_bytes: 3,
        }
    }

    #[test]
    fn what_comes_first_is_kept_until_it_is_forgotten() {
        let fresh = Fresh::new(2 * (ENVELOPE_OCTETS + 3));
        let ids: Vec<QueueId> = (0..3)
            .map(|counter| {
                fresh.keep(accepted(counter), Bytes::from_static(b"abc"));
                accepted(counter).id
            })
            .collect();
        assert_eq!(fresh.get(ids[1]).map(|m| m.header.clone()), Some(Bytes::from_static(b"abc")));
        assert!(fresh.get(ids[2]).is_none(), "there was no room");
        fresh.forget(ids[0]);
        fresh.forget(ids[0]);
        fresh.keep(accepted(2), Bytes::from_static(b"abc"));
        assert!(fresh.get(ids[2]).is_some() && fresh.get(ids[0]).is_none());
    }
}
