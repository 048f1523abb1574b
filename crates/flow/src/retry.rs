//! When a deferred recipient is tried again (RFC 5321 §4.5.4.1).
//!
//! Pure: the caller brings age and jitter, so a recorded run replays exactly.

use std::time::Duration;

/// The waits between attempts, and the age at which we stop hoping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPlan {
    /// Wait after the first failed attempt; doubles with each further one.
    pub first: Duration,
    /// No single wait is longer than this.
    pub longest: Duration,
    /// Age of the message at which it fails. The RFC asks for at least 4 to 5 days.
    pub give_up: Duration,
}

impl Default for RetryPlan {
    /// 5 minutes, doubling up to 4 hours, for 5 days: about 40 attempts.
    ///
    /// The RFC asks for 30 minutes, but allows for shorter waits where the cause is known to pass;
    /// most first failures are greylisting, which wants 1 to 5 minutes (RFC 6647 §5).
    fn default() -> Self {
        Self {
            first: Duration::from_mins(5),
            longest: Duration::from_hours(4),
            give_up: Duration::from_hours(5 * 24),
        }
    }
}

impl RetryPlan {
    /// The wait before the next attempt, or `None` if that attempt would come too late.
    ///
    /// `failures` counts the attempts that have ended, from 1; `jitter` is in `0.0..1.0` and
    /// shortens the wait by at most a fifth.
    pub fn wait(&self, failures: u32, age: Duration, jitter: f64) -> Option<Duration> {
        let wait = self.pause(failures, jitter);
        (age.saturating_add(wait) < self.give_up).then_some(wait)
    }

    /// The same, however old the message is.
    pub fn pause(&self, failures: u32, jitter: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(31));
        // Jitter only shortens: a longer wait could carry the last attempt past `give_up`.
        doubled.min(self.longest).mul_f64(1.0 - jitter / 5.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_end_at_give_up() {
        let min = |n: u64| Duration::from_mins(n);
        let plan = RetryPlan { first: min(30), longest: min(240), give_up: min(7_200) };
        for (failures, age, want) in
            [(1, 0, Some(30)), (2, 30, Some(60)), (9, 900, Some(240)), (9, 7_000, None)]
        {
            let wait = plan.wait(failures, min(age), 0.0);
            assert_eq!(wait, want.map(min), "failures {failures}, age {age} min");
        }
    }

    #[test]
    fn jitter_shortens_by_at_most_a_fifth() {
        let plan = RetryPlan::default();
        let wait = |jitter| plan.wait(1, Duration::ZERO, jitter).unwrap();
        assert_eq!(wait(0.0), plan.first);
        assert_eq!(wait(0.5), plan.first.mul_f64(0.9));
        assert!(wait(0.999) > plan.first.mul_f64(0.8));
    }

    #[test]
    fn the_default_tries_for_about_five_days() {
        let plan = RetryPlan::default();
        let (mut age, mut failures) = (Duration::ZERO, 1);
        while let Some(wait) = plan.wait(failures, age, 0.0) {
            age += wait;
            failures += 1;
        }
        assert!(age > Duration::from_hours(4 * 24 + 20), "{age:?}");
        assert!((30..50).contains(&failures), "{failures}");
    }
}
