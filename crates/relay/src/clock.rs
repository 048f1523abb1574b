//! When it is: the one clock of the relay.
//!
//! Invariant: never goes back, neither within a run nor behind what the journal already holds.
//! Not pure: it reads the clocks of the machine.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use merpati_mail::Time;

/// Wall time at the start plus monotonic time since, at least the latest time of the journal.
#[derive(Debug)]
pub struct Clock {
    began: Instant,
    /// Microseconds.
    base: AtomicU64,
    /// Microseconds; the latest time that was given out.
    latest: AtomicU64,
}

impl Clock {
    /// A clock that starts now, and not before `journal_end`, the time of the last record.
    pub fn start(journal_end: Time) -> Self {
        let base = wall().max(journal_end);
        let base = base.as_micros();
        Self { began: Instant::now(), base: AtomicU64::new(base), latest: AtomicU64::new(base) }
    }

    /// Goes on from `journal_end` where that is later than now: a record was found that is newer
    /// than the last one.
    pub fn pass(&self, journal_end: Time) {
        let ahead = journal_end.since(self.now());
        let micros = u64::try_from(ahead.as_micros()).unwrap_or(0);
        self.base.fetch_add(micros, Ordering::Relaxed);
    }

    /// The time now.
    pub fn now(&self) -> Time {
        let base = Time::from_micros(self.base.load(Ordering::Relaxed));
        let now = base + self.began.elapsed();
        // The monotonic clock never goes back, but two threads may read it in either order.
        let before = self.latest.fetch_max(now.as_micros(), Ordering::Relaxed);
        Time::from_micros(before.max(now.as_micros()))
    }

    /// How long until `deadline`; zero where it has passed.
    pub fn until(&self, deadline: Time) -> Duration {
        deadline.since(self.now())
    }
}

/// The wall clock, for what other machines read: certificate checks, and the start of [`Clock`].
pub(crate) fn wall() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_behind_the_journal() {
        let future = Time::from_secs(4_000_000_000);
        let clock = Clock::start(future);
        let first = clock.now();
        assert!(first >= future);
        assert!(clock.now() >= first);
        clock.pass(Time::from_secs(3_000_000_000));
        assert!(clock.now().since(future) < Duration::from_hours(1), "it is later already");
        let later = Time::from_secs(5_000_000_000);
        clock.pass(later);
        let now = clock.now();
        assert!(now >= later && now.since(later) < Duration::from_hours(1));
    }
}
