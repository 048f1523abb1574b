//! Who has to wait, and who is locked out, because authentication failed too often.
//!
//! Invariants: bounded, whatever anybody tries; a failure counts however the client connects; and
//! who has shown a password from an address before is not locked out there by what others do, but
//! for their own failures. Pure.
//!
//! A name that nobody has is counted like any other, so that a lock tells nothing.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use merpati_mail::{Time, question::Lock};

/// How much may fail, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a client waits for the answer to its first failure; to the second twice as long,
    /// to the third three times. Zero: nobody waits.
    pub wait_step: Duration,
    /// The longest wait.
    pub wait_max: Duration,
    /// The failures that lock out an address, where one IPv6 /64 is one address; `None`: none do.
    pub per_address_max: Option<u32>,
    /// The failures that lock out a user; `None`: none do.
    pub per_user_max: Option<u32>,
    /// After so long one failure is forgotten. Zero: nothing is ever held against anybody.
    pub forgotten_after: Duration,
    /// The most addresses and users that are remembered; at least 2.
    pub entries_max: usize,
}

impl Default for Rules {
    /// The defaults of the configuration.
    fn default() -> Self {
        Self {
            wait_step: Duration::from_millis(500),
            wait_max: Duration::from_secs(10),
            per_address_max: Some(30),
            per_user_max: Some(20),
            forgotten_after: Duration::from_mins(1),
            entries_max: 100_000,
        }
    }
}

/// Who tries.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// From where; `None` for addresses that are not held responsible, because many users share
    /// them with our consent.
    pub address: Option<IpAddr>,
    /// As whom; `None` where that is not known, or cannot be guessed.
    pub user: Option<&'a str>,
}

/// What failed lately.
#[derive(Clone, Debug)]
pub struct Lockout {
    rules: Rules,
    /// Two generations: where the young one is full, it becomes the old one, which is forgotten. So
    /// room is made at no cost that a client could drive up.
    young: BTreeMap<Key, Count>,
    old: BTreeMap<Key, Count>,
}

/// What failures are counted for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Address(IpAddr),
    /// A user at an address from which he has authenticated before.
    Known(IpAddr, String),
    User(String),
}

/// How much has failed, less what was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    failures: u32,
    /// When the oldest of them began to be forgotten.
    since: Time,
}

impl Lockout {
    /// Nothing has failed yet.
    pub const fn new(rules: Rules) -> Self {
        Self { rules, young: BTreeMap::new(), old: BTreeMap::new() }
    }

    /// What keeps this client from trying; `None` where it may.
    pub fn lock(&self, now: Time, attempt: &Attempt<'_>) -> Option<Lock> {
        self.keys(attempt).into_iter().find_map(|key| {
            let failures = self.failures(now, &key);
            let (max, lock) = match key {
                Key::Address(_) => (self.rules.per_address_max, Lock::Address),
                // He is known here, so it is he who should hear of it.
                Key::Known(..) | Key::User(_) => (self.rules.per_user_max, Lock::User),
            };
            max.is_some_and(|max| failures >= max).then_some(lock)
        })
    }

    /// Counts a failure; how long the client has to wait until it is told.
    pub fn failed(&mut self, now: Time, attempt: &Attempt<'_>) -> Duration {
        let mut most = 1;
        for key in self.keys(attempt) {
            let failures = self.failures(now, &key).saturating_add(1);
            let since = self.count(&key).map_or(now, |count| self.faded(now, count).since);
            self.put(key, Count { failures, since });
            most = most.max(failures);
        }
        self.rules.wait_step.saturating_mul(most).min(self.rules.wait_max)
    }

    /// Remembers that the user has authenticated from there. What others have done there stays: one
    /// who has a password of his own could otherwise guess those of others for ever.
    pub fn succeeded(&mut self, now: Time, attempt: &Attempt<'_>) {
        if let (Some(address), Some(user)) = (attempt.address, attempt.user) {
            self.put(known(address, user), Count { failures: 0, since: now });
        }
    }

    /// What the failures of this client count for.
    fn keys(&self, attempt: &Attempt<'_>) -> Vec<Key> {
        let known = match (attempt.address, attempt.user) {
            (Some(address), Some(user)) => Some(known(address, user)),
            (Some(_) | None, Some(_) | None) => None,
        };
        if let Some(known) = known.filter(|key| self.count(key).is_some()) {
            return vec![known];
        }
        let address = attempt.address.map(|address| Key::Address(counted_as(address)));
        let user = attempt.user.map(|user| Key::User(shortened(user)));
        address.into_iter().chain(user).collect()
    }

    fn count(&self, key: &Key) -> Option<Count> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    fn failures(&self, now: Time, key: &Key) -> u32 {
        self.count(key).map_or(0, |count| self.faded(now, count).failures)
    }

    /// What is left of a count by now.
    fn faded(&self, now: Time, count: Count) -> Count {
        let step = self.rules.forgotten_after.as_micros();
        let passed = now.since(count.since).as_micros();
        let forgotten = passed
            .checked_div(step)
            .map_or(u32::MAX, |forgotten| u32::try_from(forgotten).unwrap_or(u32::MAX));
        if forgotten >= count.failures {
            return Count { failures: 0, since: now };
        }
        let since = count.since + self.rules.forgotten_after.saturating_mul(forgotten);
        Count { failures: count.failures - forgotten, since }
    }

    fn put(&mut self, key: Key, count: Count) {
        if self.young.len() >= self.rules.entries_max / 2 && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, count);
    }
}

fn known(address: IpAddr, user: &str) -> Key {
    Key::Known(counted_as(address), shortened(user))
}

/// One client has as many addresses in an IPv6 /64 as it likes.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

