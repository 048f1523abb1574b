//! What the deadline of a message means for its attempts (DELIVERBY, RFC 2852).
//!
//! Invariant: where there is a deadline something happens at it, by itself: a delivery that waits
//! for its next attempt is due no later than then. One that is held, or whose next hop has as many
//! attempts going on as it may, learns of it when it is let go. Pure.

use std::time::Duration;

use merpati_mail::{ByMode, QueueId, Time};

use super::Core;

impl Core {
    /// Whether the message is to be returned because the time for its delivery is over (mode `R`).
    pub(super) fn is_overdue(&self, now: Time, message: QueueId) -> bool {
        let by = self.queue.deliver_by(message);
        by.is_some_and(|by| by.mode == ByMode::Return && by.deadline <= now)
    }

    /// Whether the originator is to be told that the time for its delivery is over, and that
    /// attempts go on (mode `N`). Where it was over when the message came, the hop before has told.
    pub(super) fn is_notice_due(&self, now: Time, message: QueueId) -> bool {
        let released = self.queue.released_at(message).unwrap_or(now);
        let by = self.queue.deliver_by(message);
        by.is_some_and(|by| {
            by.mode == ByMode::Notify && by.deadline <= now && by.deadline > released
        })
    }

    /// When a delivery that waits so long is due: no later than its deadline, at which it is
    /// returned, or tried once more before the originator is told.
    pub(super) fn due_after(&self, now: Time, message: QueueId, wait: Duration) -> Time {
        let due = now + wait;
        let deadline = self.queue.deliver_by(message).map(|by| by.deadline);
        deadline.filter(|deadline| *deadline > now).map_or(due, |deadline| due.min(deadline))
    }

    /// When no attempt is made any more: where the message grows too old, or, where it is to be
    /// returned then, at its deadline.
    pub(super) fn given_up_at(&self, now: Time, message: QueueId) -> Time {
        let age = self.age(now, message);
        let expiry = now + self.options.retry.give_up.saturating_sub(age);
        let by = self.queue.deliver_by(message).filter(|by| by.mode == ByMode::Return);
        by.map_or(expiry, |by| expiry.min(by.deadline))
    }

    /// How old the message is. What was held back for its author has no age before its release.
    pub(super) fn age(&self, now: Time, message: QueueId) -> Duration {
        self.queue.released_at(message).map_or(Duration::ZERO, |released| now.since(released))
    }
}
