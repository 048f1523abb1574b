//! The queue while the journal is read: most of what is read is out of date a moment later.
//!
//! Invariant: what [`Fold::finish`] gives equals the queue to which the same events were applied
//! one by one. Nothing can be taken of a fold, so no delivery has its place in a lane before. Pure.

use std::collections::BTreeMap;

use merpati_mail::{DeliveryId, Domain, Event, Priority, Time};

use super::{LaneId, Queue, lane::Entry};
use crate::route::Router;

/// A queue that is made of the events of a journal, and of which nothing is taken before the end.
#[derive(Clone, Debug)]
pub struct Fold(Queue);

impl Fold {
    /// Begins with nothing. `hostname` is where `<Postmaster>` without a domain lives.
    pub const fn new(router: Router, hostname: Domain) -> Self {
        let mut queue = Queue::new(router, hostname);
        queue.is_folding = true;
        Self(queue)
    }

    /// Takes in what happened, as [`Queue::apply`] does.
    pub fn apply(&mut self, at: Time, event: &Event) {
        self.0.apply(at, event);
    }

    /// How many deliveries live.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no message is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The queue: each delivery that waits has found its place in its lane.
    pub fn finish(self) -> Queue {
        let Self(mut queue) = self;
        queue.is_folding = false;
        // Sets that are made of all that they hold at once are full, others are half empty.
        let mut places: BTreeMap<(LaneId, Priority), Vec<Entry>> = BTreeMap::new();
        for (message, found) in queue.messages.iter() {
            for delivery in found.deliveries.as_slice() {
                let Some(place) = delivery.place() else { continue };
                let id = DeliveryId { message, recipient: delivery.recipient };
                let of_lane = places.entry((place.lane, place.priority)).or_default();
                if of_lane.is_empty() && place.priority == Priority::NORMAL {
                    // Almost all of them, almost always.
                    of_lane.reserve_exact(queue.lane(place.lane).map_or(0, |lane| lane.members));
                }
                of_lane.push(Entry::new(place.due, id));
            }
        }
        while let Some(((lane, priority), entries)) = places.pop_first() {
            if let Some(lane) = queue.lane_mut(lane) {
                lane.fill(priority, entries);
            }
        }
        let lanes: Vec<LaneId> = queue.lanes().collect();
        for lane in lanes {
            queue.list(lane);
        }
        queue
    }
}