/// A name as far as it is remembered. Longer names count together; nobody has such a name.
fn shortened(user: &str) -> String {
    user.chars().take(USER_CHARS_MAX).collect()
}

/// The longest name that is remembered whole.
const USER_CHARS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        wait_step: Duration::from_secs(1),
        wait_max: Duration::from_secs(5),
        per_address_max: Some(4),
        per_user_max: Some(3),
        forgotten_after: Duration::from_mins(1),
        entries_max: 64,
    };

    fn at(seconds: u64) -> Time {
        Time::from_secs(1_000_000 + seconds)
    }

    fn attempt<'a>(address: &str, user: &'a str) -> Attempt<'a> {
        Attempt { address: Some(address.parse().unwrap()), user: Some(user) }
    }

    #[test]
    fn each_failure_waits_longer_than_the_one_before_it_up_to_a_limit() {
        let rules = Rules { per_address_max: None, per_user_max: None, ..RULES };
        let mut lockout = Lockout::new(rules);
        let waits: Vec<u64> =
            (0..7).map(|n| lockout.failed(at(n), &attempt("192.0.2.1", "ani")).as_secs()).collect();
        assert_eq!(waits, [1, 2, 3, 4, 5, 5, 5]);
        assert_eq!(lockout.lock(at(7), &attempt("192.0.2.1", "ani")), None);
    }

    #[test]
    fn an_address_is_locked_out_whomever_it_tries_and_opens_again_slowly() {
        let mut lockout = Lockout::new(RULES);
        for (n, user) in ["a", "b", "c", "d"].into_iter().enumerate() {
            assert_eq!(lockout.lock(at(0), &attempt("2001:db8::1", user)), None, "{n}");
            lockout.failed(at(0), &attempt("2001:db8::1", user));
        }
        let same = attempt("2001:db8::ffff", "e");
        assert_eq!(lockout.lock(at(59), &same), Some(Lock::Address));
        assert_eq!(lockout.lock(at(59), &attempt("2001:db8:0:1::1", "e")), None);
        assert_eq!(lockout.lock(at(60), &same), None);
        lockout.failed(at(70), &same);
        assert_eq!(lockout.lock(at(119), &same), Some(Lock::Address));
        assert_eq!(lockout.lock(at(120), &same), None, "one more is forgotten a minute later");
        assert_eq!(lockout.lock(at(10_000), &same), None);
    }

    #[test]
    fn a_user_is_locked_out_for_strangers_but_not_where_he_is_known() {
        let mut lockout = Lockout::new(RULES);
        lockout.succeeded(at(0), &attempt("192.0.2.9", "ani"));
        for n in 1..=3 {
            lockout.failed(at(0), &attempt(&format!("192.0.2.{n}"), "ani"));
        }
        assert_eq!(lockout.lock(at(1), &attempt("192.0.2.4", "ani")), Some(Lock::User));
        assert_eq!(lockout.lock(at(1), &attempt("192.0.2.4", "budi")), None);
        assert_eq!(lockout.lock(at(1), &attempt("192.0.2.9", "ani")), None);
        // Nor does his neighbour lock him out, but he himself can.
        for user in ["b", "c", "d", "e"] {
            lockout.failed(at(1), &attempt("192.0.2.9", user));
        }
        assert_eq!(lockout.lock(at(1), &attempt("192.0.2.9", "f")), Some(Lock::Address));
        assert_eq!(lockout.lock(at(1), &attempt("192.0.2.9", "ani")), None);
        for _ in 0..3 {
            lockout.failed(at(1), &attempt("192.0.2.9", "ani"));
        }
        assert_eq!(lockout.lock(at(1), &attempt("192.0.2.9", "ani")), Some(Lock::User));
    }

    #[test]
    fn who_is_not_held_responsible_is_never_locked_out() {
        let mut lockout = Lockout::new(RULES);
        let nobody = Attempt { address: None, user: None };
        let shared = Attempt { address: None, user: Some("ani") };
        for _ in 0..9 {
            lockout.failed(at(0), &nobody);
            lockout.failed(at(0), &shared);
        }
        assert_eq!(lockout.lock(at(0), &nobody), None);
        assert_eq!(lockout.lock(at(0), &shared), Some(Lock::User));
    }

    #[test]
    fn memory_is_bounded_and_the_latest_are_remembered() {
        let rules = Rules { entries_max: 8, ..RULES };
        let mut lockout = Lockout::new(rules);
        let one = attempt("192.0.2.1", "x");
        for n in 0..1_000 {
            let user = format!("user{n}{}", "x".repeat(5_000));
            lockout.failed(at(0), &Attempt { address: None, user: Some(&user) });
            assert!(lockout.young.len() + lockout.old.len() <= rules.entries_max);
            if n % 3 == 0 {
                lockout.failed(at(0), &one);
            }
        }
        assert_eq!(lockout.lock(at(0), &one), Some(Lock::Address));
        let longest = lockout.young.keys().chain(lockout.old.keys()).map(|key| match key {
            Key::Address(_) => 0,
            Key::Known(_, user) | Key::User(user) => user.len(),
        });
        assert_eq!(longest.max(), Some(USER_CHARS_MAX));
    }

    #[test]
    fn with_nothing_to_remember_nothing_is_held_against_anybody() {
        let mut lockout = Lockout::new(Rules { forgotten_after: Duration::ZERO, ..RULES });
        for _ in 0..9 {
            assert_eq!(lockout.failed(at(0), &attempt("192.0.2.1", "a")), RULES.wait_step);
        }
        assert_eq!(lockout.lock(at(0), &attempt("192.0.2.1", "a")), None);
    }
}
