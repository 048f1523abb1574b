//! Where the deliveries to one next hop wait, and which of them goes first.
//!
//! Invariant: of what is due the longest due goes first, where a step of priority (RFC 6710) counts
//! as much as [`PRIORITY_LEAD`] of waiting. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use merpati_mail::{DeliveryId, Priority, QueueId, Time};

use super::{LaneId, LaneKey, Parking};

/// The deliveries to one next hop that wait.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) key: LaneKey,
    /// Those of normal priority.
    waiting: BTreeSet<Entry>,
    /// The others; no set is empty.
    ranked: BTreeMap<Priority, BTreeSet<Entry>>,
    /// Living deliveries, waiting or not; a lane without any is forgotten.
    pub(super) members: usize,
    /// Why nothing in it may be taken; `None` where it may.
    pub(super) parking: Option<Parking>,
}

/// When a delivery is due, and which: 20 octets in place of the 24 of a pair. The sets of a lane
/// are half full where what waits came in the order of its times, so four octets more are ten each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    due: Halves,
    message: Halves,
    recipient: u32,
}

/// A number whose alignment is that of its halves; the upper one decides first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Halves(u32, u32);

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
            let first = waiting.first()?;
            Some((priority, first.due(), first.delivery()))
        })
    }

    pub(super) fn insert(&mut self, place: Place, id: DeliveryId) {
        let waiting = match place.priority {
            Priority::NORMAL => &mut self.waiting,
            other => self.ranked.entry(other).or_default(),
        };
        waiting.insert(Entry::new(place.due, id));
    }

    /// Puts all of this priority in that wait, into a lane in which none of it does.
    pub(super) fn fill(&mut self, priority: Priority, entries: Vec<Entry>) {
        let entries = BTreeSet::from_iter(entries);
        match priority {
            Priority::NORMAL => self.waiting = entries,
            other => drop(self.ranked.insert(other, entries)),
        }
    }

    pub(super) fn remove(&mut self, place: Place, id: DeliveryId) {
        if place.priority == Priority::NORMAL {
            self.waiting.remove(&Entry::new(place.due, id));
        } else if let Some(waiting) = self.ranked.get_mut(&place.priority) {
            waiting.remove(&Entry::new(place.due, id));
            if waiting.is_empty() {
                self.ranked.remove(&place.priority);
            }
        }
    }
}

impl Entry {
    pub(super) const fn new(due: Time, id: DeliveryId) -> Self {
        Self {
            due: Halves::of(due.as_micros()),
            message: Halves::of(id.message.bits()),
            recipient: id.recipient,
        }
    }

    const fn due(self) -> Time {
        Time::from_micros(self.due.whole())
    }

    const fn delivery(self) -> DeliveryId {
        let message = QueueId::from_bits(self.message.whole());
        DeliveryId { message, recipient: self.recipient }
    }
}

impl Halves {
    #[expect(clippy::cast_possible_truncation, reason = "each half is what is wanted")]
    const fn of(whole: u64) -> Self {
        Self((whole >> 32) as u32, whole as u32)
    }

    const fn whole(self) -> u64 {
        (self.0 as u64) << 32 | self.1 as u64
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
