//! Where the deliveries to one next hop wait, and which of them goes first.
//!
//! Invariant: of what is due the longest due goes first, where a step of priority (RFC 6710) counts
//! as much as [`PRIORITY_LEAD`] of waiting. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use merpati_mail::{DeliveryId, Priority, Time};

use super::{LaneId, LaneKey, Parking};

/// The deliveries to one next hop that wait.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) key: LaneKey,
    /// Those of normal priority.
    waiting: BTreeSet<(Time, DeliveryId)>,
    /// The others; no set is empty.
    ranked: BTreeMap<Priority, BTreeSet<(Time, DeliveryId)>>,
    /// Living deliveries, waiting or not; a lane without any is forgotten.
    pub(super) members: usize,
    /// Why nothing in it may be taken; `None` where it may.
    pub(super) parking: Option<Parking>,
}

/// Where a delivery is indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) lane: LaneId,
    pub(super) priority: Priority,
    pub(super) due: Time,
}

impl Lane {
    pub(super) const fn new(key: LaneKey) -> Self {
        Self { key, waiting: BTreeSet::new(), ranked: BTreeMap::new(), members: 0, parking: None }
    }

    /// Its entry in the agenda; `None` where nothing in it may be taken.
    pub(super) fn entry(&self, id: LaneId) -> Option<(Time, LaneId)> {
        let due = self.due()?;
        self.parking.is_none().then_some((due, id))
    }

    /// The longest due.
    pub(super) fn due(&self) -> Option<Time> {
        self.firsts().map(|(_, due, _)| due).min()
    }

    /// Which of those that are due is to go first.
    pub(super) fn first_due(&self, now: Time) -> Option<DeliveryId> {
        let due = self.firsts().filter(|(_, due, _)| *due <= now);
        let ranked = due.map(|(priority, due, id)| (due + lag(priority), id));
        ranked.min().map(|(_, id)| id)
    }

    /// The longest due of each priority.
    fn firsts(&self) -> impl Iterator<Item = (Priority, Time, DeliveryId)> {
        let ranked = self.ranked.iter().map(|(priority, waiting)| (*priority, waiting));
        let all = std::iter::once((Priority::NORMAL, &self.waiting)).chain(ranked);
        all.filter_map(|(priority, waiting)| {
            let (due, id) = *waiting.first()?;
            Some((priority, due, id))
        })
    }

    pub(super) fn insert(&mut self, place: Place, id: DeliveryId) {
        let waiting = match place.priority {
            Priority::NORMAL => &mut self.waiting,
            other => self.ranked.entry(other).or_default(),
        };
        waiting.insert((place.due, id));
    }

    pub(super) fn remove(&mut self, place: Place, id: DeliveryId) {
        if place.priority == Priority::NORMAL {
            self.waiting.remove(&(place.due, id));
        } else if let Some(waiting) = self.ranked.get_mut(&place.priority) {
            waiting.remove(&(place.due, id));
            if waiting.is_empty() {
                self.ranked.remove(&place.priority);
            }
        }
    }
}

/// How much longer than the most urgent ones a delivery must have waited to go before them.
fn lag(priority: Priority) -> Duration {
    let steps = Priority::HIGHEST.value().abs_diff(priority.value());
    PRIORITY_LEAD * u32::from(steps)
}

/// How much waiting a step of priority is worth. With 18 steps, what has the lowest priority waits
/// at most 18 minutes longer than what has the highest.
pub const PRIORITY_LEAD: Duration = Duration::from_mins(1);
